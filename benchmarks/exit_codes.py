"""How every benchmark ends: 0 done, 1 an error in one sentence, 130 interrupted."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, ParamSpec

from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


def with_exit_code(run: Callable[P, None]) -> Callable[P, int]:
    """Make ``run`` return its exit code, and say on stderr what went wrong."""

    @functools.wraps(run)
    def main(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            run(*args, **kwargs)
        except KdcompressError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; repeat the command, it goes on where it stopped", file=sys.stderr)
            return 130
        return 0

    return main
