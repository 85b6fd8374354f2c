"""Manifests of an evaluation, checked before anything is recognised."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from kdcompress_evaluation.summary import ManifestInfo
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kdcompress_runtime.manifest import ManifestEntry


def plan_manifest(name: str, path: Path) -> ManifestInfo:
    """Read a manifest once from end to end, before anything is recognised.

    Raises:
        ManifestError: it is missing or empty, a line is broken, two lines share an id, or no bundle takes its items.
    """
    seen: set[str] = set()
    for entry in read_entries(path):
        if entry.kind == "features":
            raise ManifestError(
                f"{path}: its items are frames of features, which no bundle takes; evaluate on recordings, or measure "
                "the run itself: data.dev of a recipe"
            )
        if entry.id in seen:
            raise ManifestError(
                f"{path}: the id {entry.id!r} appears twice; give every line its own `id` (rows are kept by id)"
            )
        seen.add(entry.id)
    return ManifestInfo(name=name, path=str(path), fingerprint=manifest_fingerprint(path), utterances=len(seen))


def read_entries(path: str | Path) -> Iterator[ManifestEntry]:
    """Yield the entries of a manifest; sentences that have no ids of their own and repeat are numbered from the second.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    seen: Counter[str] = Counter()
    for entry in read_manifest(path):
        if entry.kind == "text" and entry.id == entry.input:
            seen[entry.id] += 1
            if seen[entry.id] > 1:
                yield replace(entry, id=f"{entry.id} ({seen[entry.id]})")
                continue
        yield entry


def audio_seconds(path: str) -> float | None:
    """Length of a recording as its header says; ``None`` where it cannot be read."""
    try:
        soundfile = importlib.import_module("soundfile")
        return float(soundfile.info(path).duration)
    except (ImportError, RuntimeError, OSError):  # the worker tries to read it, and says what is wrong
        return None
