"""ARPA files, as SRILM, KenLM, IRSTLM and kdcompress write them; plain or gzipped, read block by block.

log10 becomes the natural logarithm. Where a file has no ``<unk>``, an unknown word has log10 P = -100, as in KenLM.
"""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

import numpy as np

from kdcompress_runtime.errors import LanguageModelError, LanguageModelFormatError, LanguageModelNotFoundError
from kdcompress_runtime.lm.base import UNITS, UNK, UNKNOWN_LOG10, check_unit
from kdcompress_runtime.lm.hashing import keys_of
from kdcompress_runtime.lm.ngram import MAX_ORDER, NgramModel, RepeatedNgramError, build

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

LN10 = float(np.log(10.0))
UNIT_COMMENT = "# kdcompress: unit "
"""How kdcompress notes what a model predicts, above ``\\data\\``; others skip such a line."""
GZIP = b"\x1f\x8b"
_BLOCK = 1 << 23
_LONGEST_LINE = 1 << 20
_MOST_PREFACE = 1000
_COUNT = re.compile(rb"ngram\s+(\d{1,3})\s*=\s*(\d{1,18})\s*$")
_SECTION = re.compile(rb"\\(\d{1,3})-grams:\s*$")
_BARE_START = re.compile(rb"(?m)^[ \t]*<s>(?=[ \t\r\n]|$)")
_FOREIGN = {
    b"iARPA": "an IRSTLM iARPA file; `compile-lm --text=yes` makes an ARPA file of it",
    b"blmt": "a binary of IRSTLM; `compile-lm --text=yes` makes an ARPA file of it",
    b"mmap lm http://kheafield.com/code": "a binary of KenLM, not an ARPA file; name the file itself, not zipped",
}


def read_arpa(path: Path, *, unit: str | None = None) -> NgramModel:
    """Read an ARPA file, gzipped or not.

    Args:
        path: the file.
        unit: what the model predicts, ``word`` or ``token``; else what the file notes, else words.

    Raises:
        LanguageModelNotFoundError: there is no such file.
        LanguageModelFormatError: it is not an ARPA file, or damaged, or cut off; the message names the line.
        LanguageModelError: the file cannot be read.
        OptionsError: no such unit.
    """
    if unit is not None:
        check_unit(unit)
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            lines = _Lines(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if zipped else raw, str(path))
            return _Arpa(lines, unit).read()
    except FileNotFoundError as error:
        raise LanguageModelNotFoundError(f"language model not found: {path}") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise LanguageModelFormatError(f"{path}: the gzip file is damaged or cut off; copy it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error


class _Lines:
    """A file as lines, and as blocks of lines; counts them."""

    def __init__(self, file: IO[bytes], source: str) -> None:
        self.source = source
        self.number = 0
        """Lines read so far."""
        self._file = file
        self._buffer = b""
        self._at = 0

    def line(self) -> bytes | None:
        """Return the next line without its end, None after the last."""
        if not self._fill():
            return None
        end = self._buffer.find(b"\n", self._at)
        end = len(self._buffer) if end < 0 else end
        line = self._buffer[self._at : end]
        self._at = end + 1
        self.number += 1
        return line.rstrip(b"\r")

    def block(self) -> bytes:
        """Return lines up to the next one that begins with a backslash, some megabytes at most; ``b""`` before it."""
        if not self._fill() or self._buffer.startswith(b"\\", self._at):
            return b""
        end = self._buffer.find(b"\n\\", self._at)
        end = len(self._buffer) if end < 0 else end + 1
        block = self._buffer[self._at : end]
        self._at = end
        self.number += block.count(b"\n") + (not block.endswith(b"\n"))
        return block

    def first(self, block: bytes) -> int:
        """Line number at which the block just read begins."""
        return self.number - block.count(b"\n") + block.endswith(b"\n")

    def error(self, problem: str, number: int | None = None) -> LanguageModelFormatError:
        """Make the error for a line; the last one read, where none is named."""
        line = self.number if number is None else number
        return LanguageModelFormatError(f"{self.source}, line {line}: {problem}")

    def _fill(self) -> bool:
        """Have a line in the buffer, if there is one; the buffer always holds whole lines."""
        if self._at < len(self._buffer):
            return True
        self._buffer, self._at = self._file.read(_BLOCK), 0
        if len(self._buffer) == _BLOCK and not self._buffer.endswith(b"\n"):
            rest = self._file.readline(_LONGEST_LINE)
            if len(rest) == _LONGEST_LINE:
                raise self.error("a line of more than a megabyte follows; this is not an ARPA file")
            self._buffer += rest
        return bool(self._buffer)


@dataclass
class _Section:
    """N-grams of one length."""

    ids: list[NDArray[np.int32]] = field(default_factory=list)
    keys: list[NDArray[np.uint64]] = field(default_factory=list)
    values: list[NDArray[np.float32]] = field(default_factory=list)
    lines: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(part) for part in self.values)


class _Arpa:
    """Reads one file."""

    def __init__(self, lines: _Lines, unit: str | None) -> None:
        self._lines = lines
        self._unit = unit
        self._ids: dict[bytes, int] = {b"<unk>": 0, b"<UNK>": 0}
        self._words = [UNK]
        self._has_unknown = False

    def read(self) -> NgramModel:
        """Read everything."""
        counts = self._header()
        sections = [self._section(order, counts) for order in range(1, len(counts) + 1)]
        self._end()
        unigrams = np.zeros((len(self._words), 2), np.float32)
        unigrams[0, 0] = UNKNOWN_LOG10 * LN10
        for ids, values in zip(sections[0].ids, sections[0].values, strict=True):
            unigrams[ids[:, 0]] = values
        parts = [part for section in sections[1:] for part in zip(section.keys, section.values, strict=True)]
        try:
            return build(len(counts), self._unit or "word", self._words, unigrams, parts)
        except RepeatedNgramError as error:
            lines = np.concatenate([part for section in sections[1:] for part in section.lines])
            raise self._lines.error("this n-gram stands in the file a second time", int(lines[error.index])) from error
        except LanguageModelError as error:
            raise LanguageModelFormatError(f"{self._lines.source}: {error}") from error

    def _header(self) -> list[int]:
        """Read up to the first section; return the counts it promises."""
        for _ in range(_MOST_PREFACE):
            line = self._lines.line()
            if line is None:
                break
            if line.strip().removeprefix(b"\xef\xbb\xbf") == b"\\data\\":
                return self._counts()
            self._note(line)
        raise self._lines.error(
            "no \\data\\ so far; this is not an ARPA file (nor a packed model, nor a binary of KenLM)"
        )

    def _note(self, line: bytes) -> None:
        for mark, name in _FOREIGN.items():
            if line.startswith(mark):
                raise self._lines.error(f"this is {name}")
        if line.startswith(UNIT_COMMENT.encode()) and self._unit is None:
            unit = line.decode("ascii", "replace").removeprefix(UNIT_COMMENT).strip()
            if unit not in UNITS:
                raise self._lines.error(f"the unit {unit!r} is not one of {', '.join(UNITS)}")
            self._unit = unit

    def _counts(self) -> list[int]:
        counts: list[int] = []
        while block := self._lines.block():
            for number, line in enumerate(block.splitlines(), start=self._lines.first(block)):
                match = _COUNT.match(line.strip())
                if line.strip() and (not match or int(match[1]) != len(counts) + 1):
                    raise self._lines.error(f"expected 'ngram {len(counts) + 1}=count', found {_shown(line)}", number)
                if match:
                    counts.append(int(match[2]))
        if not 1 <= len(counts) <= MAX_ORDER:
            raise self._lines.error(f"the header promises {len(counts)} lengths of n-grams; expected 1 to {MAX_ORDER}")
        return counts

    def _section(self, order: int, counts: list[int]) -> _Section:
        """Read the n-grams of one length."""
        line = self._lines.line()
        match = _SECTION.match(line) if line is not None else None
        if not match or int(match[1]) != order:
            found = "the end of the file" if line is None else _shown(line)
            raise self._lines.error(f"expected \\{order}-grams:, found {found}; the file is damaged or cut off")
        section = _Section()
        while block := self._lines.block():
            self._parse(block, order, last=order == len(counts), into=section)
        if section.count != counts[order - 1]:
            raise self._lines.error(
                f"the {order}-grams end here after {section.count}, but the header says {counts[order - 1]}; "
                "the file is damaged or cut off"
            )
        return section

    def _end(self) -> None:
        line = self._lines.line()
        if line is None or line.strip() != b"\\end\\":
            found = "the end of the file" if line is None else _shown(line)
            raise self._lines.error(f"expected \\end\\, found {found}; the file is damaged or cut off")

    def _parse(self, block: bytes, order: int, *, last: bool, into: _Section) -> None:
        """Parse lines of n-grams, all at once."""
        if order == 1:
            block = _BARE_START.sub(b"-99 <s>", block)  # some write the start of sentences without a number
        fields = _fields(block)
        lines = np.flatnonzero(fields) + self._lines.first(block)
        fields = fields[fields > 0]
        wrong = np.flatnonzero((fields != order + 1) & (fields != order + 2))
        if wrong.size:
            raise self._lines.error(
                f"expected a number, {order} words and perhaps another number; fields found: {fields[wrong[0]]}",
                int(lines[wrong[0]]),
            )
        tokens = np.array(block.split(), dtype=object)
        first = np.cumsum(fields) - fields
        values = np.zeros((len(lines), 2))
        values[:, 0] = self._numbers(tokens[first], lines)
        if (values[:, 0] > 0).any():
            raise self._lines.error("a log-probability above 0", int(lines[np.flatnonzero(values[:, 0] > 0)[0]]))
        if not last:
            more = np.flatnonzero(fields == order + 2)
            values[more, 1] = self._numbers(tokens[first[more] + order + 1], lines[more])
        columns = [tokens[first + 1 + place] for place in range(order)]
        ids = self._new(columns[0], lines)[:, None] if order == 1 else self._known(columns, lines)
        into.values.append((values * LN10).astype(np.float32))
        into.lines.append(lines)
        if order == 1:
            into.ids.append(ids)
        else:
            into.keys.append(keys_of(ids))

    def _numbers(self, tokens: Iterable[bytes], lines: NDArray[np.int64]) -> NDArray[np.float64]:
        try:
            numbers = np.fromiter(map(float, tokens), np.float64, len(lines))
        except ValueError:
            for token, line in zip(tokens, lines, strict=True):
                if not _is_number(token):
                    raise self._lines.error(f"expected a number, found {_shown(token)}", int(line)) from None
            raise
        wrong = np.flatnonzero(~(np.abs(numbers) < np.finfo(np.float32).max / LN10))
        if wrong.size:
            raise self._lines.error(f"{numbers[wrong[0]]} is no log-probability", int(lines[wrong[0]]))
        return numbers

    def _new(self, tokens: Iterable[bytes], lines: NDArray[np.int64]) -> NDArray[np.int32]:
        """Take up unigrams; return their ids."""
        ids = np.empty(len(lines), np.int32)
        for index, (token, line) in enumerate(zip(tokens, lines, strict=True)):
            if self._ids.get(token) == 0 and not self._has_unknown:
                self._has_unknown = True
                ids[index] = 0
                continue
            if token in self._ids:
                raise self._lines.error(f"{_shown(token)} stands among the 1-grams a second time", int(line))
            try:
                self._words.append(token.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise self._lines.error(f"{_shown(token)} is not UTF-8; convert the file", int(line)) from error
            ids[index] = self._ids[token] = len(self._ids) - 1
        return ids

    def _known(self, columns: list[NDArray[np.object_]], lines: NDArray[np.int64]) -> NDArray[np.int32]:
        """Look the words of longer n-grams up; returns (count, n)."""
        absent = itertools.repeat(-1)
        parts = [np.fromiter(map(self._ids.get, column, absent), np.int32, len(lines)) for column in columns]
        ids = np.stack(parts, axis=1)
        wrong = np.argwhere(ids < 0)
        if wrong.size:
            row, place = wrong[0]
            raise self._lines.error(f"{_shown(columns[place][row])} is not among the 1-grams", int(lines[row]))
        return ids


def _fields(block: bytes) -> NDArray[np.int64]:
    """Count the fields of each line; the same blanks as ``bytes.split`` sees."""
    letters = np.frombuffer(block, np.uint8)
    blank = (letters == 32) | ((letters >= 9) & (letters <= 13))
    begins = ~blank
    begins[1:] &= blank[:-1]
    ends = np.flatnonzero(letters == 10)
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    return np.diff(np.searchsorted(np.flatnonzero(begins), ends), prepend=0)


def _is_number(token: bytes) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _shown(text: bytes) -> str:
    """Text for a message, short."""
    shown = text.decode("utf-8", "backslashreplace")
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
