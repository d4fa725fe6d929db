"""`python -m mlsel.evaluate`."""

import sys

from mlsel.cli import run_main
from mlsel.evaluate.command import main

if __name__ == "__main__":
    sys.exit(run_main(main))
