"""Token tables of other toolkits -> ``Vocabulary``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdcompress_runtime.errors import BundleError, ForeignVocabularyError
from kdcompress_runtime.vocabulary import BLANK, WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SPACES = (" ", "<space>", "<SPACE>")
"""How others write the blank between words."""
BLANKS = ("<blk>", "<blank>", "<eps>", "<BLK>", "[blank]", "[BLANK]", "<ctc_blank>")
"""How others write the CTC blank; the first that a table holds is taken."""
_DISAMBIGUATION = re.compile(r"#\d+")
_LISTED = 5


def make_vocabulary(
    symbols: Mapping[int, str],
    size: int,
    blank_id: int,
    *,
    source: str,
    delimiter: str | None = None,
    extra: Collection[str] = (),
) -> Vocabulary:
    """Build the vocabulary of a model with ``size`` outputs.

    Symbols keep their spelling, special ones such as ``<s>`` or ``<unk>`` too: a CTC model hardly ever answers
    them, and when it does, the text says so. The delimiter of words becomes ``▁`` and the blank ``<blk>``.

    Args:
        symbols: by id.
        size: outputs of the model.
        blank_id: id of the CTC blank.
        source: file to name in messages.
        delimiter: symbol that stands between words, besides those in ``SPACES``.
        extra: symbols that may lie beyond the model's outputs, because only training needs them.

    Raises:
        ForeignVocabularyError: an id of the model has no symbol, a symbol has no output, two symbols become the same,
            or one cannot stand in ``tokens.txt``.
    """
    beyond = {i: s for i, s in symbols.items() if i >= size and s not in extra and not _DISAMBIGUATION.fullmatch(s)}
    lacking = [index for index in range(size) if index not in symbols and index != blank_id]
    if beyond or lacking or not 0 <= blank_id < size:
        found = f"{source} numbers {len(symbols)} symbols, the model has {size} outputs"
        raise ForeignVocabularyError(
            f"{found}: {_mismatch(beyond, lacking, blank_id, size)}; give the model's own table"
        )
    words = {*SPACES, delimiter}
    listed = [WORD_SEPARATOR if symbols.get(i) in words else symbols.get(i, BLANK) for i in range(size)]
    if listed[blank_id] != WORD_SEPARATOR and BLANK in listed[:blank_id] + listed[blank_id + 1 :]:
        raise ForeignVocabularyError(f"{source}: {BLANK} has id {listed.index(BLANK)}, but the blank is {blank_id}")
    listed[blank_id] = BLANK
    try:
        vocabulary = Vocabulary(tuple(listed))
        same = Vocabulary.loads(vocabulary.dumps()) == vocabulary
    except BundleError as error:
        raise ForeignVocabularyError(f"{source}: {error}") from error
    if not same:
        raise ForeignVocabularyError(
            f"{source} holds a symbol with a line break, which no tokens.txt can hold; rename it"
        )
    return vocabulary


def _mismatch(beyond: Mapping[int, str], lacking: list[int], blank_id: int, size: int) -> str:
    said = []
    if beyond:
        said.append(f"no output for {', '.join(f'{s!r} ({i})' for i, s in sorted(beyond.items())[:_LISTED])}")
    if lacking:
        said.append(f"no symbol for {len(lacking)} ids, the first {lacking[:_LISTED]}")
    if not 0 <= blank_id < size:
        said.append(f"blank {blank_id} is not among them")
    return "; ".join(said)


def parse_tokens(content: str, source: str) -> dict[int, str]:
    """Read ``symbol id`` lines; a line with an id alone is the space between words, as some toolkits write it.

    Raises:
        ForeignVocabularyError: a line is not ``symbol id``, or an id appears twice.
    """
    found: dict[int, str] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        text = line.rstrip("\r")
        if not text.strip():
            continue
        symbol, separator, index = text.replace("\t", " ").rpartition(" ")
        if not index.isascii() or not index.isdigit() or not separator:
            raise ForeignVocabularyError(f"{source}, line {number}: expected 'symbol id', found {text!r}")
        if int(index) in found:
            raise ForeignVocabularyError(f"{source}, line {number}: id {index} appears a second time")
        found[int(index)] = symbol or WORD_SEPARATOR
    if not found:
        raise ForeignVocabularyError(f"{source} holds no symbols; expected lines 'symbol id'")
    return found
