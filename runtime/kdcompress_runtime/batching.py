"""Many streams in one call of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.errors import ModelError
from kdcompress_runtime.feed import one_step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import StateSpec
    from kdcompress_runtime.feed import Plan
    from kdcompress_runtime.model import CtcModel
    from kdcompress_runtime.track import Track

MAX_BATCH = 32
"""Most streams in one call: bounds its memory, and the time until the first of them has its answer."""


def run_together(model: CtcModel, tracks: Sequence[Track]) -> None:
    """Step all tracks as far as their audio reaches, in calls of up to ``MAX_BATCH`` of them.

    A track whose step fails stays where it is; the others go on.

    Raises:
        ModelError: the model failed for a track; the first such error, raised when all others are done.
        OptionsError: a VAD gave no answer.
    """
    together = MAX_BATCH if model.batchable else 1
    waiting = list(tracks)
    failed: ModelError | None = None
    while waiting:
        plans = [(track, plan) for track in waiting if (plan := track.plan()) is not None]
        waiting = [track for track, _ in plans]
        for start in range(0, len(plans), together):
            for track, error in _follow(model, plans[start : start + together]):
                waiting.remove(track)
                failed = failed or error
    if failed is not None:
        raise failed


def _follow(model: CtcModel, plans: Sequence[tuple[Track, Plan]]) -> list[tuple[Track, ModelError]]:
    """One step for each plan, in one call; one by one when that fails, to find whose fault it is."""
    if len(plans) > 1:
        try:
            _step(model, plans)
        except ModelError:
            pass
        else:
            return []
    failures = []
    for track, plan in plans:
        try:
            track.take(plan, *one_step(model, plan))
        except ModelError as error:  # noqa: PERF203 - a failure is rare, and must not stop the others
            failures.append((track, error))
    return failures


def _step(model: CtcModel, plans: Sequence[tuple[Track, Plan]]) -> None:
    inputs = np.stack([plan.inputs for _, plan in plans if plan.inputs is not None])
    specs = model.metadata.states
    states = stack_states([plan.position.states for _, plan in plans], specs)
    log_probs, following = model.step(inputs, states)
    for (track, plan), rows, state in zip(plans, log_probs, unstack_states(following, specs, len(plans)), strict=True):
        track.take(plan, rows, state)


def stack_states(states: Sequence[Mapping[str, NDArray[Any]]], specs: Sequence[StateSpec]) -> dict[str, NDArray[Any]]:
    """Join the states of N streams along the batch axis."""
    return {
        spec.name: np.concatenate([one[spec.name] for one in states], axis=spec.shape.index(BATCH_AXIS))
        for spec in specs
    }


def unstack_states(
    states: Mapping[str, NDArray[Any]], specs: Sequence[StateSpec], count: int
) -> list[dict[str, NDArray[Any]]]:
    """The states of each of ``count`` streams, as copies: a stream keeps nothing of the others."""
    parts = {}
    for spec in specs:
        axis = spec.shape.index(BATCH_AXIS)
        parts[spec.name] = [part.copy() for part in np.split(states[spec.name], count, axis=axis)]
    return [{name: part[index] for name, part in parts.items()} for index in range(count)]
