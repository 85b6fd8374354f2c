"""What an adapter is: a function that reads one kind of corpus and yields its items, one at a time.

The writer, the splits, the rules for texts and the report are shared (``writing``, ``splits``, ``texts``, ``report``);
another kind of corpus, of images or of sentence pairs too, needs only another adapter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kdcompress.errors import DataNotFoundError


@dataclass(frozen=True)
class RawSamples:
    """Samples without a header: 16-bit integers, one channel."""

    sample_rate: int
    """Hz."""
    byte_order: Literal["LITTLE", "BIG"]


@dataclass(frozen=True)
class ManifestRow:
    """One item as the corpus describes it; the writer checks its input and its text."""

    id: str
    """The corpus's own name of the item; must not be repeated."""
    input: str
    """Absolute path of the file, or the source sentence."""
    text: str
    """Reference as the corpus has it."""
    where: str
    """Place in the corpus, for messages."""
    speaker: str | None = None
    duration: float | None = None
    """Seconds, where the corpus says so."""
    start: float | None = None
    """Seconds into the file, where the item may be a piece of it."""
    piece: bool = False
    """It is certainly not the whole file; where this is not known, the file's header tells."""
    channel: int | None = None
    """Which channel of the file, from 0; the mean of all when left out."""
    raw: RawSamples | None = None
    """How to read a file without a header."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What else the corpus says: gender, age, accent; JSON values."""
    input_field: Literal["audio_filepath", "image_filepath", "source"] = "audio_filepath"
    text_field: Literal["text", "target"] = "text"


@dataclass(frozen=True)
class Unusable:
    """An item that cannot be used, and why."""

    where: str
    """Place in the corpus."""
    kind: str
    """What sort of problem it is, in two or three words; the report counts them."""
    reason: str
    """What is wrong and what to do."""
    id: str = ""
    """Name of the item, where it has one."""


Found = tuple[str | None, ManifestRow | Unusable]
"""The split that the corpus names, if it names one, and the item."""


@dataclass(frozen=True)
class Source:
    """Where a corpus lies and how to read it."""

    path: Path
    """Its folder or, where a corpus is one file, that file; absolute."""
    without_texts: bool = False
    """Take audio without transcripts; every text is empty."""
    audio_root: Path | None = None
    """Where relative paths of the corpus start."""
    speaker_folders: bool = False
    """The folder of a file names its speaker; for plain folders."""
    splits: tuple[str, ...] = ()
    """Splits that are asked for; all when empty. Adapters may leave others unread."""
    output: Path | None = None
    """Folder that is being made; not a part of the corpus, even if it lies in it."""

    def wants(self, split: str) -> bool:
        """Whether a split of the corpus is asked for."""
        return not self.splits or split in self.splits


Adapter = Callable[[Source], Iterator[Found]]


class PathFinder:
    """Makes paths of a corpus absolute: they start at one of several folders, tried in order."""

    def __init__(self, source: Source, *folders: Path) -> None:
        starts = [source.audio_root] if source.audio_root else [*folders, Path.cwd()]
        self._folders = list(map(str, starts))

    def __call__(self, path: str) -> str:
        """Return the path below the first folder that has it, else below the first folder."""
        # no pathlib: this is done for every item, and it would take most of the time
        if os.path.isabs(path):  # noqa: PTH117
            return path
        for folder in self._folders:
            found = os.path.join(folder, path)  # noqa: PTH118
            if os.path.exists(found):  # noqa: PTH110
                # what was found once is tried first from now on
                self._folders.remove(folder)
                self._folders.insert(0, folder)
                return found
        return os.path.join(self._folders[0], path)  # noqa: PTH118


def check_folder(path: Path, what: str) -> None:
    """Refuse a path that is no folder.

    Raises:
        DataNotFoundError: it is missing or a file.
    """
    if not path.is_dir():
        found = "it is a file" if path.exists() else "there is no such folder"
        raise DataNotFoundError(f"no {what} at {path}: {found}; check the path")


def stated(**fields: str | float | None) -> dict[str, Any]:
    """Return the fields that say something: neither None nor an empty text."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}
