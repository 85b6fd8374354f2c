"""Which metrics a task has; each is a function of sums of per-utterance statistics, so that it can be resampled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricInfo:
    """One metric, for tables and verdicts."""

    name: str
    """Key: ``wer``, ``cer``, ``ser``, ``chrf``, ``bleu``."""
    short: str
    """Heading: ``WER``."""
    title: str
    """In words: ``word error rate``."""
    unit: str
    """Behind the value times 100: ``%``, or nothing for a score."""
    lower_is_better: bool
    """Error rates: yes. chrF, BLEU: no."""
    scorer: str
    """What computed it, with version: ``jiwer 4.0.0``."""
