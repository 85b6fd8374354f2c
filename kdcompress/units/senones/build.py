"""From a manifest and its alignment to senones, and what is worth knowing of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.data.text import wording
from kdcompress.units.senones.figures import Figures, figures_of, seen
from kdcompress.units.senones.growing import MIN_FRAMES, Growth, grow
from kdcompress.units.senones.inventory import SenoneInventory
from kdcompress.units.senones.moments import Statistics  # noqa: TC001 (a NamedTuple shows it)
from kdcompress.units.senones.statistics import Division, aligned_frames, gathered
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdcompress.aligning.aligned import Aligned
    from kdcompress.units.inventory import Inventory
    from kdcompress.units.senones.frames import FrameReader


class Built(NamedTuple):
    """Senones, and how they came to be."""

    inventory: SenoneInventory
    growth: Growth
    statistics: Statistics
    figures: Figures


def build_senones(
    manifest: Path,
    alignment: Iterable[Aligned],
    phones: Inventory,
    read: FrameReader,
    *,
    count: int,
    division: Division | None = None,
    min_frames: float = MIN_FRAMES,
    source: str = "alignment",
) -> Built:
    """Tie the states of phones in context.

    Args:
        manifest: what was aligned.
        alignment: items in the order of the manifest, each once; ``read_alignments`` gives them.
        phones: its symbols are the units of the alignment.
        read: frames of an entry, such as ``audio_reader``.
        count: senones; see ``grow``.
        division: states of a phone, length of a frame, pause.
        min_frames: fewest frames of a senone that a split makes.
        source: names the alignment in messages.

    Raises:
        ManifestError: manifest and alignment do not belong together, or nothing is aligned.
        VocabularyError: the alignment has other units than ``phones``.
        OptionsError: ``count`` or ``min_frames`` is not positive.
    """
    items = aligned_frames(manifest, alignment, read, source)
    statistics = gathered(items, phones.symbols, division or Division(), source)
    growth = grow(statistics, count, min_frames=min_frames)
    return Built(SenoneInventory(phones, growth.tree), growth, statistics, figures_of(growth, statistics))


def unseen_share(phones: Inventory, manifest: Path, statistics: Statistics) -> float:
    """Share of the phones of a manifest's texts whose context was never seen in training; 0 of none."""
    silence, parts = len(phones.symbols), []
    for number, entry in enumerate(read_manifest(manifest), start=1):
        ids = phones.spell(wording(entry), f"{manifest}, entry {number}").ids
        padded = np.array([silence, *ids, silence], dtype=np.int64)
        parts.append(np.stack([padded[:-2], padded[1:-1], padded[2:]], axis=1))
    known = seen(np.concatenate(parts), statistics)
    return float(1 - known.mean()) if len(known) else 0.0
