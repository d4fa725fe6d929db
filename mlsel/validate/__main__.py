"""`python -m mlsel.validate`."""

import sys

from mlsel.cli import run_main
from mlsel.validate.command import main

if __name__ == "__main__":
    sys.exit(run_main(main))
