"""Losses: pure functions of (log_probs, lengths, targets); one file a family, one line in ``AnyLoss``.

A file holds the function, and the settings that a recipe selects it by. Every loss is a sum over valid frames
divided by the number of valid frames unless it says otherwise, so that weights mean the same whatever the lengths
and whichever frames a method selects.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kdcompress.losses.codebook import CodebookLoss
from kdcompress.losses.cr_ctc import CrCtcLoss
from kdcompress.losses.ctc import CtcLoss
from kdcompress.losses.delay_tolerant import DelayTolerantLoss
from kdcompress.losses.essence import EssenceLoss
from kdcompress.losses.factored_kl import FactoredKlLoss
from kdcompress.losses.feature_match import FeatureMatchLoss
from kdcompress.losses.frame_kl import FrameKlLoss
from kdcompress.losses.guided_ctc import GuidedCtcLoss
from kdcompress.losses.in_place import InPlaceLoss
from kdcompress.losses.inter_ctc import InterCtcLoss, InterKdLoss
from kdcompress.losses.label_interpolation import LabelInterpolationLoss
from kdcompress.losses.lm_head import LmHeadLoss
from kdcompress.losses.nbest import NbestLoss
from kdcompress.losses.occupancy_ctc import OccupancyCtcLoss
from kdcompress.losses.peak_first import PeakFirstLoss
from kdcompress.losses.representation import RepresentationLoss
from kdcompress.losses.skd import SkdLoss
from kdcompress.losses.token_kl import TokenKlLoss

AnyLoss = Annotated[
    CtcLoss
    | FrameKlLoss
    | CrCtcLoss
    | EssenceLoss
    | FactoredKlLoss
    | InPlaceLoss
    | InterCtcLoss
    | InterKdLoss
    | SkdLoss
    | CodebookLoss
    | DelayTolerantLoss
    | FeatureMatchLoss
    | GuidedCtcLoss
    | LabelInterpolationLoss
    | LmHeadLoss
    | NbestLoss
    | OccupancyCtcLoss
    | PeakFirstLoss
    | RepresentationLoss
    | TokenKlLoss,
    Field(discriminator="kind"),
]
"""Every loss there is; a recipe's ``losses`` section selects by ``kind``."""

__all__ = [
    "AnyLoss",
    "CodebookLoss",
    "CrCtcLoss",
    "CtcLoss",
    "DelayTolerantLoss",
    "EssenceLoss",
    "FactoredKlLoss",
    "FeatureMatchLoss",
    "FrameKlLoss",
    "GuidedCtcLoss",
    "InPlaceLoss",
    "InterCtcLoss",
    "InterKdLoss",
    "LabelInterpolationLoss",
    "LmHeadLoss",
    "NbestLoss",
    "OccupancyCtcLoss",
    "PeakFirstLoss",
    "RepresentationLoss",
    "SkdLoss",
    "TokenKlLoss",
]
