"""``python -m kdcompress``; also what ``torchrun -m kdcompress`` starts."""

import sys

from kdcompress.cli import main

if __name__ == "__main__":
    sys.exit(main())
