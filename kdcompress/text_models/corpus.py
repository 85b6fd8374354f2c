"""Texts of a recipe as sentences, and as units."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress.data.lexicon import normalised
from kdcompress.errors import VocabularyError
from kdcompress.lm.text import MANIFEST, read_sentences
from kdcompress.units.characters import CharacterInventory
from kdcompress.units.opening import inventory_of, open_inventory
from kdcompress.units.subwords import SubwordInventory
from kdcompress.units.words import WordInventory
from kdcompress_runtime.errors import LanguageModelError, ManifestError
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcompress.text_models.recipe import TextData
    from kdcompress.units.inventory import Inventory, Spelled

HELD_OUT = 40
"""Without dev, one different sentence of so many is held out."""
UNITS_FILE = "units.json"
"""Name of an inventory beside a model."""


@dataclass(frozen=True)
class Corpus:
    """What a language model is trained on, and chosen by."""

    inventory: Inventory
    train: tuple[Spelled, ...]
    dev: tuple[Spelled, ...]
    train_texts: tuple[str, ...]
    """Sentences of ``train``."""
    dev_texts: tuple[str, ...]
    """Sentences of ``dev``."""


def read_texts(data: TextData) -> Corpus:
    """Read and spell the texts of a recipe.

    Raises:
        LanguageModelError: a text cannot be read, or holds no sentence, or too few to hold one out for dev.
        ManifestError: a manifest, or the lexicon, cannot be read, or an item lacks the field.
        VocabularyError: the units do not cover the texts, or cannot be made from them.
    """
    train = [text for path in data.train for text in _sentences(path, data)]
    dev = list(_sentences(data.dev, data)) if data.dev else []
    if not train or (data.dev and not dev):
        empty = data.dev if train else data.train[0]
        raise LanguageModelError(f"{empty}: holds no sentence; give a text with one sentence a line")
    inventory = make_inventory(data, train)
    if not data.dev:
        train, dev = _parted(train)
        if not dev:
            raise LanguageModelError(
                f"{data.train[0]}: too few different sentences to hold some out; name a text in text.dev"
            )
    return Corpus(
        inventory,
        train=_spelled(train, inventory, "text.train"),
        dev=_spelled(dev, inventory, data.dev or "text.train"),
        train_texts=tuple(train),
        dev_texts=tuple(dev),
    )


def make_inventory(data: TextData, texts: Sequence[str]) -> Inventory:
    """Make the units that a recipe names.

    Raises:
        VocabularyError: they cannot be made, or do not cover the texts.
    """
    if data.units == "senones":
        file = Path(str(data.senones))
        file = file / "senones.json" if file.is_dir() else file
        return open_inventory(_json(file), str(file))
    if data.tokens is not None:
        file = data.tokens / "tokens.txt" if data.tokens.is_dir() else data.tokens
        if not file.is_file():
            raise VocabularyError(f"tokens not found: {file}; give tokens.txt of an acoustic model, or its run")
        vocabulary = Vocabulary.loads(file.read_text(encoding="utf-8"), source=str(file))
        return _FROM_VOCABULARY[data.units](vocabulary)
    size = data.subwords if data.units == "subwords" else None
    return inventory_of(data.units, texts, size=size, algorithm=data.algorithm, lexicon=data.lexicon, g2p=data.g2p)


_FROM_VOCABULARY: dict[str, Callable[[Vocabulary], Inventory]] = {
    "characters": CharacterInventory.from_vocabulary,
    "subwords": SubwordInventory.from_vocabulary,
    "words": WordInventory.from_vocabulary,
}


def _json(file: Path) -> Any:  # noqa: ANN401 (whatever JSON holds)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VocabularyError(f"senones not found: {file}; `text.senones` names senones.json, or its folder") from error
    except (OSError, ValueError) as error:
        raise VocabularyError(f"{file}: cannot be read as JSON ({error}); make it again") from error


def _sentences(path: Path, data: TextData) -> Iterator[str]:
    """Texts of a file with single blanks."""
    if path.suffix == MANIFEST and data.field == "words":
        lines = _words_of(path)
    else:
        lines = (" ".join(words) for words in read_sentences(path))
    for line in lines:
        yield normalised(line) if data.words == "normalise" else line


def _words_of(path: Path) -> Iterator[str]:
    """Field ``words`` of a manifest."""
    for entry in read_manifest(path):
        words = entry.extra.get("words")
        if not isinstance(words, str):
            raise ManifestError(f"{path}, id {entry.id}: there is no text in the field 'words'; set text.field: text")
        if words.split():
            yield " ".join(words.split())


def _parted(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sentences to train on, and those held out; equal ones are never on both sides, whatever their order."""
    out = {text for text in texts if zlib.crc32(text.encode()) % HELD_OUT == 0}
    if not out or len(out) == len(set(texts)):
        out = set(sorted(set(texts))[:: max(2, HELD_OUT)]) if len(set(texts)) > 1 else set()
    return [text for text in texts if text not in out], sorted(out)


def _spelled(texts: Sequence[str], inventory: Inventory, where: object) -> tuple[Spelled, ...]:
    """Spell each different text once."""
    known: dict[str, Spelled] = {}
    for text in texts:
        if text not in known:
            known[text] = inventory.spell(text, f"{where}: {text!r}")
    return tuple(known[text] for text in texts)
