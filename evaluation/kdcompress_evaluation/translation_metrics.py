"""chrF and BLEU: sacrebleu's own statistics of each segment, and its formulas over many sums at once.

Popovic, chrF: character n-gram F-score for automatic MT evaluation, WMT 2015; Papineni and others, BLEU, ACL 2002;
Post, A call for clarity in reporting BLEU scores, WMT 2018. sacrebleu scores one corpus at a time in Python; resampling
wants thousands of sums, so the last step, from sums to a score, is written here for arrays, and tests hold it equal to
``corpus_score``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kdcompress_evaluation.metrics import Metric, MetricInfo
from kdcompress_runtime.errors import MissingDependencyError

try:
    import sacrebleu
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "chrF and BLEU are scored by sacrebleu, which is not installed; run `pip install 'kdcompress[eval]'`"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ORDERS = 4
"""Of BLEU's n-grams."""


class _SacreBleu(Metric):
    """What chrF and BLEU share."""

    def __init__(self, name: str, short: str, title: str, scorer: BLEU | CHRF) -> None:
        # Scoring something makes the number of references known, which the signature wants.
        scorer.corpus_score(["a"], [["a"]])
        signed = f"sacrebleu {sacrebleu.__version__}, {scorer.get_signature()}"
        super().__init__(MetricInfo(name=name, short=short, title=title, unit="", lower_is_better=False, scorer=signed))
        self._scorer = scorer

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> NDArray[np.float64]:
        """Return sacrebleu's sufficient statistics of each segment: (N, K)."""
        if not references:
            return np.zeros((0, len(self.columns)))
        # The statistics have no public name; without them every draw of the bootstrap would count n-grams again.
        found = self._scorer._extract_corpus_statistics(hypotheses, [references])  # noqa: SLF001
        return np.array(found, dtype=float)


class ChrF(_SacreBleu):
    """chrF: F-score (beta 2) of character n-grams, averaged over orders 1 to 6."""

    columns: ClassVar = tuple(f"{kind}_{n}" for n in range(1, 7) for kind in ("hypothesis", "reference", "match"))

    def __init__(self) -> None:
        super().__init__("chrf", "chrF", "character n-gram F-score", CHRF())

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the F-score of the mean precision and mean recall over the orders that both sides have."""
        hypothesis, reference, match = (sums[..., start::3] for start in range(3))
        both = (hypothesis > 0) & (reference > 0)
        orders = np.maximum(both.sum(axis=-1), 1)
        precision = np.where(both, match / np.maximum(hypothesis, 1), 0.0).sum(axis=-1) / orders
        recall = np.where(both, match / np.maximum(reference, 1), 0.0).sum(axis=-1) / orders
        weight = CHRF.BETA**2
        below = weight * precision + recall
        score = (1 + weight) * precision * recall / np.where(below > 0, below, 1.0)
        return np.where(reference[..., 0] > 0, score, np.nan)


class Bleu(_SacreBleu):
    """BLEU with sacrebleu's defaults: 13a tokens, 4-grams, exponential smoothing, the whole text as one."""

    columns: ClassVar = (
        "hypothesis", "reference",
        *(f"match_{n}" for n in range(1, _ORDERS + 1)), *(f"total_{n}" for n in range(1, _ORDERS + 1)),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__("bleu", "BLEU", "BLEU", BLEU())

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the geometric mean of the n-gram precisions times the brevity penalty."""
        length, reference = sums[..., 0], sums[..., 1]
        match, total = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
        # The k-th order without a match counts as 1 / 2^k matches.
        missing = np.cumsum(match == 0, axis=-1)
        smoothed = np.where(match > 0, match, 0.5**missing)
        usable = match.any(axis=-1) & (total > 0).all(axis=-1)
        logs = np.log(smoothed / np.where(total > 0, total, 1.0)).mean(axis=-1)
        brevity = np.minimum(0.0, 1.0 - reference / np.where(length > 0, length, 1.0))
        score = np.where(usable, np.exp(logs + brevity), 0.0)
        return np.where(reference > 0, score, np.nan)
