"""``python -m kdcompress_evaluation.speed REQUEST.json``: see ``worker``."""

from __future__ import annotations

import sys

from kdcompress_evaluation.speed.worker import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
