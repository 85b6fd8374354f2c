"""Which settings to try: a coarse grid, then one weight after the other in ever smaller steps, then beam widths.

The error rate of a beam search is a staircase in its weights, so no gradient is used. Ties keep the setting that was
found first, which is the one nearer to the defaults.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.decoders import DecoderOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcompress_export.decoder_tuning.options import TuneOptions
    from kdcompress_export.decoder_tuning.trials import Trial, Trials

_PENALTIES = (0.0, 1.0, 2.0, -1.0)
_GREEDY_TRIALS = 30
"""They cost next to nothing, so they are not counted."""
_NOTHING = 0.001
"""Share of the reference; no more errors than this are worth twice the work."""
_GRID = {"alpha": (0.5, 0.25, 1.0), "beta": (1.5, 0.0, 3.0)}


@dataclass(frozen=True)
class Weight:
    """One number that is searched."""

    name: str
    """Field of ``DecoderOptions``."""
    step: float
    """First step."""
    last: float
    """Smallest step."""
    least: float = -math.inf
    """Lower bound."""
    most: float = math.inf
    """Upper bound."""


PENALTY = Weight("blank_penalty", 0.5, 0.25, -4.0, 8.0)
FUSION = (Weight("alpha", 0.25, 0.0625, 0.0, 4.0), Weight("beta", 1.0, 0.25, -4.0, 8.0))
UNKNOWN = Weight("unk_score", 5.0, 2.5, -60.0, 0.0)


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    greedy: Trial
    """Greedy, as a bundle decodes that nobody tuned."""
    tuned_greedy: Trial
    """Greedy with the best blank penalty."""
    widths: tuple[Trial, ...]
    """The best weights at every width, ascending; empty where no beam was tried."""
    chosen: Trial
    """What goes into the bundle."""
    reason: str
    """One sentence."""
    out_of: str = ""
    """What ended the search before it was done: trials or time; empty where nothing did."""


class Budget:
    """How many trials and how much time are left."""

    def __init__(self, trials: int, seconds: float | None, on_trial: Callable[[int, int], None] | None = None) -> None:
        self._trials, self._most, self._on_trial = 0, trials, on_trial
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        self.out_of = ""
        """What is used up: trials or time."""

    def take(self) -> bool:
        """Use up one trial; False where there is none left."""
        if self._trials >= self._most:
            self.out_of = "trials"
        elif time.monotonic() >= self._end:
            self.out_of = "time"
        if self.out_of:
            return False
        self._trials += 1
        if self._on_trial:
            self._on_trial(self._trials, self._most)
        return True


def search(trials: Trials, options: TuneOptions, on_trial: Callable[[int, int], None] | None = None) -> Found:
    """Search weights and width.

    Raises:
        OptionsError: the decoder cannot use the language model or the lexicon.
    """
    budget = Budget(options.trials, options.seconds, on_trial)
    greedy = trials.run(DecoderOptions())
    penalised = [replace(DecoderOptions(), blank_penalty=penalty) for penalty in _PENALTIES]
    tuned = _climb(trials, Budget(_GREEDY_TRIALS, options.seconds), penalised, (PENALTY,)) or greedy
    tuned = _earned(tuned, greedy)
    if options.kind == "greedy":
        return Found(greedy, tuned, (), tuned, "greedy was asked for", budget.out_of)
    weights = (*((*FUSION, *_unknown(trials)) if trials.lm is not None else ()), PENALTY)
    start = DecoderOptions(kind="beam", beam_width=options.search_width)
    best = _climb(trials, budget, list(_grid(trials, start, tuned)), weights) or trials.run(start)
    best = _earned(best, trials.run(start))
    sizes = sorted({*options.beam_widths, options.search_width})
    widths = tuple(trials.run(replace(best.options, beam_width=width)) for width in sizes)
    best = min(widths, key=lambda trial: trial.rank)
    chosen, reason = _choose(tuned if options.kind == "auto" else None, widths, best, trials.dev.references.total)
    return Found(greedy, tuned, widths, chosen, reason, budget.out_of)


def standard_error(one: Trial, two: Trial) -> float:
    """Standard error of the difference of their errors over the same items, in errors."""
    difference = np.subtract(one.wrong, two.wrong)
    return float(np.sqrt(len(difference)) * difference.std(ddof=1)) if len(difference) > 1 else 0.0


def _unknown(trials: Trials) -> tuple[Weight, ...]:
    return (UNKNOWN,) if trials.lm is not None and trials.lm.unit == "word" and trials.lexicon is None else ()


def _grid(trials: Trials, start: DecoderOptions, greedy: Trial) -> Iterator[DecoderOptions]:
    """Settings to begin with, the defaults first; the blank penalty is the one that greedy liked, or none."""
    penalties = dict.fromkeys((0.0, greedy.options.blank_penalty))
    grid = _GRID if trials.lm is not None else {}
    for penalty in penalties:
        for values in itertools.product(*grid.values()):
            here: dict[str, Any] = dict(zip(grid, values, strict=True))
            yield replace(start, blank_penalty=penalty, **here)


def _climb(trials: Trials, budget: Budget, starts: list[DecoderOptions], weights: tuple[Weight, ...]) -> Trial | None:
    """The best of ``starts``, improved one weight after the other; None where the budget allowed no trial."""
    best: Trial | None = None
    for options in starts:
        if budget.take():
            here = trials.run(options)
            best = here if best is None or here.rank < best.rank else best
    halvings = 0
    while best is not None and not budget.out_of:
        steps = [(weight, weight.step / 2**halvings) for weight in weights]
        steps = [(weight, step) for weight, step in steps if step >= weight.last]
        if not steps:
            break
        before = best.rank
        for weight, step in steps:
            best = _walk(trials, budget, best, weight, step)
        halvings += best.rank == before
    return best


def _walk(trials: Trials, budget: Budget, best: Trial, weight: Weight, step: float) -> Trial:
    """Go along one weight, in the direction that helps, as far as it helps."""
    for signed in (step, -step):
        improved = False
        while True:
            value = round(getattr(best.options, weight.name) + signed, 6)
            options = replace(best.options, **{weight.name: value})
            if not weight.least <= value <= weight.most:
                break
            known = options in trials.done
            if not known and not budget.take():
                return best
            here = trials.run(options)
            if here.rank >= best.rank:
                break
            best, improved = here, True
        if improved:
            break
    return best


def _earned(tuned: Trial, default: Trial) -> Trial:
    """The tuned setting where it makes fewer errors beyond noise (two standard errors), else the default.

    What wins among many by chance does not win elsewhere, and may lose: a wrong blank penalty costs more than none.
    """
    fewer = sum(default.wrong) - sum(tuned.wrong)
    return tuned if fewer > 2 * standard_error(tuned, default) else default


def _choose(greedy: Trial | None, widths: tuple[Trial, ...], best: Trial, total: int) -> tuple[Trial, str]:
    """The cheapest setting within noise of the best: one standard error (Breiman's rule), or next to nothing."""
    for trial in (*((greedy,) if greedy is not None else ()), *widths):
        worse = sum(trial.wrong) - sum(best.wrong)
        noise = max(standard_error(trial, best), _NOTHING * total)
        if worse <= noise:
            best_name = _name(best.options)
            if trial.options == best.options:
                return trial, f"{best_name} makes the fewest errors, and nothing cheaper comes within the noise"
            return trial, (
                f"{_name(trial.options)} is the cheapest that makes no more errors than {best_name} beyond noise: "
                f"{worse:+d} errors, noise {noise:.1f}"
            )
    raise ValueError("the best setting is not among the widths")


def _name(options: DecoderOptions) -> str:
    return "greedy" if options.kind == "greedy" else f"beam {options.beam_width}"
