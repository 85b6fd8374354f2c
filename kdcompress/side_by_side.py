"""Train several students on the same batches in one process: reading, features and teachers' answers are shared.

For comparing methods. Each run gives the very weights that it would give alone.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from kdcompress.distill import Updates, finish, finished_summary
from kdcompress.errors import TrainingDivergedError
from kdcompress.interrupt import DeferredInterrupt
from kdcompress.lock import alone_in
from kdcompress.parallel import processes
from kdcompress.run import RunFolder
from kdcompress.sources import load_teachers
from kdcompress.trainer import setup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress.hearing import Memo
    from kdcompress.recipe import Recipe
    from kdcompress.sources import Loaded


def fit_side_by_side(
    runs: Sequence[tuple[Recipe, Path]], on_progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Train every recipe into its folder, as ``fit`` does; those that read the same batches together.

    A run whose loss is not finite is left out, and reported when the others are done. ``seconds`` of a run are those of
    all that trained with it, since a shared teacher belongs to none in particular.

    Args:
        runs: recipes, and the folders of their runs.
        on_progress: called as ``(updates, all_updates)`` after each step, counted over all runs.

    Returns:
        Content of each ``run.json``, in the order of ``runs``.

    Raises:
        TrainingDivergedError: a run has diverged; the others are finished.
        KdcompressError: see ``fit``.
    """
    total = sum(recipe.train.steps for recipe, _ in runs)
    waiting = [(recipe, path) for recipe, path in runs if finished_summary(recipe, RunFolder(path)) is None]
    done = total - sum(recipe.train.steps for recipe, _ in waiting)
    diverged: list[TrainingDivergedError] = []
    while waiting:
        loaded: Loaded = {}
        group = [run for run in waiting if _batches_of(run[0], loaded) == _batches_of(waiting[0][0], loaded)]
        waiting = [run for run in waiting if run not in group]
        with ExitStack() as stack:
            for _, path in group:
                stack.enter_context(alone_in(path, processes()))
            together = [Updates(setup(recipe, RunFolder(path), loaded)) for recipe, path in group]
            for updates in _train(together, diverged, lambda count: on_progress and on_progress(done + count, total)):  # noqa: B023
                finish(updates)
        done += sum(recipe.train.steps for recipe, _ in group)
    if diverged:
        raise diverged[0]
    return [finished_summary(recipe, RunFolder(path)) or {} for recipe, path in runs]


def _train(
    together: list[Updates], diverged: list[TrainingDivergedError], on_progress: Callable[[int], object]
) -> list[Updates]:
    """Do the updates of all, and return those that came through."""
    together = list(together)
    last = min(together, key=lambda updates: updates.step)
    step = last.step
    with DeferredInterrupt() as interrupt:
        for batch in last.batches():
            memos: dict[int, Memo] = {}
            for updates in [updates for updates in together if updates.step == step]:
                updates.seconds = last.seconds
                try:
                    updates.apply(batch, memos)
                except TrainingDivergedError as problem:
                    diverged.append(problem)
                    together.remove(updates)
            step += 1
            stops = [updates.checkpoint(stop=interrupt.requested) for updates in together]
            if any(stops):
                raise KeyboardInterrupt
            on_progress(sum(updates.step for updates in together))
    return together


def _batches_of(recipe: Recipe, loaded: Loaded) -> dict[str, Any]:
    """What decides over batches and features; streams of several teachers do, too, and teachers that hear more."""
    chosen = recipe.model_dump(include={"task", "seed", "data", "frontend", "augment", "train", "init", "init_encoder"})
    teachers = load_teachers(recipe, loaded)
    rates = {teacher.info.sample_rate for teacher in teachers}
    streams = len(teachers) if recipe.distill and recipe.distill.combine.streams_per_item else 1
    return {
        **chosen,
        "subsampling_factor": recipe.model.subsampling_factor,
        "streams": streams,
        "teacher_rates": rates - {recipe.frontend.sample_rate},
    }
