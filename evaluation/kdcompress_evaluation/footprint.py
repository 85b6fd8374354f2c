"""Memory of loading a variant and recognising an input, measured in a process of its own.

``python -m kdcompress_evaluation.footprint REQUEST.json`` writes one line of JSON; see ``ask``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 300
"""Seconds after which a process is given up."""
_PASSES = 3
"""Times that the input is recognised before memory counts as steady."""


def ask(module: str, request: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Run a module of this package in a fresh interpreter on a request.

    Args:
        module: whose ``main`` reads the request from a file and writes one line of JSON.
        request: ``variant`` (a ``VariantInfo`` as JSON), ``decoding``, ``input`` and what else the module wants.

    Returns:
        What it wrote; or ``None``, and why there is nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "request.json")
        path.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", f"kdcompress_evaluation.{module}", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)  # noqa: S603
            found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        except subprocess.CalledProcessError as error:
            return None, (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            return None, f"it took more than {TIMEOUT} seconds"
        except (OSError, ValueError, IndexError) as error:
            return None, str(error) or "no answer"
    return found, ""


def stream_here(request: Mapping[str, Any]) -> dict[str, int | None]:
    """Load a variant in this process, recognise an input several times (audio in chunks), and read the memory.

    Returns the fields of ``cost.Memory``, which this process does not import: its own imports count.

    A model that takes whole recordings keeps the pieces and runs at the end: that is what it needs.

    Args:
        request: see ``ask``; ``input`` is a file, or a sentence.

    Raises:
        KdcompressError: the variant or the input cannot be used.
    """
    import psutil

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.engines import open_engine
    from kdcompress_evaluation.inputs import read_input

    variant = request["variant"]
    samples = read_input(variant["input_kind"], request["input"], variant["sample_rate"])
    decoding = Decoding.from_json(request["decoding"])
    process = psutil.Process()
    imported = int(process.memory_info().rss)
    engine = open_engine(request["variant"], decoding)
    loaded = int(process.memory_info().rss)
    for _ in range(_PASSES):
        feed = engine.feed()
        if feed is None:
            engine.whole(samples)
            continue
        piece = engine.piece or len(samples)
        for start in range(0, len(samples), piece):
            feed.chunk(samples[start : start + piece])
        feed.finish()
    steady = int(process.memory_info().rss)
    return {
        "imported": imported,
        "loaded": loaded,
        "steady": steady,
        "peak": max(_peak(process), steady),
        "pss": _pss(),
    }


def _peak(process: Any) -> int:  # noqa: ANN401 - psutil has no types
    """Peak resident bytes of this process.

    Linux: ``VmHWM``, because ``getrusage`` there also counts what the parent held before ``exec``.
    """
    found = _kilobytes(Path("/proc/self/status"), "VmHWM:")
    if found is not None:
        return found
    memory = process.memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    import resource

    highest = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return highest if sys.platform == "darwin" else highest * 1024


def _pss() -> int | None:
    """Resident bytes, pages shared with other processes counted in part; Linux alone says so."""
    return _kilobytes(Path("/proc/self/smaps_rollup"), "Pss:")


def _kilobytes(path: Path, key: str) -> int | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), None)


def main(arguments: list[str]) -> int:
    """Run ``stream_here`` for the command line; returns the exit code."""
    from kdcompress_runtime.errors import KdcompressError

    try:
        request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        found = stream_here(request)
    except (KdcompressError, OSError, KeyError, TypeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
