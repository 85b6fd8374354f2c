"""Make an inventory of any kind, and read any back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kdcompress.errors import VocabularyError
from kdcompress.units.characters import CharacterInventory
from kdcompress.units.content import damaged
from kdcompress.units.lexicon_file import open_pronouncer
from kdcompress.units.phones import PhoneInventory
from kdcompress.units.subwords import SubwordInventory
from kdcompress.units.words import WordInventory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdcompress.units.inventory import Inventory
    from kdcompress.units.lexicon_file import G2p
    from kdcompress.units.subwords import Algorithm

KINDS = ("characters", "words", "subwords", "phones", "senones")


def inventory_of(
    kind: str,
    texts: Iterable[str] = (),
    *,
    size: int | None = None,
    algorithm: Algorithm = "bpe",
    lexicon: Path | None = None,
    g2p: G2p = "lexicon",
) -> Inventory:
    """Make an inventory that covers ``texts``.

    Args:
        kind: ``characters``, ``words``, ``subwords`` or ``phones``; senones come from alignments.
        texts: normalised; what a unit set is made from. Phones need none; the words of those given are said at once.
        size: how many subwords, or how many of the most frequent words; all words when left out.
        algorithm: how subwords are learned.
        lexicon: file with lines ``WORD PHONE PHONE ...``; for phones.
        g2p: what says the words that the lexicon lacks.

    Raises:
        VocabularyError: there is no such kind, something is missing that it needs, or the texts do not do.
        ManifestError: the lexicon cannot be read.
        MissingDependencyError: a package or program is not there.
    """
    if kind == "characters":
        return CharacterInventory.from_texts(texts)
    if kind == "words":
        return WordInventory.from_texts(texts, size)
    if kind == "subwords":
        if size is None:
            raise VocabularyError("how many subwords is not said; give their number (500 is usual for a small corpus)")
        return SubwordInventory.train(texts, size, algorithm)
    if kind == "phones":
        if lexicon is None:
            raise VocabularyError("phones need a lexicon; name a file with lines such as `CAT K AE1 T`")
        pronouncer = open_pronouncer(lexicon, g2p)
        pronouncer.pronounce(word for text in texts for word in text.split())
        return PhoneInventory(pronouncer)
    if kind == "senones":
        raise VocabularyError("senones are not made from texts; they come from aligned phones, and are read back")
    raise VocabularyError(f"there are no units of the kind {kind!r}; take one of {', '.join(KINDS)}")


def open_inventory(content: dict[str, Any], source: str = "units.json") -> Inventory:
    """Read back what ``Inventory.to_json`` gave.

    Raises:
        VocabularyError: it is damaged, or of a kind that is not known.
    """
    kind = content.get("kind") if isinstance(content, dict) else None
    for known in (CharacterInventory, WordInventory, SubwordInventory, PhoneInventory):
        if kind == known.kind:
            return known.from_json(content, source)
    if kind == "senones":
        from kdcompress.units.senones.inventory import SenoneInventory

        return SenoneInventory.from_json(content, source)
    raise damaged(source, f"its kind is {kind!r}, none of {', '.join(KINDS)}")


def read_inventory(path: Path) -> Inventory:
    """Read an inventory from its file.

    Raises:
        VocabularyError: it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VocabularyError(f"unit set not found: {path}; it is written beside a language model") from error
    except ValueError as error:
        raise damaged(str(path), "it is not valid JSON in UTF-8") from error
    return open_inventory(content, str(path))
