"""The token table of a Hugging Face folder, read without their libraries: ``vocab.json`` or ``tokenizer.json``."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.errors import ForeignVocabularyError, SeveralLanguagesError
from kdcompress_runtime.foreign_tokens import make_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kdcompress_runtime.vocabulary import Vocabulary

CONFIG, TABLE, TOKENIZER = "config.json", "vocab.json", "tokenizer.json"
TOKENIZER_FILES = (TABLE, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""All files that may say what a token is."""
_SPECIAL = {
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "<sep>",
    "cls_token": "<cls>",
    "mask_token": "<mask>",
}
"""Usual spelling of tokens that stand for no text, by what they are for."""


@dataclass(frozen=True)
class HfVocabulary:
    """What a folder says of its tokens."""

    source: Path
    """The file with the table, for messages."""
    symbols: Mapping[int, str]
    """As saved, by id."""
    blank: str
    """The padding token, which a CTC model answers for blank."""
    delimiter: str | None
    """Token between words; None where there is none."""
    extra: frozenset[str]
    """Tokens that only training needs, and the special ones; the model may have no output for them."""
    usual: Mapping[str, str]
    """Usual spelling of the special tokens, ``<unk>`` for ``[UNK]``; by their own."""
    lower: bool
    """Whether its texts are lower-cased."""

    @property
    def blank_id(self) -> int:
        """Id of the blank."""
        return next(index for index, symbol in self.symbols.items() if symbol == self.blank)

    def vocabulary(self, size: int, *, usual_spelling: bool = False) -> Vocabulary:
        """Spell the tokens of a model with ``size`` outputs as ours: ``▁`` between words, ``<blk>`` for the blank.

        Args:
            size: outputs of the model.
            usual_spelling: spell special tokens as most do, ``<unk>`` for ``[UNK]``.

        Raises:
            ForeignVocabularyError: the table does not fit the model.
        """
        symbols, taken = dict(self.symbols), set(self.symbols.values())
        if usual_spelling:
            free = {own: usual for own, usual in self.usual.items() if usual not in taken}
            symbols = {index: free.get(symbol, symbol) for index, symbol in symbols.items()}
        extra = self.extra | set(_SPECIAL.values())
        source = str(self.source)
        return make_vocabulary(symbols, size, self.blank_id, source=source, delimiter=self.delimiter, extra=extra)


def read_hf_vocabulary(folder: Path, pad_token_id: object = None) -> HfVocabulary:
    """Read the tokens of a folder that ``save_pretrained`` wrote; the padding token is the CTC blank.

    Args:
        folder: with ``vocab.json`` or ``tokenizer.json``.
        pad_token_id: id of the blank as ``config.json`` has it; not compared where it is no number.

    Raises:
        SeveralLanguagesError: a table of several languages.
        ForeignVocabularyError: no readable table, or one that contradicts itself or ``pad_token_id``.
    """
    settings = _settings(folder)
    file, table = _table(folder)
    languages = [key for key, value in table.items() if isinstance(value, dict)]
    if languages:
        raise SeveralLanguagesError(
            f"{file} holds a table for each of {', '.join(languages[:3])}...; save the tokenizer of one language "
            "(`tokenizer.set_target_lang(...)`) together with that language's weights"
        )
    if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in table.values()):
        raise ForeignVocabularyError(f"{file}: expected symbols and their ids; save the tokenizer again")
    used = Counter(table.values())
    twice = sorted(symbol for symbol, index in table.items() if used[index] > 1)
    if twice:
        raise ForeignVocabularyError(f"{file} gives the symbols {twice[:5]} one id; every symbol needs its own")
    blank = _text(settings.get("pad_token")) or "<pad>"
    if blank not in table:
        raise ForeignVocabularyError(f"{file} has no {blank!r}, the padding token that a CTC model answers for blank")
    if isinstance(pad_token_id, int) and table[blank] != pad_token_id:
        raise ForeignVocabularyError(
            f"{CONFIG} says that token {pad_token_id} is the blank (pad_token_id), {file} gives {blank!r} the id "
            f"{table[blank]}; correct the one that is wrong"
        )
    # a model may use one token for two purposes; the first that is listed names it
    usual = {own: usual for name, usual in reversed(_SPECIAL.items()) if (own := _text(settings.get(name)))}
    added = {str(row.get("content")) for row in dict(settings.get("added_tokens_decoder") or {}).values()}
    return HfVocabulary(
        file,
        {index: symbol for symbol, index in table.items()},
        blank,
        _text(settings.get("word_delimiter_token", "|")),
        frozenset({*usual, *added, blank}),
        {own: spelling for own, spelling in usual.items() if own != blank},
        bool(settings.get("do_lower_case", False)),
    )


def _settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= _read(folder / name)
    return found


def _table(folder: Path) -> tuple[Path, dict[str, Any]]:
    if (folder / TABLE).is_file():
        file, table = folder / TABLE, _read(folder / TABLE)
        added = folder / "added_tokens.json"
        return file, {**table, **(_read(added) if added.is_file() else {})}
    file = folder / TOKENIZER
    if not file.is_file():
        raise ForeignVocabularyError(f"{folder}: no {TABLE} and no {TOKENIZER}; save the model's tokenizer there, too")
    row = _read(file)
    listed: object = row.get("model", {}).get("vocab") if isinstance(row.get("model"), dict) else None
    if isinstance(listed, list):  # sentencepiece: pairs of symbol and score
        listed = {pair[0]: index for index, pair in enumerate(listed)}
    if not isinstance(listed, dict):
        raise ForeignVocabularyError(f"{file} holds no vocabulary; save the model's tokenizer again")
    added_rows = [entry for entry in row.get("added_tokens") or [] if isinstance(entry, dict)]
    return file, {
        **listed,
        **{entry["content"]: entry["id"] for entry in added_rows if {"content", "id"} <= set(entry)},
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForeignVocabularyError(f"{file} cannot be read as JSON ({error}); save the model again") from error
    if not isinstance(row, dict):
        raise ForeignVocabularyError(f"{file}: expected a JSON object; save the model again")
    return row


def _text(token: object) -> str | None:
    """Return a token's spelling; it may be saved as text or as an object with its ``content``."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
