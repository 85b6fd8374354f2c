"""Tokens of a Hugging Face model as units, and units of ours as its tokens."""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from kdcompress.errors import VocabularyError
from kdcompress.units.content import checked_symbols, damaged, named
from kdcompress.units.inventory import Inventory, Spelled
from kdcompress_runtime.errors import MissingDependencyError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BYTE_SPACE = "Ġ"
"""How tokenizers of bytes write a blank."""
CONTINUED = "##"
"""How WordPiece marks what does not begin a word."""


class HuggingFaceInventory(Inventory):
    """Tokens of a model's own tokenizer, as it spells them: ``Ġthe``, ``▁the``, ``the`` and ``##ing``.

    Args:
        tokenizer: ``tokenizer.json``.
        symbols: tokens that are units, in the order of their ids.
    """

    kind = "hugging_face"

    def __init__(self, tokenizer: str, symbols: Sequence[str]) -> None:
        self.tokenizer, self.symbols = tokenizer, tuple(symbols)
        self._tokenizer = _loaded(tokenizer)
        self.token_ids = tuple(self._tokenizer.token_to_id(symbol) for symbol in symbols)
        """Token of the model by unit."""
        self._ids = {token: unit for unit, token in enumerate(self.token_ids)}

    def spell(self, text: str, where: str = "text") -> Spelled:
        """See ``Inventory``."""
        tokens, words = tokenized(self._tokenizer, text)
        missing = [self._tokenizer.id_to_token(token) for token in tokens if token not in self._ids]
        if missing:
            raise VocabularyError(
                f"{where}: the unit set does not cover the text: {named(missing)} of the language model are not among "
                "its units; open the model with these texts, too"
            )
        return Spelled(tuple(self._ids[token] for token in tokens), words)

    def shares(self, ids: Sequence[int]) -> tuple[float, ...]:
        """See ``Inventory``; as many as a token has letters."""
        return tuple(float(max(1, len(letters(self.symbols[unit])))) for unit in ids)

    def to_json(self) -> dict[str, Any]:
        """See ``Inventory``; with the tokenizer."""
        return {"kind": self.kind, "symbols": list(self.symbols), "tokenizer": json.loads(self.tokenizer)}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> HuggingFaceInventory:
        """See ``Inventory``."""
        symbols = checked_symbols(content, cls.kind, source)
        try:
            inventory = cls(json.dumps(content["tokenizer"]), symbols)
        except KeyError as error:
            raise damaged(source, "it holds no tokenizer") from error
        except VocabularyError as error:
            raise damaged(source, str(error)) from error
        if None in inventory.token_ids:
            raise damaged(source, "a symbol is no token of its tokenizer")
        return inventory


def tokenized(tokenizer: Any, text: str) -> tuple[list[int], tuple[int, ...]]:  # noqa: ANN401 (tokenizers has no types)
    """Tokens of a text, without marks, and the word of ``text.split()`` that each belongs to."""
    encoded = tokenizer.encode(text, add_special_tokens=False)
    # where each word begins; a token that is a blank alone belongs to the word behind it
    starts = [
        index for index, letter in enumerate(text) if not letter.isspace() and (not index or text[index - 1].isspace())
    ]
    words = []
    for start, end in encoded.offsets:
        part = text[start:end]
        begin = start + len(part) - len(part.lstrip()) if part.strip() else end
        words.append(max(0, min(len(starts) - 1, bisect_right(starts, begin) - 1)))
    return list(encoded.ids), tuple(words)


def token_of(symbol: str, vocabulary: Mapping[str, int]) -> int | None:
    """Token of a model that stands for a unit of ours, None where there is none.

    ``▁the`` is ``Ġthe`` for tokenizers of bytes, ``the`` for WordPiece; ``ing`` is ``##ing`` there.
    """
    begins = symbol.startswith(WORD_SEPARATOR)
    letters_of = symbol.removeprefix(WORD_SEPARATOR)
    style = style_of(vocabulary)
    if style == "bytes":
        as_bytes = "".join(_BYTES[byte] for byte in letters_of.encode())
        return vocabulary.get(BYTE_SPACE + as_bytes if begins else as_bytes)
    if style == "wordpiece":
        if not letters_of:
            return None
        return vocabulary.get(letters_of if begins else CONTINUED + letters_of)
    if style == "sentencepiece":
        return vocabulary.get(symbol)
    return vocabulary.get(letters_of) if begins and letters_of else vocabulary.get(symbol)


def style_of(vocabulary: Iterable[str]) -> str:
    """How a tokenizer marks words: ``bytes``, ``wordpiece``, ``sentencepiece``, or ``plain``: not at all."""
    counts = {"bytes": 0, "wordpiece": 0, "sentencepiece": 0}
    for token in vocabulary:
        counts["bytes"] += token.startswith(BYTE_SPACE)
        counts["wordpiece"] += token.startswith(CONTINUED)
        counts["sentencepiece"] += token.startswith(WORD_SEPARATOR)
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else "plain"


def letters(token: str) -> str:
    """Letters of a token without what marks words."""
    return token.removeprefix(CONTINUED).lstrip(BYTE_SPACE + WORD_SEPARATOR)


def _loaded(tokenizer: str) -> Any:  # noqa: ANN401 (tokenizers has no types)
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(
            "units of a Hugging Face model need the package tokenizers; install kdcompress[train]"
        ) from error
    try:
        loaded = Tokenizer.from_str(tokenizer)
    except Exception as error:  # tokenizers raises nothing more special
        raise VocabularyError(f"its tokenizer cannot be read ({error})") from error
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def _byte_alphabet() -> dict[int, str]:
    """How tokenizers of bytes write each byte, as GPT-2 does: printable ones as they are, others from 256 on."""
    plain = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(others)}


_BYTES = _byte_alphabet()
