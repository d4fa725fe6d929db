"""`python -m mlsel.selection`."""

import sys

from mlsel.cli import run_main
from mlsel.selection.command import main

if __name__ == "__main__":
    sys.exit(run_main(main))
