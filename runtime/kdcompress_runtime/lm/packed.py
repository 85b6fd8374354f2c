"""Packed language models (``.kdlm``): the tables of ``NgramModel`` as they are, so that opening costs no parsing.

Little-endian. A header of 80 bytes (``_HEADER``), then, each padded to 8 bytes: the words, UTF-8, a line feed between
two; float32 (V, 2) unigrams; one bit a slot of the hash table, lowest first, 1 where the slot is taken; uint64 keys
and float32 (n, 2) values of the taken slots, in order. CRC-32 finds damage; sizes are checked before they are used.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.errors import LanguageModelError, LanguageModelFormatError, LanguageModelNotFoundError
from kdcompress_runtime.lm.base import UNITS
from kdcompress_runtime.lm.hashing import table_size
from kdcompress_runtime.lm.ngram import NgramModel

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"KDLM\r\n\x1a\n"
"""Begins every packed model; shows copies that changed line ends."""
VERSION = 1
_HEADER = struct.Struct("<8s6I4QII8x")
"""Magic; version, order, unit, id of <s>, id of </s>, words; bytes of words, slots, n-grams, bytes of the file;
CRC-32 of what follows the header, CRC-32 of the header up to here."""
_HEADER_CRC = 68


def dumps(model: NgramModel) -> bytes:
    """Return the packed file of a model.

    Raises:
        LanguageModelError: a word holds a line feed.
    """
    if any("\n" in word for word in model.words):
        raise LanguageModelError("a word of the model holds a line feed; such a model cannot be packed")
    text = "\n".join(model.words).encode("utf-8")
    taken = model.table_keys != 0
    parts = [
        text,
        model.table_unigrams.astype("<f4").tobytes(),
        np.packbits(taken, bitorder="little").tobytes(),
        model.table_keys[taken].astype("<u8").tobytes(),
        model.table_values[taken].astype("<f4").tobytes(),
    ]
    body = b"".join(part + bytes(_padding(len(part))) for part in parts)
    numbers = (VERSION, model.order, UNITS.index(model.unit), model.bos, model.eos, len(model.words))
    sizes = (len(text), len(taken), int(np.count_nonzero(taken)), _HEADER.size + len(body))
    header = _HEADER.pack(MAGIC, *numbers, *sizes, zlib.crc32(body), 0)
    return _HEADER.pack(MAGIC, *numbers, *sizes, zlib.crc32(body), zlib.crc32(header[:_HEADER_CRC])) + body


def read_packed(path: Path) -> NgramModel:
    """Open a packed model.

    Raises:
        LanguageModelNotFoundError: there is no such file.
        LanguageModelFormatError: see ``loads``.
        LanguageModelError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise LanguageModelNotFoundError(f"language model not found: {path}") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return loads(content, str(path))


def loads(content: bytes, source: str = "language model") -> NgramModel:
    """Open the content of a packed model; ``source`` is its name in messages.

    Raises:
        LanguageModelFormatError: not a packed model, of another version, damaged or cut off.
    """
    if not content.startswith(MAGIC):
        raise LanguageModelFormatError(f"{source}: not a packed language model; `kdcompress lm` makes one")
    try:
        return _loads(content)
    except (ValueError, struct.error) as error:  # a LanguageModelError is a ValueError, too
        raise LanguageModelFormatError(f"{source}: {error}; copy the file again, or make it again") from error


def _loads(content: bytes) -> NgramModel:
    if len(content) < _HEADER.size:
        raise ValueError("the file is cut off")
    fields = _HEADER.unpack_from(content)
    version, order, unit, bos, eos, words = fields[1:7]
    text_bytes, slots, ngrams, size, body_crc, header_crc = fields[7:]
    if version != VERSION:
        raise ValueError(f"packed model of version {version}, this runtime reads {VERSION}")
    if zlib.crc32(content[:_HEADER_CRC]) != header_crc:
        raise ValueError("the header is damaged")
    # in Python's integers: nothing overflows, and nothing is larger than the file before it is taken
    lengths = [text_bytes, 8 * words, (slots + 7) // 8, 8 * ngrams, 8 * ngrams]
    starts = [_HEADER.size]
    for length in lengths:
        starts.append(starts[-1] + length + _padding(length))
    if not len(content) == size == starts[-1]:
        raise ValueError(f"the file has {len(content)} bytes, its header says {size}: it is cut off or damaged")
    if slots != table_size(ngrams) or unit >= len(UNITS):
        raise ValueError("the header is damaged")
    if zlib.crc32(memoryview(content)[_HEADER.size :]) != body_crc:
        raise ValueError("its CRC-32 is not the one it records: it is damaged")
    spelled = content[starts[0] : starts[0] + text_bytes].decode("utf-8").split("\n")
    if len(spelled) != words:
        raise ValueError(f"it has {len(spelled)} words, its header says {words}")
    bits = np.frombuffer(content, np.uint8, lengths[2], starts[2])
    taken = np.flatnonzero(np.unpackbits(bits, count=slots, bitorder="little"))
    if len(taken) != ngrams:
        raise ValueError("its table is damaged")
    keys = np.zeros(slots, np.uint64)
    keys[taken] = np.frombuffer(content, "<u8", ngrams, starts[3])
    values = np.zeros((slots, 2), np.float32)
    pairs = np.ascontiguousarray(_pairs(content, ngrams, starts[4]), np.float32)
    values.view(np.uint64)[taken, 0] = pairs.view(np.uint64)[:, 0]  # twice as fast as row by row
    unigrams = _pairs(content, words, starts[1]).astype(np.float32)  # a copy: the file itself need not be kept
    return NgramModel(order, UNITS[unit], tuple(spelled), bos, eos, unigrams, keys, values)


def _pairs(content: bytes, count: int, start: int) -> NDArray[np.float32]:
    return np.frombuffer(content, "<f4", 2 * count, start).reshape(count, 2)


def _padding(length: int) -> int:
    return -length % 8
