"""Choosing entries of manifests, and keeping calibration and proof apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress_export.errors import ExportError
from kdcompress_export.inputs import identity
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kdcompress_runtime.manifest import ManifestEntry


def choose_entries(manifest: Path, count: int) -> list[ManifestEntry]:
    """Return ``count`` entries spread evenly over a manifest, or all when it holds fewer.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    entries = list(read_manifest(manifest))
    if len(entries) <= count:
        return entries
    return [entries[index * len(entries) // count] for index in range(count)]


def check_disjoint(calibration: Path, dev: Path) -> None:
    """Refuse to prove int8 on items that its ranges, or the weights, were taken from.

    Raises:
        ExportError: the manifests are the same or share items, by id, by file or by source sentence.
    """
    if manifest_fingerprint(calibration) == manifest_fingerprint(dev):
        raise ExportError(f"{dev} and {calibration} hold the same items; give a dev manifest of others")
    seen = {key for entry in read_manifest(calibration) for key in _keys(entry)}
    shared = [entry.id for entry in read_manifest(dev) if not seen.isdisjoint(_keys(entry))]
    if shared:
        raise ExportError(
            f"{len(shared)} items of {dev} are in {calibration} too, for example {shared[0]!r}; "
            "the proof needs items that calibration did not see: remove them from one of the two"
        )


def _keys(entry: ManifestEntry) -> Iterator[tuple[str, str]]:
    yield "input", identity(entry)
    # Without an id of its own an entry is named by its relative path, which two folders may share.
    if not entry.input.endswith(entry.id):
        yield "id", entry.id
