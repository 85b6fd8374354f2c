#!/usr/bin/env python3
"""Pack the Free Spoken Digit Dataset: one FLAC file a speaker and an index, samples unchanged.

Usage: python tools/pack_fsdd.py FOLDER_OF_RECORDINGS data/fsdd

The folder holds ``{digit}_{speaker}_{take}`` recordings as .wav or .flac (8 kHz, 16 bit, mono). What was
written is read back and compared with the recordings sample by sample before the program ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 8000
OFFICIAL_TEST_TAKES = range(5)
"""The corpus's README: recordings 0-4 of every digit and speaker are the test set."""


def find_recordings(folder: Path) -> dict[str, list[tuple[int, int, Path]]]:
    """Return (digit, take, path) of every recording, sorted, by speaker."""
    found: dict[str, list[tuple[int, int, Path]]] = {}
    for path in sorted([*folder.glob("*.wav"), *folder.glob("*.flac")]):
        digit, speaker, take = path.stem.split("_")
        found.setdefault(speaker, []).append((int(digit), int(take), path))
    return {speaker: sorted(found[speaker]) for speaker in sorted(found)}


def read(path: Path) -> np.ndarray:
    """Return the int16 samples of one recording, shape (samples,)."""
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != SAMPLE_RATE or samples.ndim != 1:
        raise SystemExit(f"{path}: expected mono, {SAMPLE_RATE} Hz; found {rate} Hz, shape {samples.shape}")
    return np.asarray(samples)


def pack(folder: Path, output: Path) -> list[dict[str, str | int]]:
    """Write ``<speaker>.flac`` files and ``index.jsonl`` to ``output``; return the rows of the index."""
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str | int]] = []
    for speaker, recordings in find_recordings(folder).items():
        pieces, start = [], 0
        for digit, take, path in recordings:
            samples = read(path)
            rows.append(
                {
                    "file": f"{speaker}.flac",
                    "start": start,
                    "length": len(samples),
                    "digit": digit,
                    "speaker": speaker,
                    "take": take,
                    "official_split": "test" if take in OFFICIAL_TEST_TAKES else "train",
                }
            )
            pieces.append(samples)
            start += len(samples)
        # libsndfile maps 1.0 to FLAC level 8.
        soundfile.write(
            output / f"{speaker}.flac",
            np.concatenate(pieces),
            SAMPLE_RATE,
            subtype="PCM_16",
            compression_level=1.0,
        )
    (output / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def verify(folder: Path, output: Path, rows: list[dict[str, str | int]]) -> None:
    """Compare every packed recording with its original, sample by sample."""
    originals = {path.stem: path for path in [*folder.glob("*.wav"), *folder.glob("*.flac")]}
    packed = {str(name): read(output / str(name)) for name in {row["file"] for row in rows}}
    for row in rows:
        name = f"{row['digit']}_{row['speaker']}_{row['take']}"
        start, length = int(row["start"]), int(row["length"])
        if not np.array_equal(packed[str(row["file"])][start : start + length], read(originals.pop(name))):
            raise SystemExit(f"{name}: the packed samples differ from the recording")
    if originals:
        raise SystemExit(f"not packed: {', '.join(sorted(originals))}")


def main(arguments: list[str]) -> None:
    """Pack, verify, report."""
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    folder, output = Path(arguments[0]), Path(arguments[1])
    rows = pack(folder, output)
    verify(folder, output, rows)
    size = sum(path.stat().st_size for path in output.glob("*.flac"))
    sys.stdout.write(f"{len(rows)} recordings, {size / 1e6:.1f} MB, identical sample by sample\n")


if __name__ == "__main__":
    main(sys.argv[1:])
