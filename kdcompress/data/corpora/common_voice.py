"""Common Voice: ``train.tsv``, ``dev.tsv``, ``test.tsv``, ``validated.tsv`` and ``clips/*.mp3`` of one language."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from kdcompress.data.corpora.base import Found, ManifestRow, Source, Unusable, check_folder, stated
from kdcompress_runtime.errors import ManifestError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

OFFICIAL = ("train", "dev", "test")
VALIDATED = "validated"
NEEDED = ("client_id", "path", "sentence")


def read_common_voice(source: Source) -> Iterator[Found]:
    """Yield the clips of ``train``, ``dev`` and ``test``.

    ``validated`` is taken where it is asked for by name, without the speakers of dev and test; or where it is all
    there is, and then it is dealt out.

    Raises:
        DataNotFoundError: there is no such folder.
        ManifestError: it has no such tables, or several languages.
        OptionsError: both train and validated are asked for; validated holds train.
    """
    check_folder(source.path, "Common Voice")
    root = _language(source.path)
    if VALIDATED in source.splits and "train" in source.splits:
        raise OptionsError("validated holds all of train; ask for one of the two with --split")
    official = [split for split in OFFICIAL if (root / f"{split}.tsv").is_file()]
    for split in official:
        if source.wants(split):
            for item in _read_table(root, split):
                yield split, item
    if VALIDATED in source.splits:
        held_out = _speakers(root)
        for item in _read_table(root, VALIDATED):
            if isinstance(item, Unusable) or hash(item.speaker) not in held_out:
                yield VALIDATED, item
    elif not official:
        for item in _read_table(root, VALIDATED):
            yield None, item


def _language(folder: Path) -> Path:
    """The folder with the tables: the one given, or the only language in it."""
    if any((folder / f"{split}.tsv").is_file() for split in (*OFFICIAL, VALIDATED)):
        return folder
    found = sorted({path.parent for split in (*OFFICIAL, VALIDATED) for path in folder.glob(f"*/{split}.tsv")})
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ManifestError(f"{folder} holds several languages ({names}); name the folder of one")
    raise ManifestError(f"{folder}: no train.tsv, dev.tsv, test.tsv or validated.tsv; name the folder of a language")


def _read_table(root: Path, split: str) -> Iterator[ManifestRow | Unusable]:
    path = root / f"{split}.tsv"
    if not path.is_file():
        raise ManifestError(f"no table: {path}; get the corpus again, or leave this split out")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        # quotation marks belong to the sentences
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if missing := sorted({*NEEDED} - {*(table.fieldnames or ())}):
            raise ManifestError(f"{path}: no column {missing[0]!r}; it is not a table of Common Voice")
        for number, row in enumerate(table, start=2):
            yield _item(row, f"{path}, line {number}", root)


def _item(row: Mapping[str, str | None], where: str, root: Path) -> ManifestRow | Unusable:
    name, text = row["path"], row["sentence"]
    if not name or text is None:
        return Unusable(where, "broken line", "columns are missing; mend or remove the line", name or "")
    # early releases leave the suffix out
    file = name if "." in name else f"{name}.mp3"
    return ManifestRow(
        id=file.rsplit(".", 1)[0],
        input=str(root / "clips" / file),
        text=text,
        where=where,
        speaker=row["client_id"] or None,
        fields=stated(
            age=row.get("age"),
            gender=row.get("gender"),
            accent=row.get("accents") or row.get("accent"),
            variant=row.get("variant"),
            language=row.get("locale"),
        ),
    )


def _speakers(root: Path) -> set[int]:
    """Hashes of the speakers of dev and test."""
    tables = [split for split in ("dev", "test") if (root / f"{split}.tsv").is_file()]
    items = (item for split in tables for item in _read_table(root, split))
    return {hash(item.speaker) for item in items if isinstance(item, ManifestRow)}
