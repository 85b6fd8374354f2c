"""Which label of the reference each frame belongs to (S-CTC, Huang et al., Interspeech 2018): 8 bytes a frame.

A frame lies on one label, or on the border of two; what these two leave is blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional as F  # noqa: N812

from kdcompress.labels.kinds.base import LabelKind, Layout, frames_of, posteriors, stacked
from kdcompress.occupancy import label_occupancy
from kdcompress.teachers.teacher import Said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.labels.kinds.base import Arrays, Reference
    from kdcompress.losses.base import Answer

NEIGHBOURS = 2
"""Labels kept in each frame."""


class Occupancy(LabelKind):
    """Places in the reference ``(T, 2)`` uint16 and probabilities ``(T, 2)`` float16.

    An item whose reference the teacher cannot align has none.
    """

    needs: ClassVar[tuple[Answer, ...]] = ("log_probs",)
    gives: ClassVar[Answer] = "occupancy"
    needs_reference: ClassVar[bool] = True

    def __init__(self) -> None:
        self.layout = {
            "places": Layout("frames", "<u2", (NEIGHBOURS,)),
            "probabilities": Layout("frames", "<f2", (NEIGHBOURS,)),
        }

    def encode(self, said: Said, reference: Reference) -> list[Arrays]:
        """See ``LabelKind.encode``."""
        labels = (reference.labels, reference.label_lens, reference.blank_id)
        occupancy = label_occupancy(posteriors(said), said.frame_lens, *labels)
        # a reference of one label, or of none, has no second
        occupancy = F.pad(occupancy, (0, max(0, NEIGHBOURS - occupancy.shape[2])))
        probabilities, places = occupancy.topk(NEIGHBOURS, dim=2)
        rows = zip(frames_of(places, said.frame_lens), frames_of(probabilities.half(), said.frame_lens), strict=True)
        return [{"places": which.astype("<u2"), "probabilities": much} for which, much in rows]

    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:
        """See ``LabelKind.decode``."""
        device = frame_lens.device
        places = stacked([item["places"] for item in items], device, torch.int64)
        probabilities = stacked([item["probabilities"] for item in items], device, torch.float32)
        highest = int(places[probabilities > 0].max()) if bool((probabilities > 0).any()) else 0
        empty = torch.zeros((*places.shape[:2], max(labels, highest + 1)), device=device)
        # what is improbable may point behind a reference of one label
        places = places.clamp(max=empty.shape[2] - 1)
        return Said(frame_lens, occupancy=empty.scatter_add_(2, places, probabilities))
