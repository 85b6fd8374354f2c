"""Packed models: the same model back, and no harm from any file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcompress_runtime.errors import LanguageModelError, LanguageModelFormatError, LanguageModelNotFoundError
from kdcompress_runtime.lm import NgramModel, open_lm
from kdcompress_runtime.lm.packed import dumps, loads, read_packed

GOLDEN = Path(__file__).parents[1] / "golden" / "lm"
MODEL = open_lm(GOLDEN / "words-4-pruned.arpa.gz", unit="token")
CONTENT = dumps(MODEL)
FIELDS = {"version": 8, "order": 12, "unit": 16, "bos": 20, "eos": 24, "words": 28}
SIZES = {"text": 32, "slots": 40, "ngrams": 48, "size": 56}


def changed(**values: int) -> bytes:
    """The file with other numbers in its header, and a checksum that fits."""
    content = bytearray(CONTENT)
    for name, value in values.items():
        if name in FIELDS:
            struct.pack_into("<I", content, FIELDS[name], value)
        else:
            struct.pack_into("<Q", content, SIZES[name], value)
    struct.pack_into("<I", content, 68, zlib.crc32(content[:68]))
    return bytes(content)


def test_the_same_model_comes_back(tmp_path):
    (tmp_path / "m.kdlm").write_bytes(CONTENT)
    again = read_packed(tmp_path / "m.kdlm")
    assert (again.order, again.unit, again.words) == (MODEL.order, "token", MODEL.words)
    assert (again.bos, again.eos) == (MODEL.bos, MODEL.eos)
    for name in ("table_unigrams", "table_keys", "table_values"):
        assert np.array_equal(getattr(again, name), getattr(MODEL, name))
        assert getattr(again, name).flags.aligned
    assert dumps(again) == CONTENT


def test_changed_with_the_same_numbers_is_the_same_file():
    assert changed() == CONTENT


@given(st.integers(0, len(CONTENT) - 1))
def test_cut_off_anywhere(length):
    with pytest.raises(LanguageModelFormatError, match=r"lm\.kdlm: "):
        loads(CONTENT[:length], "lm.kdlm")


@given(st.integers(0, len(CONTENT) * 8 - 1))
def test_one_wrong_bit_anywhere(bit):
    content = bytearray(CONTENT)
    content[bit // 8] ^= 1 << bit % 8
    if 72 <= bit // 8 < 80:  # room that nothing uses
        assert loads(bytes(content)).words == MODEL.words
    else:
        with pytest.raises(LanguageModelFormatError):
            loads(bytes(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT + b"\0", "cut off or damaged"),
        (changed(version=2), "packed model of version 2, this runtime reads 1"),
        (changed(words=2**32 - 1), "cut off or damaged"),
        (changed(text=2**63), "cut off or damaged"),
        (changed(slots=2**62), "cut off or damaged"),
        (changed(ngrams=2**60), "cut off or damaged"),
        (changed(slots=MODEL.table_keys.size - 8), "header is damaged"),
        (changed(size=10), "cut off or damaged"),
        (changed(unit=2), "header is damaged"),
        (changed(order=0), "its order is 0"),
        (changed(order=33), "its order is 33"),
        (changed(bos=10**6), "not where they should be"),
        (changed(eos=0), "not where they should be"),
        (CONTENT[:68] + b"\0\0\0\0" + CONTENT[72:], "header is damaged"),
        (CONTENT.replace(b"\r\n", b"\n", 1), "not a packed language model"),
        (b"", "not a packed language model"),
    ],
)
def test_sizes_are_not_trusted(content, message):
    with pytest.raises(LanguageModelFormatError, match=message):
        loads(content)


def test_words_that_cannot_be_packed():
    words = (*MODEL.words[:-1], "two\nlines")
    tables = (MODEL.table_unigrams, MODEL.table_keys, MODEL.table_values)
    with pytest.raises(LanguageModelError, match="line feed"):
        dumps(NgramModel(MODEL.order, "word", words, MODEL.bos, MODEL.eos, *tables))


def test_missing_file(tmp_path):
    with pytest.raises(LanguageModelNotFoundError, match=r"absent\.kdlm"):
        read_packed(tmp_path / "absent.kdlm")
    with pytest.raises(LanguageModelError, match="cannot be read"):
        read_packed(tmp_path)
