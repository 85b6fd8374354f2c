#!/usr/bin/env python3
"""Recognise the microphone, an utterance a line.

Usage: python microphone.py BUNDLE [--file FILE]

Needs ``pip install 'kdcompress[audio]' sounddevice``; with ``--file`` a recording stands in for the microphone, in
real time.
"""

from __future__ import annotations

import argparse
import queue
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_runtime import EndpointRules, KdcompressError, Recognizer, read_audio

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

PIECE_SECONDS = 0.1


def microphone(sample_rate: int) -> Iterator[np.ndarray[Any, Any]]:
    """Pieces of audio until Ctrl-C. The callback of the sound card only puts them into a queue: it must not wait."""
    import sounddevice

    pieces: queue.Queue[np.ndarray[Any, Any]] = queue.Queue()

    def heard(samples: np.ndarray[Any, Any], *_: object) -> None:
        pieces.put(samples[:, 0].copy())

    size = round(PIECE_SECONDS * sample_rate)
    with sounddevice.InputStream(sample_rate, size, channels=1, dtype="float32", callback=heard):
        while True:
            yield pieces.get()


def recording(samples: np.ndarray[Any, Any], sample_rate: int) -> Iterator[np.ndarray[Any, Any]]:
    """The same from a recording."""
    size = round(PIECE_SECONDS * sample_rate)
    for start in range(0, len(samples), size):
        time.sleep(PIECE_SECONDS)
        yield samples[start : start + size]


def main() -> int:
    """Read the command line and listen."""
    parser = argparse.ArgumentParser(description="Recognise the microphone.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--file", type=Path, help="a recording in place of the microphone")
    arguments = parser.parse_args()
    try:
        recognizer = Recognizer.from_dir(arguments.bundle, endpoint=EndpointRules())
        rate = recognizer.metadata.input.sample_rate or 16000
        pieces = microphone(rate)
        if arguments.file:
            samples, rate = read_audio(arguments.file)
            pieces = recording(samples, rate)
        for event in recognizer.stream(pieces, rate):
            end = "\n" if event.is_final else "\r"
            print(f"{event.result.text}\033[K", end=end, flush=True)
    except KeyboardInterrupt:
        return 130
    except (KdcompressError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
