"""The proof of a sherpa-onnx folder: its graphs against the bundle, against each other, and small against float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from kdcompress_export.errors import ParityError
from kdcompress_export.prove import split_atol
from kdcompress_export.streams import run_pieces, speech_like_noise
from kdcompress_export.targets.sherpa_features import LOG_FLOOR, kaldi_features
from kdcompress_export.targets.sherpa_layout import LATE_FEATURES
from kdcompress_export.targets.sherpa_sessions import OfflineGraph, StreamingGraph
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress_export.streams import Samples
    from kdcompress_runtime.model import CtcModel

    LogProbs = Sequence[NDArray[np.float32]]

PROBE_SECONDS = (0.02, 1.115, 2.345, 6.0)
"""Lengths of the probe recordings: shorter than a frame to longer than any context; one batch."""
MAX_FEATURE_DIFF = 0.01
"""Allowed mean difference in nats between the bundle's features and Kaldi's; windows half a hop apart give ten times
as much."""
_SILENCE = 0.1


@dataclass(frozen=True)
class Proof:
    """Differences on the probe recordings, in nats, and their limits."""

    bundle: float
    """Offline graph against the bundle on the same features: largest difference of a log-probability."""
    streaming: float
    """Streaming graph against offline graph: likewise."""
    batch: float
    """Both graphs, four recordings at once against one at a time: likewise."""
    features: float
    """The bundle's own features against Kaldi's: mean difference."""
    atol: float
    """Limit of the first three."""
    frames: int
    """Frames compared."""


@dataclass(frozen=True)
class ProbeAgreement:
    """A smaller precision against float32 on the probe's features."""

    argmax_agreement: float
    """Share of the frames with the same best label."""
    mean_abs_diff: float
    """Mean difference in nats, weighted with the probability in float32."""
    frames: int
    """Frames compared."""


def prove(precision: str, offline: bytes, streaming: bytes, frontend: bytes, model: CtcModel) -> Proof:
    """Compare the graphs of a precision with the bundle's model, and with each other.

    The probe recordings are framed by silence, so that what differs by design, Kaldi's mirrored edges, does not show.

    Raises:
        ParityError: something differs by more than its limit.
        TargetError: a graph is not one that sherpa-onnx can run.
    """
    rate, bins = model.metadata.input.sample_rate or 16000, int(model.metadata.frontend["num_mel_bins"])
    recordings = probe_samples(rate)
    expected = [run_pieces(model, samples) for samples in recordings]
    ours = [_own_features(frontend, model, samples) for samples in recordings]
    kaldi = probe_features(rate, bins)
    found = run_graphs(OfflineGraph(offline), StreamingGraph(streaming), ours)
    from_offline, batch = run_differences(found)
    proof = Proof(
        bundle=_largest(found.offline, expected),
        streaming=from_offline,
        batch=batch,
        features=max(float(np.abs(a - b).mean()) for a, b in zip(ours, kaldi, strict=True)),
        atol=split_atol(precision),
        frames=sum(len(one) for one in expected),
    )
    if proof.features > MAX_FEATURE_DIFF:
        raise ParityError(
            f"the bundle's features differ from Kaldi's by {proof.features:.2g} nats on average (allowed "
            f"{MAX_FEATURE_DIFF}), so sherpa-onnx would feed the model what it does not know; export the run again"
        )
    worst = max(proof.bundle, proof.streaming, proof.batch)
    if not worst <= proof.atol:
        raise ParityError(
            f"the sherpa-onnx graphs of {precision} differ by {worst:.3g} nats (allowed {proof.atol:g}): against the "
            f"bundle {proof.bundle:.3g}, streaming against offline {proof.streaming:.3g}, batch {proof.batch:.3g}"
        )
    return proof


@dataclass(frozen=True)
class Runs:
    """Log-probabilities of recordings, each ``(T, V)``, by the way they were computed."""

    offline: LogProbs
    offline_batch: LogProbs
    streaming: LogProbs
    streaming_batch: LogProbs


def run_graphs(offline: OfflineGraph, streaming: StreamingGraph, features: Sequence[NDArray[np.float32]]) -> Runs:
    """Run both graphs one recording at a time, and all at once."""
    return Runs(
        offline=[offline.log_probs([one])[0] for one in features],
        offline_batch=offline.log_probs(features),
        streaming=[streaming.log_probs([one], LOG_FLOOR)[0] for one in features],
        streaming_batch=streaming.log_probs(features, LOG_FLOOR),
    )


def run_differences(runs: Runs) -> tuple[float, float]:
    """Largest difference between streaming and offline, and between batches and single recordings."""
    batch = max(_largest(runs.offline_batch, runs.offline), _largest(runs.streaming_batch, runs.streaming))
    return _largest(runs.streaming, runs.offline), batch


def agreement(expected: LogProbs, found: LogProbs) -> ProbeAgreement:
    """Compare what two precisions make of the same features."""
    one, other = np.concatenate(list(expected)), np.concatenate(list(found))
    return ProbeAgreement(
        argmax_agreement=float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        mean_abs_diff=float((np.abs(one - other) * np.exp(one)).sum() / len(one)),
        frames=len(one),
    )


def probe_samples(sample_rate: int) -> list[Samples]:
    """Noise that is the same on every machine, a tenth of a second of silence around each piece."""
    silence = np.zeros(round(_SILENCE * sample_rate), dtype=np.float32)
    noise = [speech_like_noise(seconds, sample_rate, seed) for seed, seconds in enumerate(PROBE_SECONDS)]
    return [np.concatenate([silence, one, silence]) for one in noise]


def probe_features(sample_rate: int, num_mel_bins: int) -> list[NDArray[np.float32]]:
    """What sherpa-onnx would feed for ``probe_samples``, each ``(T, F)``."""
    return [kaldi_features(samples, sample_rate, num_mel_bins) for samples in probe_samples(sample_rate)]


def _own_features(frontend: bytes, model: CtcModel, samples: Samples) -> NDArray[np.float32]:
    """Features of the bundle's own frontend, no longer late: as many as Kaldi gives."""
    session = onnxruntime.InferenceSession(frontend, SessionOptions().build(), providers=["CPUExecutionProvider"])
    source = model.metadata.input
    hop = source.units_per_frame // model.metadata.subsampling_factor
    count = (len(samples) + hop // 2) // hop
    frames = -(-(count + LATE_FEATURES) // model.metadata.subsampling_factor)
    room = np.zeros((1, frames * source.units_per_frame), dtype=np.float32)
    room[0, : len(samples)] = samples[: room.shape[1]]
    wanted = {value.name for value in session.get_inputs()}
    states = {name: value for name, value in model.init_states().items() if name in wanted}
    (features,) = session.run(["features"], {source.name: room, **states})
    found: NDArray[np.float32] = features[0, LATE_FEATURES : LATE_FEATURES + count].astype(np.float32)
    return found


def _largest(found: LogProbs, expected: LogProbs) -> float:
    """Largest difference; infinite where shapes differ or something is not a number."""
    pairs = list(zip(found, expected, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    largest = max(float(np.abs(one - other).max(initial=0.0)) for one, other in pairs)
    return largest if np.isfinite(largest) else float("inf")
