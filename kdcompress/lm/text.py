"""Texts for language models: lines into words, or into the tokens of an acoustic model's vocabulary."""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.errors import LanguageModelError, LanguageModelNotFoundError
from kdcompress_runtime.lm.arpa import GZIP
from kdcompress_runtime.lm.base import BOS, EOS, UNK
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.subwords import split_word
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.data.text import Units
    from kdcompress_runtime.vocabulary import Vocabulary

MANIFEST = ".jsonl"
"""Ending of manifests, whose items' texts are the sentences."""
MARKS = (UNK, BOS, EOS)
"""Words with a meaning of their own, by id; a text must not hold them."""
_EVERY_LINES = 20_000
_MOST_BLANKS = 40


@dataclass
class Corpus:
    """Sentences by ids, one after the other, each between ``<s>`` and ``</s>``."""

    words: list[str]
    """Word (or token) by id; the first three are ``MARKS``."""
    ids: NDArray[np.int32]
    """All sentences, shape (length,)."""
    sentences: int
    """How many there are."""
    skipped: int = 0
    """Sentences left out, because the vocabulary cannot spell a word of theirs."""
    unspelled: Counter[str] = field(default_factory=Counter)
    """Words that the vocabulary cannot spell, with how often they stand in the text."""


class Speller:
    """Words into tokens of a vocabulary: characters with ``▁`` between words, subwords, or words that begin with it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.units = units_of(vocabulary)
        self._ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols) if index != vocabulary.blank_id}
        self._between = [WORD_SEPARATOR] if self.units == "characters" else []
        self._words: dict[str, tuple[list[str], bool]] = {}

    def __call__(self, words: Sequence[str]) -> list[str]:
        """Tokens of a sentence; characters that are no tokens stay as they are."""
        tokens: list[str] = []
        for index, word in enumerate(words):
            tokens += self._between if index else []
            tokens += self._spelled(word)[0]
        return tokens

    def can_spell(self, word: str) -> bool:
        """Whether the vocabulary has the tokens of a word."""
        return self._spelled(word)[1]

    def _spelled(self, word: str) -> tuple[list[str], bool]:
        """Tokens of one word, and whether all are in the vocabulary; each word is looked at once."""
        known = self._words.get(word)
        if known is None:
            if self.units == "characters":
                tokens = list(word)
            elif self.units == "words":
                tokens = [WORD_SEPARATOR + word]
            else:
                tokens = split_word(WORD_SEPARATOR + word, self._ids)
            known = self._words[word] = tokens, all(token in self._ids for token in tokens)
        return known


def units_of(vocabulary: Vocabulary) -> Units:
    """What the tokens of a vocabulary are: characters, words (or phones), or subwords."""
    symbols = [symbol for index, symbol in enumerate(vocabulary.symbols) if index != vocabulary.blank_id]
    if all(len(symbol) == 1 for symbol in symbols):
        return "characters"
    return "words" if all(symbol[0] == WORD_SEPARATOR for symbol in symbols) else "subwords"


def read_sentences(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[list[str]]:
    """Yield the words of each line of a text, gzipped or not, or of each item of a manifest; empty ones are left out.

    Args:
        path: UTF-8 text, one sentence a line; or a manifest, ``.jsonl``.
        on_bytes: called now and then with the number of bytes read since the last time.

    Raises:
        LanguageModelNotFoundError: there is no such text.
        LanguageModelError: it cannot be read, is not UTF-8, or holds ``<s>``, ``</s>`` or ``<unk>``.
        ManifestError: the manifest cannot be read.
    """
    if path.suffix == MANIFEST:
        for entry in read_manifest(path):
            yield from _checked(entry.text.split(), f"{path}, id {entry.id}")
        if on_bytes:
            on_bytes(path.stat().st_size)
        return
    number = 0
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
            raw.seek(0)
            before = 0
            for number, line in enumerate(gzip.GzipFile(fileobj=raw) if zipped else raw, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield from _checked(text.split(), f"{path}, line {number}")
                if on_bytes and number % _EVERY_LINES == 0:
                    on_bytes(raw.tell() - before)
                    before = raw.tell()
            if on_bytes:
                on_bytes(raw.tell() - before)
    except UnicodeDecodeError as error:
        raise LanguageModelError(f"{path}, line {number}: not UTF-8 text; convert the file") from error
    except FileNotFoundError as error:
        raise LanguageModelNotFoundError(f"text not found: {path}") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise LanguageModelError(f"{path}: the gzip file is damaged or cut off; copy it again") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def read_corpus(
    texts: Sequence[Path],
    speller: Speller | None = None,
    *,
    tokens: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> Corpus:
    """Read texts as sentences of ids.

    Args:
        texts: UTF-8 texts, one sentence a line.
        speller: the acoustic model's vocabulary; words that it cannot spell are counted.
        tokens: ids of tokens, not of words; sentences that cannot be spelled are left out.
        on_bytes: see ``read_sentences``.

    Raises:
        LanguageModelError: see ``read_sentences``; or no sentence is left.
    """
    vocabulary = _Ids()
    ids = array("i")
    corpus = Corpus([], np.zeros(0, np.int32), 0)
    for path in texts:
        for words in read_sentences(path, on_bytes):
            unspelled = [word for word in words if not speller.can_spell(word)] if speller else ()
            corpus.unspelled.update(unspelled)
            if tokens and unspelled:
                corpus.skipped += 1
                continue
            corpus.sentences += 1
            ids.append(1)
            ids.extend(map(vocabulary.__getitem__, speller(words) if speller and tokens else words))
            ids.append(2)
    if not corpus.sentences:
        why = f"the vocabulary can spell none of {corpus.skipped}" if corpus.skipped else "the texts are empty"
        raise LanguageModelError(f"no sentence to estimate a language model from: {why}")
    corpus.words = list(vocabulary)
    corpus.ids = np.frombuffer(ids, np.int32)
    return corpus


class _Ids(dict[str, int]):
    """Id by word; a new word gets the next one."""

    def __init__(self) -> None:
        super().__init__({word: index for index, word in enumerate(MARKS)})

    def __missing__(self, word: str) -> int:
        self[word] = index = len(self)
        return index


def _checked(words: list[str], where: str) -> Iterator[list[str]]:
    """The sentence, unless it is empty."""
    mark = next((word for word in words if word in MARKS), None)
    if mark is not None:
        raise LanguageModelError(
            f"{where}: the text holds {mark}, which has a meaning of its own inside a model; take it out of the text"
        )
    if words:
        yield words
