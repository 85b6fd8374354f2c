"""How each kind of label is stored and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.labels.kinds.codebook import Codebook
from kdcompress.labels.kinds.full import Full
from kdcompress.labels.kinds.nbest import Nbest
from kdcompress.labels.kinds.occupancy import Occupancy
from kdcompress.labels.kinds.top_k import TopK
from kdcompress.labels.kinds.units import Units
from kdcompress.labels.settings import CodebookLabels, FullLabels, NbestLabels, TextLabels, TopKLabels

if TYPE_CHECKING:
    from torch import Tensor

    from kdcompress.labels.kinds.base import LabelKind
    from kdcompress.labels.settings import AnyLabels


def label_kind(settings: AnyLabels, num_tokens: int, centroids: Tensor | None = None) -> LabelKind:
    """Build the kind that ``settings`` ask for.

    Args:
        settings: the ``label`` section of a recipe.
        num_tokens: of the teacher, blank included.
        centroids: fitted codebooks ``(C, K, D)``, where codes are to be made.
    """
    if isinstance(settings, FullLabels):
        return Full(num_tokens)
    if isinstance(settings, TopKLabels):
        return TopK(num_tokens, settings.top_k)
    if isinstance(settings, CodebookLabels):
        return Codebook(settings.codebooks, settings.teacher_layer, centroids)
    if isinstance(settings, NbestLabels):
        return Nbest(num_tokens, settings.size, settings.beam_width)
    if isinstance(settings, TextLabels):
        return Units(num_tokens - 1, settings.top_k, states=settings.states)
    return Occupancy()
