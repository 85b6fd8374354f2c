"""Utterances with silences, and when endpoint rules end them; for ``bench_endpoint.py``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from stream_audio import quietest, recordings, room_noise, speech_bounds

from kdcompress_runtime import DecoderOptions, build_decoder
from kdcompress_runtime.endpoint import Endpointer, EndpointRules, EndpointState
from kdcompress_runtime.feed import open_feed, run_feed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_runtime import CtcModel, Recognizer

    Samples = NDArray[np.float32]

AFTER_SECONDS = 3.0
"""Noise of the room behind each recording."""
PIECE_SECONDS = 0.02
"""What a microphone gives at a time."""
COOL_SECONDS = 0.05
"""Rest before what is timed, so that caches are as cold as in a program that waits for its microphone."""
CUT_SECONDS = 0.1
"""An endpoint this long before the end of speech cuts nothing: a word ends softly."""


@dataclass(frozen=True)
class Case:
    """One utterance, followed by silence."""

    text: str
    audio: Samples
    ends: float
    """Seconds at which speech ends."""
    log_probs: NDArray[np.float32]
    """Of the model, float32, shape ``(T, C)``."""
    token_frames: tuple[int, ...]
    """First frame of each token that is recognised."""
    last_frame: int
    """Frame in which speech ends."""
    seconds: float
    """Of all the audio."""


@dataclass(frozen=True)
class Ended:
    """What endpoint rules make of a case."""

    frame: int
    """Frames of the utterance: the rule held in the one before."""
    latency: float
    """Seconds from the end of speech to the chunk of audio in which the rule is known to hold; negative: before it."""
    cut: bool
    """It ended before the speech did."""
    lost: int
    """Tokens of the speech that come after it."""


def cases(model: CtcModel, manifest: Path, count: int, pause: float = 0.0) -> list[Case]:
    """Utterances of a manifest, each with silence behind it and, if asked for, a pause at the quietest place inside."""
    rate, shift = model.metadata.input.sample_rate or 16000, model.metadata.frame_shift_ms / 1000
    decoder, found = build_decoder(DecoderOptions(), model.vocabulary), []
    for seed, (text, samples) in enumerate(recordings(manifest, rate, count)):
        begin, end = speech_bounds(samples, rate)
        pieces = [samples]
        if pause:
            third = (end - begin) / 3
            at = quietest(samples, rate, begin + third, end - third)
            pieces = [samples[:at], room_noise(samples, pause, rate, 10_000 + seed), samples[at:]]
        audio = np.concatenate([*pieces, room_noise(samples, AFTER_SECONDS, rate, seed)])
        # In the steps of a stream: a model quantized dynamically answers otherwise in longer ones.
        feed = open_feed(model, model.metadata.chunk_frames)
        log_probs = np.concatenate([*run_feed(model, feed, audio, rate)])
        frames = decoder.best(decoder.advance(decoder.init_state(), log_probs)).frames
        ends = end + pause
        found.append(Case(text, audio, ends, log_probs, frames, round(ends / shift), len(audio) / rate))
    return found


def end_of(case: Case, rules: EndpointRules, model: CtcModel) -> Ended | None:
    """When an utterance ends by the rules, as a stream would tell; None: it does not end within its silence.

    An endpoint before anything was said is no end: the rules begin anew, as ``reset`` lets them.
    """
    metadata = model.metadata
    endpointer = Endpointer(rules, model.vocabulary, metadata.frame_shift_ms)
    frame, rule = 0, "initial"
    while rule == "initial":
        _, count, found = endpointer.advance(EndpointState(), case.log_probs[frame:])
        if count is None or found is None:
            return None
        frame, rule = frame + count, found
    shift = metadata.frame_shift_ms / 1000
    step = (frame - 1 + metadata.lookahead_frames) // metadata.chunk_frames
    known = (step + 1) * metadata.chunk_frames * shift
    if known > case.seconds:  # heard with the padding behind the end alone
        return None
    lost = sum(frame <= one <= case.last_frame for one in case.token_frames)
    return Ended(frame, known - case.ends, frame * shift < case.ends - CUT_SECONDS, lost)


def rates(found: Sequence[Ended | None]) -> dict[str, float]:
    """Latency over the utterances that were not cut, and shares of those that were, of all."""
    latencies = [1000 * one.latency for one in found if one is not None and not one.cut] or [float("nan")]
    return {
        "utterances": len(found),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p95_ms": float(np.percentile(latencies, 95)),
        "cut_rate": sum(one is not None and one.cut for one in found) / len(found),
        "lost_rate": sum(one is not None and one.lost > 0 for one in found) / len(found),
        "never_rate": sum(one is None for one in found) / len(found),
    }


def pieces(audio: Samples, rate: int) -> list[Samples]:
    """The audio as a microphone gives it."""
    size = round(PIECE_SECONDS * rate)
    return [audio[start : start + size] for start in range(0, len(audio), size)]


def stream_to_endpoint(case: Case, recognizer: Recognizer) -> tuple[float, int, float, str] | None:
    """Stream a case to its endpoint (the recogniser has the rules).

    Returns:
        Seconds from the end of speech to the final text, computation included; the frames of the utterance; the seconds
        of computation in the last piece and the result; and the text. None: it does not end.
    """
    rate = recognizer.metadata.input.sample_rate or 16000
    stream, fed = recognizer.create_stream(), 0
    for piece in pieces(case.audio, rate):
        fed += len(piece)
        begun = time.perf_counter()
        stream.accept_waveform(piece, rate)
        if stream.is_endpoint():
            text = stream.result().text
            spent = time.perf_counter() - begun
            if stream.endpoint_rule != "initial":
                return fed / rate - case.ends + spent, stream.frames_decoded, spent, text
            stream.reset()
    return None


def flush_at_end(case: Case, recognizer: Recognizer, later: float = 0.0) -> tuple[float, str]:
    """Stream a case to ``later`` seconds after the end of its speech, and ``flush``.

    Returns:
        Seconds of computation until the final text is there, and the text.
    """
    rate = recognizer.metadata.input.sample_rate or 16000
    stream = recognizer.create_stream()
    for piece in pieces(case.audio[: round((case.ends + later) * rate)], rate):
        stream.accept_waveform(piece, rate)
    time.sleep(COOL_SECONDS)
    begun = time.perf_counter()
    text = stream.flush().text
    return time.perf_counter() - begun, text


def grid(base: EndpointRules) -> dict[str, list[EndpointRules]]:
    """Rules to try, by family: one silence for all; a shorter one where the model is sure."""
    silences = [0.16, 0.24, 0.32, 0.4, 0.48, 0.56, 0.64, 0.72, 0.8, 0.96, 1.12, 1.28, 1.6]
    families = {"plain": [replace(base, trailing_silence=one, confident_silence=one) for one in silences]}
    for trailing in (1.0, 1.4):
        for sure in (0.9, 0.95, 0.99, 0.999):
            families[f"confident {sure:g}, else {trailing:g} s"] = [
                replace(base, trailing_silence=trailing, confident_silence=one, confident_probability=sure)
                for one in silences
                if one <= trailing
            ]
    return families


def told(rules: EndpointRules) -> dict[str, Any]:
    """What distinguishes one rule from another."""
    names = ("trailing_silence", "confident_silence", "confident_probability")
    return {name: getattr(rules, name) for name in names}
