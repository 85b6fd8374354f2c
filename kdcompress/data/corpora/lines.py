"""The manifests in the making: a line an item, and no id twice."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.data.corpora.base import Unusable
from kdcompress.data.corpora.places import line_at, lines_with_places, place_of, split_number
from kdcompress.data.corpora.splits import is_held_out
from kdcompress.data.corpora.spool import Spool
from kdcompress.files import replacing
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import INPUT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from kdcompress.data.corpora.base import ManifestRow
    from kdcompress.data.corpora.recordings import Placed

RESERVED = "unusable"


class Lines:
    """Writes ``SPLIT.jsonl`` for every split that has an item."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._offsets: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._ids = Spool(folder)
        self._repeats = array("q")
        self._empty: set[str] = set()
        self.count = 0
        """Lines that are written."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._ids.__exit__(kind, error, traceback)

    @property
    def manifests(self) -> dict[str, Path]:
        """Manifest by split, those for training first."""
        return {
            split: self._folder / f"{split}.jsonl"
            for split in sorted(self._files, key=_rank)
            if split not in self._empty
        }

    def add(self, split: str, row: ManifestRow, placed: Placed) -> Unusable | None:
        """Write the line of an item, or say why that cannot be done."""
        try:
            line = (json.dumps(line_of(row, placed), ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:
            reason = "its name or text is not valid Unicode; rename the file, or convert the transcript"
            return Unusable(row.where, "not Unicode", reason, row.id)
        if split not in self._files:
            if split == RESERVED:
                raise OptionsError(
                    f"no split may be called {RESERVED}: that file lists unusable items; rename the split"
                )
            self._files[split] = (self._folder / f"{split}.jsonl").open("wb")
            self._offsets[split], self._numbers[split] = 0, len(self._numbers)
        self._ids.add(row.id, place_of(self._numbers[split], self._offsets[split]))
        self._files[split].write(line)
        self._offsets[split] += len(line)
        self.count += 1
        return None

    def repeated(self) -> Iterator[tuple[str, Unusable]]:
        """Yield every line whose id stands on an earlier one, with its split; ``leave_out_repeated`` removes them."""
        self._flush()
        splits = list(self._files)
        for places in self._ids.repeated():
            first = line_at(self._in_order(), int(places[0]))
            for place in map(int, places[1:]):
                line = line_at(self._in_order(), place)
                # equal hashes of different ids are no repetition
                if line["id"] == first["id"]:
                    self._repeats.append(place)
                    where, split = _input(line), splits[split_number(place)]
                    reason = f"the id is that of {_input(first)}, too; give each item its own"
                    yield split, Unusable(where, "repeated id", reason, line["id"])

    def leave_out_repeated(self) -> None:
        """Write manifests again without the lines that ``repeated`` found."""
        self._flush()
        repeats = np.sort(np.frombuffer(self._repeats, dtype=np.int64))
        self.count -= len(repeats)
        for number, (split, path) in enumerate(self._in_order().items()):
            dropped = iter(repeats[split_number(repeats) == number])
            drop = next(dropped, None)
            if drop is None:
                continue
            with replacing(path) as temporary, temporary.open("wb") as file:
                for offset, line in lines_with_places(path):
                    if place_of(number, offset) == drop:
                        drop = next(dropped, None)
                    else:
                        file.write(line)
            if not path.stat().st_size:
                path.unlink()
                self._empty.add(split)

    def _in_order(self) -> dict[str, Path]:
        """Manifests in the order of their numbers."""
        return {split: self._folder / f"{split}.jsonl" for split in self._files}

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()


def line_of(row: ManifestRow, placed: Placed) -> dict[str, Any]:
    """Return the manifest line of an item; what the corpus says beside the usual fields comes last."""
    line: dict[str, Any] = {row.input_field: placed.path}
    duration = row.duration if placed.duration is None else placed.duration
    if duration is not None:
        line["duration"] = duration
    line[row.text_field] = row.text
    if row.speaker is not None:
        line["speaker"] = row.speaker
    line["id"] = row.id
    if placed.sample_rate is not None:
        line["sample_rate"] = placed.sample_rate
    return line | {name: value for name, value in row.fields.items() if name not in line}


def _input(line: dict[str, Any]) -> str:
    return str(next(line[name] for name in INPUT_FIELDS if name in line))


def _rank(split: str) -> tuple[bool, bool, str]:
    """Training first, test last."""
    return is_held_out(split), split.startswith(("test", "eval")), split
