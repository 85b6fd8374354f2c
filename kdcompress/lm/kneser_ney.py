"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman, TR-10-98, Harvard 1998), as KenLM's lmplz has it.

Heafield et al., "Scalable modified Kneser-Ney language model estimation", ACL 2013, give the estimation in steps; this
file takes the same steps in memory. Taken: three discounts a length from counts of counts, interpolation down to the
uniform distribution, ``<unk>`` as a word that was never seen, pruning whose mass goes to the back-off. Not taken:
streaming over disks, and a slip: at the end of its stream lmplz counts the last n-gram of each length as often as it
stands there, where smoothing wants different words before it. Only discounts of few distinct n-grams show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_runtime.errors import LanguageModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.lm.counts import Grams

Discounts = tuple[float, float, float]
"""Subtracted from adjusted counts of 1, of 2, and of 3 and more."""
UNK_ID, BOS_ID, EOS_ID = 0, 1, 2


@dataclass(frozen=True)
class Smoothed:
    """N-grams of one length with their probabilities; all arrays are (count,), in the order of ``Grams``."""

    log10_probs: NDArray[np.float64]
    """Log10 P(last word | the words before it)."""
    log10_backoffs: NDArray[np.float64]
    """Log10 of what is left to shorter contexts after this n-gram; 0 where nothing follows it."""
    kept: NDArray[np.bool_]
    """Whether it is part of the model; pruned ones are not."""
    discounts: Discounts
    """What was subtracted."""
    fallback: bool
    """Whether these are the fallback, because the text gives none."""


def smooth(
    grams: Sequence[Grams],
    *,
    thresholds: Sequence[int],
    allowed: NDArray[np.bool_] | None = None,
    interpolate_unigrams: bool = True,
    fallback: Discounts | None = None,
) -> list[Smoothed]:
    """Estimate a model from counts.

    Args:
        grams: n-grams of length 1, 2 and so on (``count_grams``).
        thresholds: for each length, the highest count that is pruned; 0 prunes nothing. Must not fall.
        allowed: for each word, whether the model may hold it; n-grams with others are pruned. (V,)
        interpolate_unigrams: unigrams are interpolated with the uniform distribution, so that ``<unk>`` is as likely
            as any word that was seen nowhere; else it gets all that the discounts of unigrams give.
        fallback: discounts where counts of counts give none.

    Raises:
        LanguageModelError: counts of counts give no discounts, and there is no fallback.
    """
    result: list[Smoothed] = []
    below = np.zeros(1)
    inside = np.ones(1, bool)
    weights: list[NDArray[np.float64]] = []
    for length, (gram, threshold) in enumerate(zip(grams, thresholds, strict=True), start=1):
        if allowed is not None:
            inside = inside[gram.context] & allowed[gram.word]
        kept = (gram.count > threshold) & (inside if allowed is not None else True)
        if length == 1:
            kept[[UNK_ID, BOS_ID, EOS_ID]] = True
            below[0] = 1.0 / (np.count_nonzero(kept) - 1)  # the uniform distribution; <s> is predicted nowhere
        discounts, fell_back = _discounts(gram.adjusted, length, fallback)
        share, weight = _shares(gram, kept, discounts, contexts=len(below))
        if length == 1 and not interpolate_unigrams:
            probs = share
            probs[UNK_ID] = weight[0]
        else:
            probs = share + weight[gram.context] * below[gram.lower]
        if length == 1:
            probs[BOS_ID] = 1.0
        weights.append(weight)
        # what is pruned is asked for by nobody: what contains it was pruned, too
        result.append(Smoothed(_log10(probs), np.zeros(0), kept, discounts, fell_back))
        below = probs
    for index, row in enumerate(result):
        after = _log10(weights[index + 1]) if index + 1 < len(result) else np.zeros(len(row.kept))
        result[index] = Smoothed(row.log10_probs, after, row.kept, row.discounts, row.fallback)
    return result


def _shares(
    gram: Grams, kept: NDArray[np.bool_], discounts: Discounts, contexts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Discounted relative frequency of each n-gram, and what each context leaves to shorter ones."""
    subtracted = np.array([0.0, *discounts])[np.minimum(gram.adjusted, 3)]
    total = np.bincount(gram.context, gram.adjusted, contexts)
    total_or_1 = np.where(total > 0, total, 1.0)
    freed = np.bincount(gram.context, np.where(kept, subtracted, gram.adjusted), contexts)
    weight = np.where(total > 0, freed / total_or_1, 1.0)
    return (gram.adjusted - subtracted) / total_or_1[gram.context], weight


def _discounts(adjusted: NDArray[np.int64], length: int, fallback: Discounts | None) -> tuple[Discounts, bool]:
    """Discounts from how many n-grams have an adjusted count of 1, 2, 3 and 4 (equation 26 of Chen and Goodman)."""
    times = np.bincount(adjusted[adjusted < 5], minlength=5).astype(float)
    problem = None
    found: Discounts = (0.0, 0.0, 0.0)
    if (times[1:4] == 0).any():
        problem = f"no {length}-gram has an adjusted count of {1 + int(np.argmin(times[1:4]))}"
    else:
        ratio = times[1] / (times[1] + 2 * times[2])
        found = (
            float(1 - 2 * ratio * times[2] / times[1]),
            float(2 - 3 * ratio * times[3] / times[2]),
            float(3 - 4 * ratio * times[4] / times[3]),
        )
        if any(not 0 <= discount <= most for most, discount in enumerate(found, start=1)):
            problem = f"the counts of {length}-grams give discounts that make no sense: {found}"
    if problem is None:
        return found, False
    if fallback is None:
        raise LanguageModelError(
            f"Kneser-Ney discounts cannot be computed: {problem}. The text is small, or each sentence stands in it "
            "many times, or its units are few: take a larger text, take repeated sentences out, lower the order, "
            "or give fallback discounts (0.5, 1 and 1.5 are usual)"
        )
    return fallback, True


def _log10(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log10 of shares; rounding may have brought one above 1, and none may be minus infinity."""
    return np.asarray(np.log10(np.clip(values, 1e-99, 1.0)))
