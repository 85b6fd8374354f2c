"""Where the time of a chunk goes, for ``bench_stream.py``: the parts of both engines, chunk by chunk, in one process.

Ours: the stream as a whole, then, on the same chunk, the graph, the frontend cut out of it, the decoder and the
result; what is left of the whole is glue. sherpa-onnx: its three calls; model and decoder are one of them.

``python stream_parts.py '{"ours": {...}, ...}'`` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from stream_worker import CLOCKS, Ours, Sherpa, chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

T = TypeVar("T")
P = ParamSpec("P")


class Stopwatch:
    """Times of named parts."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[int, ...]]] = {}

    def time(self, part: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call, and keep how long it took."""
        start = [clock() for clock in CLOCKS]
        value = call(*args, **kwargs)
        taken = tuple(clock() - since for clock, since in zip(CLOCKS, start, strict=True))
        self._taken.setdefault(part, []).append(taken)
        return value

    def medians(self) -> dict[str, dict[str, float]]:
        """Median milliseconds of each part, wall and CPU."""
        columns = {part: np.median(np.array(taken), axis=0) / 1e6 for part, taken in self._taken.items()}
        return {part: {"wall": float(wall), "cpu": float(cpu)} for part, (wall, cpu) in columns.items()}


class OurParts:
    """Our runtime, whole and in parts."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        import onnxruntime

        from kdcompress_runtime import Bundle, CtcModel, DecoderOptions, Result, SessionOptions, build_decoder

        options = {key: settings[key] for key in ("precision", "chunk_frames", "rate")}
        self._whole = Ours(settings["path"], **options)
        self._model = CtcModel.from_bundle(Bundle.open(settings["path"]), settings["precision"])
        self._decoder = build_decoder(DecoderOptions(), self._model.vocabulary)
        frontend = Path(settings["frontend"]).read_bytes()
        self._frontend = onnxruntime.InferenceSession(frontend, SessionOptions().build())
        self._carried = [value.name for value in self._frontend.get_inputs() if value.name != "pcm"]
        self._outputs = ["log_probs", *("next_" + state.name for state in self._model.metadata.states)]
        self._result = Result

    def run(self, recording: NDArray[np.float32], size: int, watch: Stopwatch) -> None:
        """Time one recording; each part has a pass of its own, so that it finds its weights in the caches."""
        session, name = self._model._session, self._model.metadata.input.name  # noqa: SLF001 - checks are glue
        chunks = list(chunks_of(recording, size))
        self._whole.start()
        for chunk in chunks:
            watch.time("whole", self._whole.chunk, chunk)
        names = [state.name for state in self._model.metadata.states]
        states, decoded = self._model.init_states(), self._decoder.init_state()
        for chunk in chunks:
            log_probs, *following = watch.time("graph", session.run, self._outputs, {name: chunk[None], **states})
            states = dict(zip(names, following, strict=True))
            decoded = watch.time("decoder", self._decoder.advance, decoded, log_probs[0])
            watch.time("result", self._spell, decoded)
        carried = {name: states[name] for name in self._carried}
        for chunk in chunks:
            watch.time("frontend", self._frontend.run, None, {name: chunk[None], **carried})

    def _spell(self, state: Any) -> str:  # noqa: ANN401
        best = self._decoder.best(state, final=False)
        return self._result.of(best, self._model.vocabulary, self._model.metadata).text


class SherpaParts:
    """sherpa-onnx, whole and in its three calls."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        options = {key: settings[key] for key in ("precision", "chunk_frames", "rate")}
        self._engine = Sherpa(settings["path"], **options)

    def run(self, recording: NDArray[np.float32], size: int, watch: Stopwatch) -> None:
        """Time one recording."""
        engine = self._engine
        engine.start()
        for chunk in chunks_of(recording, size):
            watch.time("features", engine.accept, chunk)
            watch.time("model and decoder", engine.decode)
            watch.time("result", engine.text)
        engine.start()
        for chunk in chunks_of(recording, size):
            watch.time("whole", engine.chunk, chunk)


def measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Median milliseconds a chunk of every part of both engines, taking turns recording by recording."""
    with np.load(settings["audio"]) as stored:
        recordings = [stored[name] for name in sorted(stored.files)]
    engines = {"ours": OurParts(settings["ours"]), "sherpa": SherpaParts(settings["sherpa"])}
    watches = {name: Stopwatch() for name in engines}
    for round_index in range(settings["rounds"] + 1):
        for recording in recordings:
            for name, engine in engines.items():
                engine.run(recording, settings["size"], watches[name] if round_index else Stopwatch())
    found = {name: watch.medians() for name, watch in watches.items()}
    return {"ours": split(found["ours"]), "sherpa": found["sherpa"]}


def split(parts: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Frontend, model, decoder, result and glue out of what was timed."""
    shares: dict[str, dict[str, float]] = {}
    for clock in ("wall", "cpu"):
        time = {name: part[clock] for name, part in parts.items()}
        values = {
            "whole": time["whole"],
            "frontend": time["frontend"],
            "model": time["graph"] - time["frontend"],
            "decoder": time["decoder"],
            "result": time["result"],
            "glue": time["whole"] - time["graph"] - time["decoder"] - time["result"],
        }
        for name, value in values.items():
            shares.setdefault(name, {})[clock] = value
    return shares


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
