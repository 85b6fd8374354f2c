"""The compiled core as ctypes sees it: the structures and functions of the C files, and where its library is.

The library is built when the package is installed (``hatch_build.py``), where there is a C compiler. It stands
beside this file and is opened when a decoder first asks for it.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from ctypes import POINTER, c_double, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path

import numpy as np

from kdcompress_runtime.errors import MissingDependencyError

# A dot in the name keeps those away who list the modules of a folder: this is none.
FILE = Path(__file__).with_name(
    {"win32": "beam.core.dll", "darwin": "beam.core.dylib"}.get(sys.platform, "beam.core.so")
)
_VERSION = 1

NO_LM, WORD_LM, TOKEN_LM = range(3)
GROW, BAD_STATE, BAD_SCORES, LM_FAILED = 1, -1, -2, -3
RANKS_A_BEAM = 6
MAX_ORDER = 32

ScoreFunction = ctypes.CFUNCTYPE(c_double, POINTER(c_int32), c_int32, c_int32)
"""``KdScore``: context, its length, word."""

NODE = np.dtype(
    [("before", "=i4"), ("token", "=i4"), ("begin", "=i8"), ("end", "=i8"), ("peak", "=f8"), ("key", "=u8")]
)
"""``Node``: one token of an alignment."""
FOUND = np.dtype(
    [
        ("score", "=f8"),
        ("log_prob", "=f8"),
        ("lm", "=f8"),
        ("hot", "=f8"),
        ("tokens", "=i8"),
        ("beam", "=i4"),
        ("whole", "=i4"),
    ]
)
"""``Found``: one hypothesis without its tokens."""


class Tables(ctypes.Structure):
    """``KdTables``: everything a decoder knows."""

    _fields_ = [
        ("classes", c_int32),
        ("blank", c_int32),
        ("width", c_int32),
        ("unit", c_int32),
        ("order", c_int32),
        ("words", c_int32),
        ("bos", c_int32),
        ("eos", c_int32),
        ("boundary", c_int32),
        ("looks_ahead", c_int32),
        ("closed", c_int32),
        ("trie_nodes", c_int32),
        ("letters", c_int32),
        ("hot_states", c_int32),
        ("hot_start", c_int32),
        ("history", c_int32),
        ("forget_every", c_int32),
        ("reserved", c_int32),
        ("prune", c_double),
        ("floor", c_double),
        ("penalty", c_double),
        ("quiet", c_double),
        ("alpha", c_double),
        ("beta", c_double),
        ("unknown_score", c_double),
        ("unknown_ahead", c_double),
        ("headroom", c_double),
        ("spelling_start", c_void_p),
        ("spelling", c_void_p),
        ("token_words", c_void_p),
        ("edge_start", c_void_p),
        ("edge_letter", c_void_p),
        ("edge_node", c_void_p),
        ("trie_word", c_void_p),
        ("trie_best", c_void_p),
        ("hot_next", c_void_p),
        ("hot_gain", c_void_p),
        ("hot_end", c_void_p),
        ("unigrams", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("key_mask", c_uint64),
        ("score", ScoreFunction),
    ]


class Report(ctypes.Structure):
    """``Report``: what ``kd_advance`` did."""

    _fields_ = [
        ("frames", c_int64),
        ("size", c_int64),
        ("settled", c_int64),
        ("settled_at", c_int64),
        ("beams_wanted", c_int64),
        ("nodes_wanted", c_int64),
        ("ranks_wanted", c_int64),
    ]


@functools.lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """Open the compiled core.

    Raises:
        MissingDependencyError: it was not built, or from other sources than these.
    """
    remedy = "install kdcompress again where there is a C compiler, or leave native=None to do without"
    try:
        library = ctypes.CDLL(str(FILE))
        library.kd_version.restype = c_int32
        found = library.kd_version()
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(f"the compiled beam search cannot be opened ({error}); {remedy}") from error
    if found != _VERSION:
        raise MissingDependencyError(f"{FILE.name} is version {found} where {_VERSION} is needed; {remedy}")
    tables, address = POINTER(Tables), c_void_p
    block = [tables, ctypes.c_char_p, c_int64, address, c_int64, c_int64]
    scores = [address, c_int32, c_int64, c_int64]
    found_and_tokens = [address, address, c_int64, POINTER(c_int64)]
    for name, result, arguments in (
        ("kd_work_size", c_int64, [tables, c_int64, c_int64, c_int64]),
        ("kd_start", c_int64, [tables, address]),
        ("kd_advance", c_int32, [*block, c_int64, *scores, POINTER(Report)]),
        ("kd_nbest", c_int64, [*block, c_int64, c_int32, c_int64, *found_and_tokens]),
        ("kd_stable", c_int64, block),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def is_there() -> bool:
    """Whether the compiled core can be opened."""
    try:
        load()
    except MissingDependencyError:
        return False
    return True
