"""Peak memory of loading a bundle and streaming one utterance, measured in a process of its own.

``python -m kdcompress_evaluation.footprint BUNDLE PRECISION AUDIO [DECODING]`` writes one line of JSON; ``DECODING``
is a JSON object with the decoder's ``options`` and the path of its ``lm``, or null.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from kdcompress_evaluation.decoding import Decoding
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import KdcompressError

_TIMEOUT = 300


@dataclass(frozen=True)
class Footprint:
    """Resident memory in bytes."""

    imported: int
    """After the interpreter, numpy, onnxruntime and the audio were loaded, before the bundle."""
    loaded: int
    """After the bundle was loaded."""
    peak: int
    """Highest of the whole process."""


def measure_footprint(
    bundle: Path, precision: str, audio: Path, decoding: Decoding
) -> tuple[Footprint | None, str | None]:
    """Measure in a fresh interpreter; returns the footprint, or ``None`` and why there is none."""
    options = None if decoding.options is None else asdict(decoding.options)
    more = json.dumps({"options": options, "lm": None if decoding.lm is None else str(decoding.lm)})
    arguments = [str(bundle), precision, str(audio), more]
    command = [sys.executable, "-m", "kdcompress_evaluation.footprint", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)  # noqa: S603
        return Footprint(**json.loads(done.stdout)), None
    except subprocess.CalledProcessError as error:
        return None, (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        return None, str(error)


def stream_once(bundle: Path, precision: str, audio: Path, decoding: Decoding) -> Footprint:
    """Load ``bundle`` in this process, stream ``audio`` in pieces of its chunk size, and read the memory.

    A model that takes whole recordings keeps the pieces and runs at the end: that is what it needs.

    Raises:
        KdcompressError: the bundle or the audio cannot be used.
    """
    metadata = Bundle.open(bundle).metadata
    samples, rate = read_audio(audio, sample_rate=metadata.input.sample_rate)
    process = psutil.Process()
    imported = int(process.memory_info().rss)
    recognizer = decoding.open(bundle, precision)
    loaded = int(process.memory_info().rss)
    stream = recognizer.create_stream()
    piece = metadata.chunk_frames * metadata.input.units_per_frame
    for start in range(0, len(samples), piece):
        stream.accept_waveform(samples[start : start + piece], rate)
    stream.input_finished()
    stream.result()
    return Footprint(imported=imported, loaded=loaded, peak=_peak(process))


def _peak(process: psutil.Process) -> int:
    """Peak resident bytes of this process.

    Linux: ``VmHWM``, because ``getrusage`` there also counts what the parent held before ``exec``.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = process.memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _decoding(text: str) -> Decoding:
    row = json.loads(text)
    options, lm = row["options"], row["lm"]
    return Decoding(None if options is None else DecoderOptions(**options), None if lm is None else Path(lm))


def main(arguments: list[str]) -> int:
    """Run ``stream_once`` for the command line; returns the exit code."""
    try:
        bundle, precision, audio, *more = arguments
        found = stream_once(Path(bundle), precision, Path(audio), _decoding(more[0]) if more else Decoding())
    except (KdcompressError, TypeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found.__dict__) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
