"""``python -m kdcompress_evaluation.worker``: a process that holds one variant and answers one utterance at a time.

A model that crashes takes this process along and nothing else. Lines of JSON come in on standard input and go out on
what was standard output; anything that a library prints there goes to standard error. It ends when its input does, even
in the middle of an utterance, so it never outlives who started it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation import systems
from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.records import from_json, to_json
from kdcompress_evaluation.streaming import measure_stream, split_text
from kdcompress_evaluation.systems.base import Item
from kdcompress_evaluation.tasks import AUDIO
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_runtime.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from typing import BinaryIO

    from kdcompress_evaluation.systems.base import System


def main() -> int:
    """Load what the first line asks for, then answer line by line; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process ends it
    answers = _claim_standard_output()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    asked = json.loads(requests.get())
    try:
        system = systems.open_system(from_json(VariantInfo, asked["variant"]), Decoding.from_json(asked["decoding"]))
    except Exception as error:  # noqa: BLE001 - whatever the model does wrong is the answer
        _answer(answers, {"ready": False, "error": _words(error)})
        return 1
    _answer(answers, {"ready": True})
    while True:
        _answer(answers, answer(system, json.loads(requests.get())))


def answer(system: System, asked: dict[str, Any]) -> dict[str, Any]:
    """Recognise one item.

    Args:
        system: loaded.
        asked: ``item`` (fields of ``Item``), ``stream`` (stream it, too, where the system does), ``thorough`` (also in
            random pieces, and to its endpoint).

    Returns:
        Fields of a row. ``missing``: a package that is needed to read the input at all.
    """
    item = Item(**asked["item"])
    found: dict[str, Any] = {"duration": item.duration}
    try:
        _check_kind(system, item)
        if system.input_kind != "any":
            found["facts"] = item.facts(system.form)
        if system.input_kind == AUDIO:
            samples, rate = item.audio(system.sample_rate)
            found["duration"] = len(samples) / rate
    except MissingDependencyError as error:
        return {"missing": str(error)}
    except (InputError, OSError, ValueError) as error:
        return {**found, "error": str(error), "error_kind": "input"}
    begun = perf_counter()
    try:
        result = system.recognize(item)
        found["seconds"] = perf_counter() - begun
        found |= _streams(system, item, asked)
    except MissingDependencyError as error:
        return {"missing": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever the model does wrong is the answer
        return {**found, "seconds": perf_counter() - begun, "error": _words(error), "error_kind": "model"}
    return {**found, "hypothesis": result.text, "log_prob": result.log_prob}


def _streams(system: System, item: Item, asked: dict[str, Any]) -> dict[str, Any]:
    if system.chunk_seconds is None or not asked["stream"]:
        return {}
    streamed = measure_stream(system, item, endpoint=asked["thorough"])
    return {"stream": to_json(streamed), "split_text": split_text(system, item) if asked["thorough"] else None}


def _check_kind(system: System, item: Item) -> None:
    if system.input_kind not in {"any", item.kind}:
        raise ValueError(
            f"the manifest gives {item.kind}, and this system is fed {system.input_kind}; give it another manifest"
        )


def _words(error: Exception) -> str:
    name, text = type(error).__name__, " ".join(str(error).split())
    return f"{name}: {text}" if text else name


def _claim_standard_output() -> BinaryIO:
    """Move standard output aside for the answers, and let everybody else write to standard error."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return own


def _answer(answers: BinaryIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(to_json(content), allow_nan=False).encode() + b"\n")


def _read(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # nobody listens any more; the model may be in the middle of something, or hang


if __name__ == "__main__":
    raise SystemExit(main())
