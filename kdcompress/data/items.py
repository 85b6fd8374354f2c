"""Manifest -> items that can be trained on, checked before the first update."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.data.text import Encoder, frames_needed
from kdcompress.errors import TargetTooLongError
from kdcompress_runtime.errors import AudioError, ManifestError
from kdcompress_runtime.manifest import ManifestEntry, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.data.text import Units
    from kdcompress_runtime.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One entry of a manifest with its labels and its length."""

    entry: ManifestEntry
    number: int
    """Place among the entries of the manifest, from 0; stored labels are found by it."""
    labels: tuple[int, ...]
    """Token ids of the reference."""
    units: int
    """Approximate length in input units (samples), for bucketing."""
    min_units: int
    """Shortest input that the reference still fits in."""


def load_items(
    manifest: Path,
    vocabulary: Vocabulary,
    *,
    text_units: Units,
    units_per_second: int,
    units_per_frame: int,
    max_duration: float,
    on_unusable: str,
    seconds: Callable[[ManifestEntry], float],
) -> list[Item]:
    """Read a manifest and keep what can be trained on.

    Args:
        manifest: JSONL file.
        vocabulary: encodes the references.
        text_units: what one token is: ``characters``, ``words`` or ``subwords``.
        units_per_second: input units (samples) in a second.
        units_per_frame: input units for an output frame.
        max_duration: longest item in seconds.
        on_unusable: ``error``, or ``skip`` with a warning that counts.
        seconds: length of an entry whose line does not tell.

    Raises:
        TargetTooLongError: a reference needs more frames than its input has (``on_unusable`` is ``error``).
        AudioError: an item is too long (likewise).
        ManifestError, VocabularyError: the manifest or a text cannot be used; or nothing is left.
    """
    items: list[Item] = []
    skipped = 0
    encode = Encoder(vocabulary, text_units)
    for number, entry in enumerate(read_manifest(manifest)):
        labels = encode(entry.text, where=f"{manifest}, item {entry.id}")
        duration = seconds(entry) if entry.duration is None else entry.duration
        length = round(duration * units_per_second)
        item = Item(entry, number, labels, length, frames_needed(labels) * units_per_frame)
        problem = _problem(item, duration, max_duration, units_per_frame)
        if problem is None:
            items.append(item)
        elif on_unusable == "skip":
            skipped += 1
        else:
            remedy = "correct the manifest, or set data.on_unusable to skip"
            raise type(problem)(f"{manifest}, item {entry.id}: {problem}; {remedy}")
    if skipped:
        logger.warning(
            "%s: left out %d of %d items that are too long or do not fit", manifest, skipped, skipped + len(items)
        )
    if not items:
        raise ManifestError(f"{manifest}: no item is left; all {skipped} are too long or have too long references")
    return items


def _problem(item: Item, duration: float, max_duration: float, units_per_frame: int) -> Exception | None:
    if duration > max_duration:
        return AudioError(f"{duration:.1f} s is longer than data.max_duration {max_duration:.1f} s")
    frames = -(-item.units // units_per_frame)
    if frames * units_per_frame < item.min_units:
        needed = item.min_units // units_per_frame
        return TargetTooLongError(f"the reference needs {needed} frames, the input has {frames}")
    return None
