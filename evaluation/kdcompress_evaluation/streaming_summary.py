"""How a variant behaves in a stream: noted row by row in numbers, then summed up."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.percentiles import Percentiles
from kdcompress_evaluation.sampling import difference, draw_manifests
from kdcompress_evaluation.summary import Endpointing, Streaming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.metrics import Metric
    from kdcompress_evaluation.rows import Row, StreamRow
    from kdcompress_evaluation.sampling import Units

_WORD_TIMES = ("manifest", "recogniser")
_IN_TIME, _EARLY, _MISSED = "in time", "early", "missed"


class StreamNumbers:
    """Streams of one variant over one manifest.

    Args:
        metric: decides; counted on the text of the stream and on that of the whole recording.
        size: utterances of the manifest.
    """

    def __init__(self, metric: Metric, size: int) -> None:
        self.metric = metric
        self.tried = np.zeros(size, dtype=np.bool_)
        """(N,): utterances that were streamed."""
        self.statistics = np.zeros((size, len(metric.columns)))
        """(N, K) of the texts of the streams."""
        self.counts: Counter[str] = Counter()
        """Utterances and words by what happened to them."""
        self.seconds: dict[str, array[float]] = {}
        """Times by what they are; first partials and words by whose word times those are."""

    def add(self, rows: Sequence[Row]) -> None:
        """Note the streams of a batch of rows of the recognised utterances."""
        streamed = [(row, row.stream) for row in rows if row.error is None and row.stream is not None]
        if not streamed:
            return
        index = [row.index for row, _ in streamed]
        self.tried[index] = True
        self.statistics[index] = self.metric.statistics(
            [row.reference for row, _ in streamed], [stream.text for _, stream in streamed]
        )
        for row, stream in streamed:
            self.counts["equal"] += row.hypothesis == stream.text
            if row.split_text is not None:
                self.counts["splits"] += 1
                self.counts["splits equal"] += row.split_text == stream.text
            self._note(stream)

    def _note(self, stream: StreamRow) -> None:
        self.counts["revised"] += stream.revised
        self.counts["words"] += stream.words
        self._put("final", [stream.final_seconds])
        if stream.word_times:
            self.counts[stream.word_times] += 1
            self._put(f"emission {stream.word_times}", stream.delays)
            if stream.first_partial is not None:
                self._put(f"first {stream.word_times}", [stream.first_partial])
        if stream.endpoint:
            self.counts[stream.endpoint] += 1
            if stream.endpoint_wait is not None:
                self._put("wait", [stream.endpoint_wait])

    def _put(self, name: str, seconds: Sequence[float]) -> None:
        self.seconds.setdefault(name, array("d")).extend(seconds)


def summarise_streaming(
    parts: Sequence[StreamNumbers],
    whole: Sequence[NDArray[np.float64]],
    units: Units,
    *,
    resamples: int,
    seed: int,
) -> Streaming | None:
    """Sum up the streams of one variant over all manifests; ``None`` when it was never streamed.

    Args:
        parts: by manifest.
        whole: statistics of the same metric on whole recordings, by manifest, (N, K).
        units: of the bootstrap.
        resamples: draws.
        seed: of the draws.
    """
    tried = sum(int(part.tried.sum()) for part in parts)
    if not tried:
        return None
    both = [np.hstack([part.statistics, one])[part.tried] for part, one in zip(parts, whole, strict=True)]
    pooled, _ = draw_manifests(both, units.some([part.tried for part in parts]), resamples=resamples, seed=seed)
    metric = parts[0].metric
    width = len(metric.columns)
    counts = sum((part.counts for part in parts), Counter[str]())
    # Word times of the manifest are the truth; those of the recogniser are its own opinion.
    word_times = next((name for name in _WORD_TIMES if counts[name]), "")
    return Streaming(
        utterances=tried,
        difference=difference(metric, pooled.part(slice(0, width)), pooled.part(slice(width, None))),
        texts_equal=counts["equal"],
        splits=counts["splits"],
        splits_equal=counts["splits equal"],
        first_partial=_percentiles(parts, f"first {word_times}"),
        emission=_percentiles(parts, f"emission {word_times}"),
        word_times=word_times,
        revised=counts["revised"] / counts["words"] if counts["words"] else None,
        final=_percentiles(parts, "final", 1000),
        endpointing=_endpointing(parts, counts),
    )


def _endpointing(parts: Sequence[StreamNumbers], counts: Counter[str]) -> Endpointing | None:
    early, missed = counts[_EARLY], counts[_MISSED]
    tried = counts[_IN_TIME] + early + missed
    if not tried:
        return None
    return Endpointing(utterances=tried, wait=_percentiles(parts, "wait"), early=early, missed=missed)


def _percentiles(parts: Sequence[StreamNumbers], name: str, scale: float = 1.0) -> Percentiles | None:
    found = [np.frombuffer(part.seconds[name]) for part in parts if name in part.seconds]
    return Percentiles.of(np.concatenate(found).tolist(), scale) if found else None
