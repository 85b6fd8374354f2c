"""Sessions with threads, and forks.

The threads of an onnxruntime session do not exist in a forked child. A step there would wait for them for ever, and so
would the session's end, when the child drops it. ``CtcModel`` refuses the step; this module takes care of the end, by
never letting it come. The memory is the parent's, shared until somebody writes to it.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

_WITH_THREADS: weakref.WeakSet[Any] = weakref.WeakSet()
"""All that live in this process; the one thing that has to be known of other recognisers."""


def keep_after_fork(session: Any) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Let ``session`` never end in children that are forked from now on."""
    _WITH_THREADS.add(session)


def _in_child() -> None:
    if not _WITH_THREADS:
        return
    import ctypes  # numpy has imported it

    for session in _WITH_THREADS:
        # One reference that nobody holds, so nobody gives it back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _WITH_THREADS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
