"""`python -m mrcnn` runs the `mrcnn` command."""

import sys

from mrcnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
