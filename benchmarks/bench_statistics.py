"""How far the report's statistics can be trusted: simulated test sets whose truth is known.

Coverage of 95 % intervals (this report's against plain percentiles), false alarms of comparing equal systems, and the
power to find a planted difference. Under a minute for every 100 trials on one core:

    python benchmarks/bench_statistics.py --trials 1000
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_evaluation.bootstrap import interval, resampled_sums
from kdcompress_evaluation.metrics import SCENE_TEXT, TRANSLATION, metrics_for
from kdcompress_evaluation.scoring import NORMALISERS
from kdcompress_evaluation.significance import holm, permutation_p

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from kdcompress_evaluation.metrics import Metric

SPEAKERS = (10, 15, 20, 40, 100)
UTTERANCES = (100, 300, 1000)
PLANTED = (0.25, 0.5, 1.0, 2.0)
VARIANTS = 8
REAL = (40, 20)
"""Speakers and utterances of each: the size of the test set of `sentences`."""


@dataclass(frozen=True)
class World:
    """Two systems on words whose difficulty varies by speaker and by utterance."""

    rate: float = 0.1
    """Word error rate of the first system."""
    speaker_spread: float = 0.5
    """Standard deviation of the logarithm of a speaker's difficulty; 0: utterances are independent."""
    redrawn: float = 0.3
    """Share of words on which the two systems err independently; on the others they err alike."""
    planted: float = 0.0
    """Word error rate of the second system minus that of the first."""

    def draw(self, rng: np.random.Generator, speakers: int, each: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return (N, 3) errors of both systems and words, and (N,) speakers; sizes of speakers are uneven."""
        sizes = np.maximum(1, np.round(each * rng.gamma(4, 0.25, speakers))).astype(int)
        if not self.speaker_spread:
            sizes[:] = each
        who = np.repeat(np.arange(speakers), sizes)
        words = rng.integers(3, 11, len(who))
        hard = np.exp(rng.normal(-(self.speaker_spread**2) / 2, self.speaker_spread, speakers))[who]
        chance = np.minimum(1.0, self.rate * hard * rng.gamma(1.0, 1.0, len(who)))
        alike = rng.binomial(words, 1 - self.redrawn)
        both = rng.binomial(alike, chance)
        first, second = (both + rng.binomial(words - alike, chance) for _ in range(2))
        second = second + rng.binomial(words - second, self.planted / (1 - self.rate))
        return np.stack([first, second, words], axis=1).astype(float), who


def rate(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Word error rate of the first system, from sums (..., 3)."""
    return np.asarray(sums[..., 0] / sums[..., 2])


def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Word error rate of the second system minus that of the first."""
    return np.asarray((sums[..., 1] - sums[..., 0]) / sums[..., 2])


@dataclass(frozen=True)
class Coverage:
    """How often intervals held the truth, and how wide they were."""

    what: str
    """The value."""
    data: str
    """Simulated test set."""
    units: str
    """What was resampled."""
    truth: float
    """Of an endless test set."""
    percentile: float
    """Share of plain percentile intervals that hold the truth."""
    ours: float
    """Share of this report's."""
    below: float
    """Share of ours that lie wholly below the truth."""
    above: float
    """Share wholly above."""
    wider: float
    """Median width of ours over that of the percentile interval."""


def cover(
    names: tuple[str, str, str], truth: float, value: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    samples: Sequence[NDArray[np.float64]], resamples: int,
) -> Coverage:  # fmt: skip
    """Intervals of ``value`` from samples of units (n, K)."""
    ends = []
    for trial, sample in enumerate(samples):
        total, draws = value(sample.sum(axis=0)), value(resampled_sums(sample, resamples=resamples, seed=[trial]))
        found = interval(float(total), draws, len(sample))
        ends.append((*np.nanpercentile(draws, [2.5, 97.5]), found.low, found.high))
    low, high, our_low, our_high = np.array(ends, dtype=float).T
    width = np.maximum(high - low, 1e-12)
    return Coverage(
        *names,
        truth=truth,
        percentile=float(((low <= truth) & (truth <= high)).mean()),
        ours=float(((our_low <= truth) & (truth <= our_high)).mean()),
        below=float((our_high < truth).mean()),
        above=float((our_low > truth).mean()),
        wider=float(np.median((our_high - our_low) / width)),
    )


def speaker_sums(statistics: NDArray[np.float64], who: NDArray[np.int64]) -> NDArray[np.float64]:
    """Add up utterances of a speaker."""
    starts = np.flatnonzero(np.diff(who, prepend=-1))
    return np.asarray(np.add.reduceat(statistics, starts))


def coverage_of_rates(trials: int, resamples: int) -> list[Coverage]:
    """Coverage of WER and of the paired difference, by utterance and by speaker."""
    rng = np.random.default_rng(1)
    found = []

    def both(world: World, data: str, units: str, samples: list[NDArray[np.float64]]) -> None:
        # The truth comes from a set so large that its own error does not matter.
        endless = world.draw(rng, 40_000, 20)[0].sum(axis=0)
        for what, value in (("WER", rate), ("difference", difference)):
            found.append(cover((what, data, units), float(value(endless)), value, samples, resamples))

    for level in (0.03, 0.1, 0.3):
        world = World(rate=level, speaker_spread=0.0, planted=0.01)
        for count in UTTERANCES:
            samples = [world.draw(rng, count, 1)[0] for _ in range(trials)]
            both(world, f"{count} utterances, WER about {100 * level:.0f} %", "utterance", samples)
    for count in UTTERANCES:
        # As float32 and int8 of one model do: few utterances differ at all, and a bootstrap knows only what it saw.
        world = World(speaker_spread=0.0, redrawn=0.03, planted=0.001)
        samples = [world.draw(rng, count, 1)[0] for _ in range(trials)]
        differ = 100 * float(np.mean([(one[:, 0] != one[:, 1]).mean() for one in samples]))
        endless = world.draw(rng, 400_000, 1)[0].sum(axis=0)
        names = ("difference", f"{count} utterances, {differ:.1f} % of them differ", "utterance")
        found.append(cover(names, float(difference(endless)), difference, samples, resamples))
    for spread in (0.5, 0.9):
        world = World(speaker_spread=spread, planted=0.01)
        for count in SPEAKERS:
            drawn = [world.draw(rng, count, 20) for _ in range(trials)]
            data = f"{count} speakers, spread {spread}"
            both(world, data, "speaker", [speaker_sums(*one) for one in drawn])
            if count == REAL[0]:
                both(world, data, "utterance (wrong)", [statistics for statistics, _ in drawn])
    return found


def coverage_of_scores(trials: int, resamples: int) -> list[Coverage]:
    """Coverage of SER, chrF and BLEU; the truth is that of a pool of segments from which test sets are drawn."""
    rng = np.random.default_rng(2)
    found = []
    words = ["".join(rng.choice(list("aeioubdgklmnprst"), rng.integers(2, 9))) for _ in range(400)]
    references = [" ".join(rng.choice(words, rng.integers(3, 25))) for _ in range(4000)]
    hypotheses = [
        _spoil(text, float(bad), words, rng) for text, bad in zip(references, rng.beta(1, 4, 4000), strict=True)
    ]
    plain = NORMALISERS["plain"]
    metrics: list[Metric] = [*metrics_for(SCENE_TEXT, plain)[:1], *metrics_for(TRANSLATION, plain)]
    for metric in metrics:
        pool = metric.statistics(references, hypotheses)
        for count in (30, 100, 300):
            samples = [pool[rng.integers(0, len(pool), count)] for _ in range(trials)]
            truth = float(metric.value(pool.sum(axis=0)))
            data = f"{count} segments"
            found.append(cover((metric.info.short, data, "segment"), truth, metric.value, samples, resamples))
    return found


def _spoil(text: str, bad: float, words: Sequence[str], rng: np.random.Generator) -> str:
    """Replace about a share ``bad`` of the words."""
    return " ".join(str(rng.choice(words)) if rng.random() < bad else word for word in text.split())


@dataclass(frozen=True)
class Power:
    """How often a difference was found between two systems."""

    units: str
    """What was resampled and swapped."""
    planted: float
    """Difference of the word error rates, points; 0: equal systems."""
    by_interval: float
    """Share of trials whose paired interval leaves out 0."""
    by_test: float
    """Share with a permutation p-value under 0.05."""


def power(trials: int, resamples: int) -> list[Power]:
    """Equal systems, and planted differences, on 800 utterances of 40 speakers."""
    rng = np.random.default_rng(3)
    found = []
    for units, spread in (("utterance", 0.0), ("speaker", 0.5)):
        for planted in (0.0, *PLANTED):
            world = World(speaker_spread=spread, planted=planted / 100)
            by_interval = by_test = 0
            for trial in range(trials):
                statistics, who = world.draw(rng, *REAL)
                sample = statistics if units == "utterance" else speaker_sums(statistics, who)
                draws = difference(resampled_sums(sample, resamples=resamples, seed=[trial]))
                ends = interval(float(difference(sample.sum(axis=0))), draws, len(sample))
                by_interval += ends.low is not None and ends.high is not None and not ends.low <= 0 <= ends.high
                p = permutation_p(sample[:, [0, 2]], sample[:, [1, 2]], _ratio, permutations=resamples, seed=[trial])
                by_test += p is not None and p < 0.05
            found.append(Power(units, planted, by_interval / trials, by_test / trials))
    return found


def family(trials: int, resamples: int) -> tuple[float, float]:
    """Share of reports with a false alarm when all variants equal the baseline: plain p-values, and Holm's."""
    rng = np.random.default_rng(4)
    plain = corrected = 0
    for trial in range(trials):
        statistics, who = World().draw(rng, *REAL)
        words = statistics[:, 2].astype(int)
        # How hard an utterance is, as far as one system tells; all systems of a report err with these chances.
        chance = (statistics[:, 0] + 0.3) / (words + 3)
        systems = [np.stack([rng.binomial(words, chance), words], axis=1).astype(float) for _ in range(VARIANTS + 1)]
        baseline, *variants = (speaker_sums(one, who) for one in systems)
        found = [
            permutation_p(one, baseline, _ratio, permutations=resamples, seed=[trial, number])
            for number, one in enumerate(variants)
        ]
        plain += any(p is not None and p < 0.05 for p in found)
        corrected += any(p is not None and p < 0.05 for p in holm(found))
    return plain / trials, corrected / trials


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sums[..., 0] / sums[..., 1])


@dataclass(frozen=True)
class Results:
    """What a run found."""

    trials: int
    """Simulated test sets of each kind."""
    resamples: int
    """Draws, and swaps, of each."""
    coverage: list[Coverage]
    """Of intervals."""
    power: list[Power]
    """Of comparisons."""
    alarms: tuple[float, float]
    """Of ``family``."""


def table(results: Results) -> str:
    """Tell the results in Markdown."""
    noise = 100 * 1.96 * np.sqrt(0.05 * 0.95 / results.trials)
    command = f"`python benchmarks/bench_statistics.py --trials {results.trials} --resamples {results.resamples}`"
    speakers, each = REAL
    plain, corrected = (100 * share for share in results.alarms)
    lines = [
        f"{command}; a share of 95 % is known to +-{noise:.1f} points from so many trials.",
        "",
        "## 95 % intervals: how often they hold the truth, in %",
        "",
        "| value | simulated test set | resampled | percentile | ours | truth above | truth below | width ratio |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {r.what} | {r.data} | {r.units} | {100 * r.percentile:.1f} | {100 * r.ours:.1f} | {100 * r.below:.1f} "
            f"| {100 * r.above:.1f} | {r.wider:.2f} |"
            for r in results.coverage
        ),
        "",
        f"## Two systems on {speakers * each} utterances of {speakers} speakers: trials that find a difference, in %",
        "",
        "| unit | planted, points | paired interval leaves out 0 | permutation p < 0.05 |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {p.units} | {p.planted:g} | {100 * p.by_interval:.1f} | {100 * p.by_test:.1f} |" for p in results.power),
        "",
    ]
    lines.append(
        f"{VARIANTS} variants as good as the baseline: at least one false alarm in {plain:.1f} % of reports by "
        f"plain p-values, in {corrected:.1f} % by Holm's."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/statistics"))
    asked = parser.parse_args()
    trials, resamples = asked.trials, asked.resamples
    results = Results(
        trials=trials,
        resamples=resamples,
        coverage=coverage_of_rates(trials, resamples) + coverage_of_scores(trials, resamples),
        power=power(trials, resamples),
        alarms=family(trials, resamples),
    )
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "table.md").write_text(table(results), encoding="utf-8")
    (asked.output / "numbers.json").write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
