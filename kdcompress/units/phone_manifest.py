"""A manifest whose references are phones, from one of words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcompress.data.corpora.texts import TEXT_RULES
from kdcompress.data.moved import moved_row
from kdcompress.errors import VocabularyError
from kdcompress.files import replacing
from kdcompress_runtime.errors import ManifestError, OptionsError
from kdcompress_runtime.manifest import TEXT_FIELDS, parse_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from kdcompress.data.corpora.texts import TextRule
    from kdcompress.units.pronunciation import Phones, Pronouncer

WORDS_FIELD = "words"


@dataclass(frozen=True)
class PhonesReport:
    """What was turned into phones."""

    output: Path
    items: int
    words: int
    """Words of all texts."""
    missing: int
    """Of them, how many are not in the lexicon; each was guessed."""
    guessed: Mapping[str, Phones]
    """What was guessed, by word."""
    phones: int
    """Phones of all texts."""


def write_phone_manifest(
    manifest: Path, output: Path, pronouncer: Pronouncer, text: TextRule = "normalised"
) -> PhonesReport:
    """Write a manifest with phones, single blanks between them, for references; ``words`` holds what they were.

    Everything else stays: inputs are found from the new place too, and an item that had its path for an id keeps that
    id. Two passes; memory grows with the different words alone.

    Args:
        manifest: JSONL; audio, images or sentences.
        output: the manifest to write, by a temporary name.
        pronouncer: says the words.
        text: how references are made alike before their words are looked up.

    Raises:
        ManifestError: the manifest is missing, empty or broken, or already holds phones.
        VocabularyError: a text cannot be made alike, or a word cannot be said.
        OptionsError: ``output`` is the manifest.
    """
    if output.absolute() == manifest.absolute():
        raise OptionsError(f"{output} is the manifest itself; give the new one another name")
    counts: dict[str, int] = {}
    for _, _, words in _rows(manifest, TEXT_RULES[text]):
        for word in words.split():
            counts[word] = counts.get(word, 0) + 1
    said = _said(pronouncer, counts, manifest)
    items = 0
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row, field, words in _rows(manifest, TEXT_RULES[text]):
            phones = " ".join(phone for word in words.split() for phone in said[word])
            placed = {**moved_row(row, manifest.parent, output.parent), field: phones, WORDS_FIELD: words}
            file.write(json.dumps(placed, ensure_ascii=False) + "\n")
            items += 1
    missing = [word for word in counts if word not in pronouncer.entries]
    return PhonesReport(
        output=output,
        items=items,
        words=sum(counts.values()),
        missing=sum(counts[word] for word in missing),
        guessed={word: said[word] for word in sorted(missing, key=lambda word: (-counts[word], word))},
        phones=sum(counts[word] * len(said[word]) for word in counts),
    )


def _rows(manifest: Path, rule: Callable[[str], str]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each line, the name of its field that is the reference, and the reference made alike."""
    if not manifest.is_file():
        raise ManifestError(f"manifest not found: {manifest}; check the path, or make it with `kdcompress prepare`")
    number = 0
    with manifest.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate((line for line in lines if line.strip()), start=1):
            where = f"{manifest}, entry {number}"
            entry = parse_line(line, where=where, folder=manifest.parent)
            row: dict[str, Any] = json.loads(line)
            if WORDS_FIELD in row:
                raise ManifestError(f"{where}: it has {WORDS_FIELD!r} already; take the manifest whose texts are words")
            try:
                words = rule(entry.text)
            except VocabularyError as problem:
                raise VocabularyError(
                    f"{where} ({entry.id}): {problem}; or keep other letters with --text lower"
                ) from problem
            yield row, next(name for name in TEXT_FIELDS if isinstance(row.get(name), str)), words
    if not number:
        raise ManifestError(f"manifest is empty: {manifest}; it needs one JSON object a line")


def _said(pronouncer: Pronouncer, counts: Mapping[str, int], manifest: Path) -> dict[str, Phones]:
    try:
        return pronouncer.pronounce(counts)
    except VocabularyError as problem:
        raise VocabularyError(f"{manifest}: {problem}") from problem
