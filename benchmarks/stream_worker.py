"""One engine in a process of its own, for ``bench_stream.py``: recognises recordings chunk by chunk and times each.

``python stream_worker.py '{"engine": "ours", ...}'`` answers each line of its input (a JSON object) with a line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

CLOCKS = (time.perf_counter_ns, time.thread_time_ns)
"""Wall time, and CPU time of the thread that computes."""


class Engine(Protocol):
    """A recogniser with one stream at a time."""

    def start(self) -> None:
        """Open a stream."""

    def chunk(self, samples: Samples) -> str:
        """Give it one chunk and return the text so far."""

    def finish(self) -> tuple[str, ...]:
        """Say that the recording is over; return its tokens."""


class Ours:
    """kdcompress_runtime, greedy."""

    def __init__(self, path: str, precision: str, chunk_frames: int, rate: int) -> None:
        from kdcompress_runtime import DecoderOptions, Recognizer

        self._rate = rate
        # Without our tail, which sherpa-onnx has not: both recognise the same audio.
        self.recognizer = Recognizer.from_dir(
            path, precision=precision, chunk_frames=chunk_frames, decoder=DecoderOptions(), tail_seconds=0.0
        )

    def start(self) -> None:
        """See ``Engine``."""
        self._stream = self.recognizer.create_stream()

    def chunk(self, samples: Samples) -> str:
        """See ``Engine``."""
        self._stream.accept_waveform(samples, self._rate)
        return self._stream.partial_result().text

    def finish(self) -> tuple[str, ...]:
        """See ``Engine``."""
        self._stream.input_finished()
        return self._stream.result().tokens


class Sherpa:
    """sherpa-onnx on a folder of the ``sherpa-onnx`` target, greedy, one thread."""

    def __init__(self, path: str, precision: str, chunk_frames: int, rate: int) -> None:
        import sherpa_onnx

        told = json.loads(Path(path, "sherpa-onnx.json").read_text(encoding="utf-8"))
        if (told["streaming"]["chunk_frames"], told["sample_rate"]) != (chunk_frames, rate):
            raise SystemExit(f"{path}: made for other chunks or another rate")
        self._rate = rate
        self._tail = np.zeros(round(told["streaming"]["tail_padding_seconds"] * rate), np.float32)
        self._recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
            model=str(Path(path, told["models"][precision]["streaming"])),
            tokens=str(Path(path, "tokens.txt")),
            sample_rate=rate,
            feature_dim=told["feature_dim"],
            num_threads=1,
        )
        self.steps = 0

    def start(self) -> None:
        """See ``Engine``."""
        self._stream = self._recognizer.create_stream()

    def accept(self, samples: Samples) -> None:
        """Compute features, as much of them as the samples reach."""
        self._stream.accept_waveform(self._rate, samples)

    def decode(self) -> None:
        """Run the model and the decoder."""
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode_stream(self._stream)
            self.steps += 1

    def text(self) -> str:
        """The text so far."""
        text: str = self._recognizer.get_result(self._stream)
        return text

    def chunk(self, samples: Samples) -> str:
        """See ``Engine``."""
        self.accept(samples)
        self.decode()
        return self.text()

    def finish(self) -> tuple[str, ...]:
        """See ``Engine``."""
        self.accept(self._tail)
        self._stream.input_finished()
        self.decode()
        return tuple(token.replace(" ", "▁") for token in self._recognizer.tokens(self._stream))


ENGINES = {"ours": Ours, "sherpa": Sherpa}


def chunks_of(samples: Samples, size: int) -> Iterator[Samples]:
    """All whole chunks."""
    for start in range(0, len(samples) - size + 1, size):
        yield samples[start : start + size]


def recognise(engine: Engine, samples: Samples, size: int, pace: float) -> tuple[list[list[int]], list[int], list[str]]:
    """Feed one recording; with ``pace`` (seconds a chunk) each chunk when it would have been spoken, else at once.

    Returns:
        Wall and CPU nanoseconds of each chunk (from giving it to having the text so far), the same for opening and
        finishing the stream, and the tokens.
    """
    times: list[list[int]] = []
    begun = [clock() for clock in CLOCKS]
    engine.start()
    around = [clock() - start for clock, start in zip(CLOCKS, begun, strict=True)]
    due = time.perf_counter()
    for chunk in chunks_of(samples, size):
        if pace:
            due += pace
            time.sleep(max(0.0, due - time.perf_counter()))
        start = [clock() for clock in CLOCKS]
        engine.chunk(chunk)
        times.append([clock() - since for clock, since in zip(CLOCKS, start, strict=True)])
    start = [clock() for clock in CLOCKS]
    tokens = engine.finish()
    around = [before + clock() - since for before, clock, since in zip(around, CLOCKS, start, strict=True)]
    return times, around, list(tokens)


def take_turn(engine: Engine, recordings: list[Samples], size: int, pace: float) -> dict[str, Any]:
    """Recognise all recordings; when not paced, the first one twice: the untimed run brings the caches back."""
    if not pace:
        recognise(engine, recordings[0], size, 0.0)
    chunks: list[list[int]] = []
    around, tokens = [0, 0], []
    begun, cpu = time.perf_counter(), time.process_time()
    for samples in recordings:
        times, rest, found = recognise(engine, samples, size, pace)
        chunks += times
        around = [one + other for one, other in zip(around, rest, strict=True)]
        tokens.append(found)
    wall_us, cpu_us = ([round(value / 1000) for value in column] for column in zip(*chunks, strict=True))
    return {
        "wall_us": wall_us,
        "cpu_us": cpu_us,
        "around_us": [round(value / 1000) for value in around],
        "seconds": time.perf_counter() - begun,
        "process_cpu_seconds": time.process_time() - cpu,
        "tokens": tokens,
    }


def memory_mb(field: str = "VmRSS") -> float | None:
    """Resident memory in MB, or with ``VmHWM`` the most there ever was; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return round(int(line.split()[1]) * 1024 / 1e6, 2)


def serve(settings: Mapping[str, Any]) -> None:
    """Answer orders until there are no more: ``{"pace": seconds, "count": recordings}`` each."""
    with np.load(settings["audio"]) as stored:
        recordings = [stored[name] for name in sorted(stored.files)]
    before = memory_mb()
    begun = time.perf_counter()
    options = {key: settings[key] for key in ("path", "precision", "chunk_frames", "rate")}
    engine = ENGINES[settings["engine"]](**options)
    loaded = time.perf_counter() - begun
    say({"numpy_and_audio_mb": before, "loaded_mb": memory_mb(), "load_seconds": loaded})
    for line in sys.stdin:
        order = json.loads(line)
        if "pace" not in order:
            break
        row = take_turn(engine, recordings[: order["count"]], settings["size"], order["pace"])
        say({**row, "peak_mb": memory_mb("VmHWM")})


def say(answer: Mapping[str, Any]) -> None:
    """Answer with one line."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
