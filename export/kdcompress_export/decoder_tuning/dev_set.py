"""What a decoder is tuned on: log-probabilities of the dev items, computed once and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from kdcompress_export.error_rates import References, describe_references
from kdcompress_export.inputs import identity, inputs_of
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest
from kdcompress_runtime.recognizer import Recognizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kdcompress_export.inputs import Inputs
    from kdcompress_runtime.manifest import ManifestEntry
    from kdcompress_runtime.model import CtcModel


@dataclass(frozen=True, eq=False)
class DevSet:
    """The items of a manifest and what the model says to them."""

    manifest: Path
    """JSONL."""
    ids: tuple[str, ...]
    """By item."""
    texts: tuple[str, ...]
    """What was said."""
    speakers: tuple[str | None, ...]
    """Who said it, where the manifest tells."""
    log_probs: tuple[NDArray[np.float32], ...]
    """Natural-log probabilities ``(T, C)`` of each."""
    references: References
    """Counts of what was said."""

    @property
    def frames(self) -> int:
        """Frames in all."""
        return sum(map(len, self.log_probs))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that decoding and scoring depend on."""
        found = hashlib.sha256(json.dumps([self.ids, self.texts]).encode())
        for one in self.log_probs:
            found.update(str(one.shape).encode() + one.tobytes())
        return found.hexdigest()


def read_dev_set(
    model: CtcModel,
    model_sha256: str,
    manifest: Path,
    *,
    work: Path | None = None,
    limit: int | None = None,
    on_item: Callable[[int, int], None] | None = None,
) -> DevSet:
    """Run the model over the first ``limit`` items of a manifest (all when left out).

    Args:
        model: the acoustic model.
        model_sha256: of its file.
        manifest: JSONL.
        work: folder that keeps what was computed, so that an interrupted call goes on where it was.
        limit: most items.
        on_item: called after each item with how many are done and how many there are.

    Raises:
        ManifestError: the manifest cannot be read, or no item of it says anything.
        AudioError, ImageError, SourceTextError: an input cannot be read.
    """
    entries = list(islice(read_manifest(manifest), limit))
    if not any(entry.text.split() for entry in entries):
        raise ManifestError(f"{manifest}: no item has a text, so there is nothing to tune on")
    recognizer, fed = Recognizer(model), inputs_of(model)
    log_probs = []
    for done, entry in enumerate(entries, 1):
        path = None if work is None else work / f"{_key(model_sha256, entry)}.npy"
        log_probs.append(_log_probs(recognizer, fed, entry, path))
        if on_item:
            on_item(done, len(entries))
    return DevSet(
        manifest=manifest,
        ids=tuple(entry.id for entry in entries),
        texts=tuple(entry.text for entry in entries),
        speakers=tuple(entry.speaker for entry in entries),
        log_probs=tuple(log_probs),
        references=describe_references(manifest_fingerprint(manifest), [entry.text for entry in entries], fed.counted),
    )


def _log_probs(recognizer: Recognizer, fed: Inputs, entry: ManifestEntry, path: Path | None) -> NDArray[np.float32]:
    classes = len(recognizer.vocabulary)
    kept = None if path is None else _read(path, classes)
    if kept is not None:
        return kept
    found = recognizer.log_probs(*fed.asked(entry))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, found)
        partial.replace(path)
    return found


def _key(model_sha256: str, entry: ManifestEntry) -> str:
    """Name of what follows from this model and this file as it is now, or this sentence."""
    path = Path(entry.input)
    state = path.stat() if entry.kind != "text" and path.is_file() else None
    file = (identity(entry), *((state.st_size, state.st_mtime_ns) if state is not None else ()))
    text = json.dumps([model_sha256, onnxruntime.__version__, *file])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _read(path: Path, classes: int) -> NDArray[np.float32] | None:
    """What was kept, None where there is nothing or nothing of use."""
    try:
        found: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.float32 and found.ndim == 2 and found.shape[1] == classes else None
