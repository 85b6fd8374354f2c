"""How long a run takes to become as good as the end of another one, from the measurements of both on dev.

The measure is the CTC loss a frame: a network that has seen the reference has one, too, but no recognition rate.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kdcompress.errors import RunError
from kdcompress.metrics import read_metrics
from kdcompress.sources import frame_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress.run import RunFolder, TrainedRun


@dataclass(frozen=True)
class Point:
    """One measurement on dev, or a place between two."""

    updates: float
    """Updates done."""
    seconds: float
    """Time they took; it depends on what else the machine did."""
    dev_ctc: float
    """CTC loss a frame in nats."""


@dataclass(frozen=True)
class TimeToQuality:
    """A run, its twin, and where the run is as good as the twin at its end."""

    name: str
    """Of the run."""
    twin_name: str
    """Of the twin."""
    curve: tuple[Point, ...]
    """Measurements of the run."""
    twin_curve: tuple[Point, ...]
    """Measurements of the twin; the last one is the quality to reach."""
    reached: Point | None
    """Where the run gets there, on the straight line between two measurements; None if it never does."""
    from_the_first: bool
    """The first measurement of the run is there already, so ``reached`` is an upper bound."""

    @property
    def target(self) -> float:
        """The twin's last ``dev_ctc``."""
        return self.twin_curve[-1].dev_ctc

    @property
    def updates_ratio(self) -> float | None:
        """Updates that the run needs, as a share of the twin's."""
        return self.reached.updates / self.twin_curve[-1].updates if self.reached else None

    @property
    def seconds_ratio(self) -> float | None:
        """The same in seconds; None, too, where the twin's were not measured."""
        whole = self.twin_curve[-1].seconds
        return self.reached.seconds / whole if self.reached and whole else None

    @property
    def sentence(self) -> str:
        """One line for people."""
        quality = f"the final dev CTC of {self.twin_name} ({self.target:.4f} nats a frame)"
        end = self.twin_curve[-1]
        if self.reached is None:
            best = min(point.dev_ctc for point in self.curve)
            return f"{self.name} never reaches {quality}; its best is {best:.4f}"
        most = "at most " if self.from_the_first else ""
        seconds = "" if self.seconds_ratio is None else f", {self.seconds_ratio:.2f} of its seconds"
        return (
            f"{self.name} reaches {quality} after {most}{self.reached.updates:.0f} updates: "
            f"{self.updates_ratio:.2f} of its {end.updates:.0f}{seconds}"
        )

    def to_json(self) -> dict[str, Any]:
        """Fields, ratios and sentence."""
        return {
            **asdict(self),
            "target": self.target,
            "updates_ratio": self.updates_ratio,
            "seconds_ratio": self.seconds_ratio,
            "sentence": self.sentence,
        }


def time_to_quality(run: TrainedRun, twin: TrainedRun) -> TimeToQuality:
    """Compare the curves of two runs.

    Raises:
        RunError: a run was never measured on dev, or their measurements cannot be compared.
    """
    _check_comparable(run, twin)
    curve, twin_curve = read_curve(run.folder), read_curve(twin.folder)
    target = twin_curve[-1].dev_ctc
    return TimeToQuality(
        name=run.recipe.name,
        twin_name=twin.recipe.name,
        curve=curve,
        twin_curve=twin_curve,
        reached=crossing(curve, target),
        from_the_first=curve[0].dev_ctc <= target,
    )


def read_curve(folder: RunFolder) -> tuple[Point, ...]:
    """Measurements on dev by update; of two at the same update, the later one.

    Raises:
        RunError: there is none, or the file cannot be read.
    """
    points: dict[int, Point] = {}
    try:
        for row in read_metrics(folder.metrics):
            if "dev_ctc" in row and math.isfinite(row["dev_ctc"]):
                points[int(row["step"])] = Point(int(row["step"]), float(row["seconds"]), float(row["dev_ctc"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder.metrics}: cannot be read ({error!r}); train again") from error
    if not points:
        raise RunError(f"{folder.metrics}: holds no dev_ctc; train with data.dev and a smaller train.eval_every")
    return tuple(points[step] for step in sorted(points))


def crossing(curve: Sequence[Point], target: float) -> Point | None:
    """Where a curve first is at ``target`` or below, linear between measurements; None if nowhere."""
    if curve[0].dev_ctc <= target:
        return curve[0]
    for before, after in pairwise(curve):
        if after.dev_ctc <= target:
            share = (before.dev_ctc - target) / (before.dev_ctc - after.dev_ctc)
            return Point(
                updates=before.updates + share * (after.updates - before.updates),
                seconds=before.seconds + share * (after.seconds - before.seconds),
                dev_ctc=target,
            )
    return None


def _check_comparable(run: TrainedRun, twin: TrainedRun) -> None:
    """Raise RunError unless a CTC loss a frame means the same in both."""
    measured = [one.summary.get("data", {}).get("dev", {}).get("fingerprint") for one in (run, twin)]
    for one, fingerprint in zip((run, twin), measured, strict=True):
        if fingerprint is None:
            raise RunError(f"{one.folder.path}: has no dev manifest; train with data.dev to compare its curve")
    if measured[0] != measured[1]:
        raise RunError(
            f"{run.folder.path} and {twin.folder.path} were measured on different dev manifests; "
            "train both with the same data.dev"
        )
    if frame_of(run.recipe) != frame_of(twin.recipe) or run.vocabulary.symbols != twin.vocabulary.symbols:
        raise RunError(
            f"{run.folder.path} and {twin.folder.path} differ in the length of a frame or in their tokens; "
            "a twin is the same but for what it sees"
        )
