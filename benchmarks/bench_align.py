"""Where words are, to the millisecond: aligned digit strings, whose recordings' places are known exactly.

Strings are joined from single recordings, so when each word begins and ends follows from the seed. The test strings are
aligned, clean and in noise, by every run given: the path as it is, with nats taken from the blank, with blank frames
given to words, and with words that end where it falls quiet; and by hidden Markov models of whole words that are fitted
to the same strings (``align_hmm.py``).

Usage: python benchmarks/bench_align.py RUN [RUN ...] [--noise NOISE.jsonl] [--split test] [--work runs/align]

A run is one of `kdcompress train digits-conventional`, or a student of it. The noise recordings (any JSONL manifest
with ``audio_filepath``, ``noise_type`` and ``split``) are not part of the repository; without them only clean strings
are aligned. Rows go to ``benchmarks/results/align``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from align_hmm import align_words, cepstra
from exit_codes import with_exit_code

from kdcompress.aligning.align import AlignOptions, align_manifest
from kdcompress.aligning.aligned import Aligned, Segment, write_alignments
from kdcompress.aligning.compare import compare_alignments
from kdcompress.aligning.segments import PATH_ALONE, SegmentOptions
from kdcompress.data import digits
from kdcompress.data.noisy_sets import NoiseConfig
from kdcompress.data.reading import read_samples
from kdcompress.files import write_text
from kdcompress.run import load_run
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress.aligning.compare import Comparison
    from kdcompress_runtime.manifest import ManifestEntry

SOURCE, SEED = Path("data/fsdd"), 1
RESULTS = Path(__file__).parent / "results" / "align"
SETTINGS = {
    "path": PATH_ALONE,
    "path, blank - 2": SegmentOptions(**{**asdict(PATH_ALONE), "blank_penalty": 2.0}),
    "path, blank - 5": SegmentOptions(**{**asdict(PATH_ALONE), "blank_penalty": 5.0}),
    "split, 50 ms after": SegmentOptions(trim=False),
    "split, 50 ms on both sides": SegmentOptions(trim=False, before=0.05),
    "split, 150 ms on both sides": SegmentOptions(trim=False, before=0.15, after=0.15),
    "trimmed": SegmentOptions(),
    "trimmed, blank - 2": SegmentOptions(blank_penalty=2.0),
}
HMM_STATES = 8
TAKES = 5
"""Recordings of each digit by each speaker in dev, and in test."""


def exact(split: str, manifest: Path, path: Path) -> Path:
    """Write where the words of a split really are: the draws of ``prepare_digits``, again."""
    lengths = {recording.name: recording.length for recording in digits.read_index(SOURCE)}
    rate, rows = digits.SAMPLE_RATE, []
    for number, entry in enumerate(read_manifest(manifest)):
        rng = np.random.default_rng((SEED, digits.SPLITS.index(split), number))
        count = int(rng.integers(digits.SHORTEST, digits.LONGEST + 1))
        rng.integers(0, len(digits.WORDS), size=count)
        for _ in range(count):
            rng.integers(TAKES)
        first, last = (round(rate * rng.uniform(*digits.EDGE_SECONDS)) for _ in range(2))
        gaps = [round(rate * rng.uniform(*digits.GAP_SECONDS)) for _ in range(count - 1)]
        spoken = np.array([lengths[name] for name in entry.extra["recordings"]])
        ends = first + np.cumsum(spoken + np.array([0, *gaps]))
        if int(ends[-1]) + last != round((entry.duration or 0) * rate):
            raise RuntimeError(f"{entry.id}: is not as long as it should be; prepare_digits draws otherwise now")
        rows.append(of_words(number, entry, np.stack([ends - spoken, ends], axis=1) / rate))
    write_alignments(path, rows)
    return path


def of_words(place: int, entry: ManifestEntry, spans: NDArray[np.float64]) -> Aligned:
    """An item of whole words from their spans ``(words, 2)``."""
    words = tuple(entry.text.split())
    rows = zip(words, spans.tolist(), strict=True)
    segments = tuple(Segment(f"▁{word}", start, end, number) for number, (word, (start, end)) in enumerate(rows))
    return Aligned(entry.id, place, "words", words, segments, float(spans[-1, 1]), 0.0)


def by_hmm(manifest: Path, path: Path) -> Path:
    """Align by whole-word models that are fitted to the same items."""
    entries = list(read_manifest(manifest))
    heard = [cepstra(read_samples(entry.input, digits.SAMPLE_RATE)[0], digits.SAMPLE_RATE) for entry in entries]
    words = [[digits.WORDS.index(word) for word in entry.text.split()] for entry in entries]
    found = align_words(heard, words, states=HMM_STATES)
    rows = zip(entries, found, strict=True)
    write_alignments(path, [of_words(k, entry, edges * 0.01) for k, (entry, edges) in enumerate(rows)])
    return path


def row(aligner: str, setting: str, strings: str, found: Comparison) -> dict[str, Any]:
    """One line of the results: errors in ms."""
    told: dict[str, Any] = {"aligner": aligner, "setting": setting, "strings": strings, "words": found.words}
    for name, edge in (("start", found.starts), ("end", found.ends)):
        told |= {
            f"{name}_bias": round(1000 * edge.mean, 1),
            f"{name}_mean": round(1000 * edge.mean_absolute, 1),
            f"{name}_median": round(1000 * edge.median_absolute, 1),
        }
        shares = zip((20, 50, 100), edge.within, strict=True)
        told |= {f"{name}_within_{limit}": round(100 * share, 1) for limit, share in shares}
    print(json.dumps(told), flush=True)
    return told


def measured(runs: list[Path], split: str, strings: str, manifest: Path, work: Path) -> list[dict[str, Any]]:
    """All aligners on one set of strings."""
    truth = exact(split, manifest, work / "exact.jsonl")
    rows = []
    for path in runs:
        run = load_run(path)
        for number, (name, options) in enumerate(SETTINGS.items()):
            found = align_manifest(run, manifest, work / f"{path.name}-{number}", AlignOptions(options))
            rows.append(row(run.recipe.name, name, strings, compare_alignments(truth, found.path)))
    found_by_hmm = by_hmm(manifest, work / "hmm.jsonl")
    rows.append(row("hmm", f"{HMM_STATES} states a word", strings, compare_alignments(truth, found_by_hmm)))
    first = work / f"{runs[0].name}-{list(SETTINGS).index('trimmed')}" / "alignment.jsonl"
    rows.append(
        row(load_run(runs[0]).recipe.name, "trimmed, against hmm", strings, compare_alignments(found_by_hmm, first))
    )
    return rows


@with_exit_code
def main() -> None:
    """Prepare, align, compare, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--work", type=Path, default=Path("runs/align"))
    given = parser.parse_args()
    rows = []
    noises = {"clean": None} | ({"noisy": NoiseConfig(given.noise)} if given.noise else {})
    for strings, noise in noises.items():
        folder = given.work / strings
        count = digits.DEFAULT_STRINGS[given.split]
        made = digits.prepare_digits(SOURCE, folder / "digits", seed=SEED, strings={given.split: count}, noise=noise)
        rows += measured(given.runs, given.split, strings, made[given.split], folder)
    write_text(RESULTS / f"{given.split}.jsonl", "".join(json.dumps(line) + "\n" for line in rows))


if __name__ == "__main__":
    sys.exit(main())
