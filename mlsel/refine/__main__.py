"""`python -m mlsel.refine`."""

import sys

from mlsel.cli import run_main
from mlsel.refine.stage import main

if __name__ == "__main__":
    sys.exit(run_main(main))
