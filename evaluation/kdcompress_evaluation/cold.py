"""What a user waits for when an app starts: import, load, first text, timed in a process that does nothing else.

``python -m kdcompress_evaluation.cold REQUEST.json`` writes one line of JSON; ``footprint.ask`` describes the
request, whose ``input`` is a file that ``inputs.save_input`` wrote.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODULES = {
    "bundle": ("kdcompress_runtime.recognizer",),
    "seq2seq": ("onnxruntime", "tokenizers", "kdcompress_evaluation.systems"),
    "huggingface": ("onnxruntime", "kdcompress_evaluation.systems"),
    "sherpa-onnx": ("sherpa_onnx", "kdcompress_evaluation.systems"),
}
"""What runs each kind, so that it counts as import."""


def start_here(request: Mapping[str, Any]) -> dict[str, float]:
    """Start in this process; returns seconds ``imported``, ``loaded`` and ``first``.

    A recording is streamed as fast as it goes, until there is text; to its end where there is none before, as for
    models that take whole recordings.

    Raises:
        KdcompressError: the variant cannot be used.
    """
    variant = request["variant"]
    begin = perf_counter()
    for module in _MODULES.get(variant["kind"], _MODULES["huggingface"]):
        importlib.import_module(module)
    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.engines import open_engine
    from kdcompress_evaluation.inputs import restore_input

    imported = perf_counter()
    samples = restore_input(Path(request["input"]))
    decoding = Decoding.from_json(request["decoding"])
    ready = perf_counter()
    engine = open_engine(variant, decoding)
    loaded = perf_counter()
    feed = engine.feed()
    if feed is None:
        engine.whole(samples)
    else:
        piece = engine.piece or len(samples)
        for start in range(0, len(samples), piece):
            if feed.chunk(samples[start : start + piece]):
                break
        else:
            feed.finish()
    return {"imported": imported - begin, "loaded": loaded - ready, "first": perf_counter() - loaded}


def main(arguments: list[str]) -> int:
    """Run ``start_here`` for the command line; returns the exit code."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        found = start_here(request)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, ImportError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
