"""A language model that is asked once for each text: training meets its sentences again in every epoch."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from kdcompress.text_models.text_model import Scores, TextModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

MOST_BYTES = 1 << 29
"""Room for answers unless told otherwise: 512 MiB."""


class Remembering(TextModel):
    """Another model, whose answers are kept; the least recently wanted ones go first when there is no room.

    Args:
        model: who answers.
        most_bytes: room for answers.
    """

    def __init__(self, model: TextModel, most_bytes: int = MOST_BYTES) -> None:
        self.model, self.most_bytes = model, most_bytes
        self.source, self.name, self.kind, self.fingerprint = model.source, model.name, model.kind, model.fingerprint
        self.inventory, self.reads_both_ways, self.state_dim = model.inventory, model.reads_both_ways, model.state_dim
        self.bytes = 0
        """Room taken."""
        self._kept: OrderedDict[tuple[int, ...], Scores] = OrderedDict()

    def score(self, texts: Sequence[Sequence[int]]) -> list[Scores]:
        """See ``TextModel.score``; do not write into what is returned."""
        keys = [tuple(text) for text in texts]
        new = [key for key in dict.fromkeys(keys) if key not in self._kept]
        found = dict(zip(new, self.model.score(new), strict=True)) if new else {}
        for key in dict.fromkeys(keys):
            if key in self._kept:
                self._kept.move_to_end(key)
                found[key] = self._kept[key]
        for key in new:
            self._kept[key] = found[key]
            self.bytes += _bytes(found[key])
        while self.bytes > self.most_bytes:
            self.bytes -= _bytes(self._kept.popitem(last=False)[1])
        return [found[key] for key in keys]

    def to(self, device: torch.device) -> None:
        """See ``TextModel.to``."""
        self.model.to(device)


def _bytes(scores: Scores) -> int:
    """Room that an answer takes."""
    return sum(part.numel() * part.element_size() for part in scores if part is not None)
