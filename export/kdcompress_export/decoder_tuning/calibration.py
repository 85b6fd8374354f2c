"""Fitting the calibration of word confidences, and measuring it honestly.

Isotonic regression (Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability estimates,
KDD 2002) by pooling adjacent violators, on bins of equal mass so that few words make no knot. The error is the
expected calibration error with bins of equal mass (Nixon et al., Measuring calibration in deep learning, 2019).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from kdcompress_export.errors import ExportError
from kdcompress_runtime.confidence import Calibration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ECE_BINS = 10
MAX_KNOTS = 12
_WORDS_A_KNOT = 10
"""A share of fewer words than these is mostly chance."""
_LEAST_WORDS = 50
_PRIOR = 0.5
"""Words right and wrong that every bin is given beforehand (Jeffreys), so that no confidence becomes 0 or 1."""


@dataclass(frozen=True, eq=False)
class JudgedWords:
    """Recognised words: how sure the recogniser was, and whether it was right."""

    raw: NDArray[np.float64]
    """(W,) raw confidences."""
    right: NDArray[np.bool_]
    """(W,) whether each is the word that was said there."""
    item: NDArray[np.int64]
    """(W,) index of the item that each belongs to."""


@dataclass(frozen=True)
class CalibrationReport:
    """How far confidences are from what they claim, in shares from 0 to 1."""

    words: int
    """Words judged."""
    right: float
    """Share of them that was right."""
    ece_raw: float
    """Expected calibration error of raw confidences."""
    ece: float
    """The same after calibration; every word by a calibration that was fitted on the other half."""
    auroc: float | None
    """Area under the ROC curve: how well raw confidences tell right words from wrong; None where all are alike."""
    sure_and_wrong_raw: float
    """Share of wrong words whose raw confidence is 0.99 or more."""
    sure_and_wrong: float
    """The same after calibration."""
    halves: str
    """What the two halves share nothing of: ``speakers`` or ``utterances``."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def right_words(reference: str, words: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which ``words`` are those of the reference in the best alignment of the two."""
    right = np.zeros(len(words), dtype=bool)
    if not words or not reference.split():
        return right
    for chunk in jiwer.process_words(" ".join(reference.split()), " ".join(words)).alignments[0]:
        if chunk.type == "equal":
            right[chunk.hyp_start_idx : chunk.hyp_end_idx] = True
    return right


def fit_calibration(raw: NDArray[np.float64], right: NDArray[np.bool_], max_knots: int = MAX_KNOTS) -> Calibration:
    """Fit a monotone map from raw confidences to the share of such words that was right.

    Args:
        raw: (W,) in [0, 1].
        right: (W,) whether each word was right.
        max_knots: most knots.

    Raises:
        ExportError: there is no word.
    """
    if not len(raw):
        raise ExportError("no word was recognised, so there is nothing to calibrate; check the model and the manifest")
    order = np.argsort(raw, kind="stable")
    bins = int(np.clip(len(raw) // _WORDS_A_KNOT, 1, max_knots))
    pooled: list[tuple[float, float, float]] = []  # words, sum of raw, words that were right
    for part in np.array_split(order, bins):
        here = (float(len(part)), float(raw[part].sum()), float(right[part].sum()))
        while pooled and (_share(pooled[-1]) >= _share(here) or _place(pooled[-1]) >= _place(here)):
            before = pooled.pop()
            here = (before[0] + here[0], before[1] + here[1], before[2] + here[2])
        pooled.append(here)
    return Calibration(tuple(map(_place, pooled)), tuple(map(_share, pooled)))


def _place(pool: tuple[float, float, float]) -> float:
    return round(min(1.0, pool[1] / pool[0]), 6)


def _share(pool: tuple[float, float, float]) -> float:
    return round((pool[2] + _PRIOR) / (pool[0] + 2 * _PRIOR), 6)


def apply(calibration: Calibration, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Calibrated confidences (W,)."""
    return np.array([calibration(value) for value in raw.tolist()], dtype=np.float64)


def expected_calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = ECE_BINS
) -> float:
    """Mean distance between confidence and share of right words over bins of equal mass; 0 for no words."""
    if not len(confidence):
        return 0.0
    # ties are broken by nothing that depends on being right: they all get the mean of their group
    order = np.argsort(confidence, kind="stable")
    _, group = np.unique(confidence, return_inverse=True)
    shares = (np.bincount(group, weights=right) / np.bincount(group))[group]
    gaps = [
        len(part) * abs(confidence[part].mean() - shares[part].mean())
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return float(sum(gaps) / len(confidence))


def area_under_roc(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float | None:
    """Probability that a right word is surer than a wrong one, ties counted half; None without both kinds."""
    good, bad = np.sort(confidence[right]), np.sort(confidence[~right])
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(bad, good, side="left") + np.searchsorted(bad, good, side="right")
    return float(below.sum() / (2 * len(good) * len(bad)))


def split_in_halves(speakers: Sequence[str | None], sizes: Sequence[int], seed: int) -> tuple[NDArray[np.bool_], str]:
    """Divide items into two halves of about equal size that share no speaker, where speakers are known.

    Args:
        speakers: of each item.
        sizes: words of each item.
        seed: of the order in which ties are dealt out.

    Returns:
        (N,) whether each item is in the first half, and what the halves share nothing of.
    """
    known = {speaker for speaker in speakers if speaker is not None}
    by_speaker = len(known) > 1 and None not in speakers
    groups = [str(speaker) if by_speaker else str(index) for index, speaker in enumerate(speakers)]
    names, index = np.unique(groups, return_inverse=True)
    weights = np.bincount(index, weights=np.asarray(sizes, dtype=np.float64))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    first, totals = np.zeros(len(names), dtype=bool), [0.0, 0.0]
    for name in shuffled[np.argsort(-weights[shuffled], kind="stable")]:  # the largest first, each to the lighter half
        half = int(totals[0] > totals[1])
        first[name] = half == 0
        totals[half] += weights[name]
    return first[index], "speakers" if by_speaker else "utterances"


def cross_validate(words: JudgedWords, speakers: Sequence[str | None], seed: int = 0) -> CalibrationReport:
    """Measure what calibration brings to words it was not fitted on.

    Raises:
        ExportError: there are too few words.
    """
    if len(words.raw) < _LEAST_WORDS:
        raise ExportError(
            f"{len(words.raw)} words were recognised, and {_LEAST_WORDS} are the least to calibrate on; "
            "give a larger manifest"
        )
    halves, kind = split_in_halves(speakers, np.bincount(words.item, minlength=len(speakers)).tolist(), seed)
    first = halves[words.item]
    calibrated = np.zeros(len(words.raw))
    for here in (first, ~first):
        fitted = fit_calibration(words.raw[~here], words.right[~here])
        calibrated[here] = apply(fitted, words.raw[here])
    return CalibrationReport(
        words=len(words.raw),
        right=float(words.right.mean()),
        ece_raw=expected_calibration_error(words.raw, words.right),
        ece=expected_calibration_error(calibrated, words.right),
        auroc=area_under_roc(words.raw, words.right),
        sure_and_wrong_raw=_sure(words.raw, ~words.right),
        sure_and_wrong=_sure(calibrated, ~words.right),
        halves=kind,
    )


def _sure(confidence: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    return float((confidence[wrong] >= 0.99).mean()) if wrong.any() else 0.0
