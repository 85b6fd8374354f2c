"""Check everything that can be checked before the first utterance, and write down what was asked for."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_evaluation.bounds import budget_of
from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.manifests import plan_manifest
from kdcompress_evaluation.recognise import streaming_plan
from kdcompress_evaluation.summary import BrokenVariant, RunInfo
from kdcompress_evaluation.systems.predictions import knows
from kdcompress_evaluation.tasks import BY_INPUT, TASKS
from kdcompress_evaluation.variants import find_baseline, plan_variants
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_evaluation.options import EvalOptions
    from kdcompress_evaluation.variants import VariantInfo


def plan(
    systems: Sequence[Path], manifests: Mapping[str, Path], options: EvalOptions
) -> tuple[tuple[RunInfo, ...], tuple[BrokenVariant, ...]]:
    """Open every system, read every manifest once, settle names, and part the tasks.

    Returns:
        What is evaluated, one run a task in the order of ``TASKS``; and what could not be opened (the others go on
        without it). Several tasks are several runs only where manifests feed different things.

    Raises:
        OptionsError: nothing to evaluate, an unknown baseline or candidate, a system without a manifest of its kind or
            a manifest without a system, a manifest name that cannot name a file.
        ManifestError: a manifest is missing, empty, or has a broken line.
        KdcompressError: no system can be opened.
    """
    if not manifests:
        raise OptionsError("no manifest to evaluate on; give at least one as NAME=FILE")
    for name in manifests:
        if not re.fullmatch(r"[\w-]+", name):
            raise OptionsError(f"the manifest name {name!r} names files; use letters, digits, - and _ only")
    found, broken = plan_variants([Path(system) for system in systems], options.precisions, options.anchors)
    paths = {name: Path(path) for name, path in manifests.items()}
    groups = _part(found, paths)
    _check_baselines(options.baselines, found)
    candidates = find_candidates(found, options.candidates)
    machine, created = describe_machine(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    runs = [
        RunInfo(
            variants=group.variants,
            baseline=_baseline(options.baselines, group.variants).name,
            manifests=tuple(plan_manifest(name, path) for name, path in group.manifests.items()),
            task=group.task,
            decoder=options.decoding.describe(),
            streaming=streaming_plan(options),
            normaliser=options.normaliser or TASKS[group.task].normaliser,
            resamples=options.resamples,
            seed=options.seed,
            tolerance=options.tolerance,
            budget=options.budget if len(groups) == 1 else budget_of(options.budget, group.task),
            candidates=tuple(name for name in candidates if name in {v.name for v in group.variants}),
            slices=options.slices,
            resample_by=options.resample_by,
            command=options.command,
            device_note=options.device_note,
            machine=machine,
            created=created,
        )
        for group in groups
    ]
    return tuple(runs), tuple(broken)


@dataclass(frozen=True)
class _Group:
    """One task with what belongs to it."""

    task: str
    variants: tuple[VariantInfo, ...]
    manifests: dict[str, Path]


def _part(variants: Sequence[VariantInfo], manifests: Mapping[str, Path]) -> list[_Group]:
    """Give each system the manifests of its kind.

    Raises:
        OptionsError: one of them is left over.
        ManifestError: see ``plan``.
    """
    fed = {name: next(iter(read_manifest(path))).kind for name, path in manifests.items()}
    kinds = [kind for kind in BY_INPUT if kind in fed.values()]
    if len(kinds) < 2:
        return [_Group(_only_task(variants, kinds), tuple(variants), dict(manifests))]
    groups = []
    for kind in kinds:
        task = BY_INPUT[kind].name
        own = {name: path for name, path in manifests.items() if fed[name] == kind}
        mine = tuple(v for v in variants if v.task == task or (not v.task and knows(v, own)))
        if not any(not variant.anchor for variant in mine):
            raise OptionsError(
                f"{', '.join(own)} gives {BY_INPUT[kind].inputs}, and no system to evaluate is fed those; add one, or "
                "leave the manifest out"
            )
        groups.append(_Group(task, mine, own))
    for variant in variants:
        if not any(variant in group.variants for group in groups):
            raise OptionsError(_left_over(variant))
    return groups


def _only_task(variants: Sequence[VariantInfo], kinds: Sequence[str]) -> str:
    """The task of manifests that all feed the same: what the systems say, else what is fed.

    Raises:
        OptionsError: the systems do not agree.
    """
    stated = {variant.task: variant for variant in variants if variant.task}
    if len(stated) < 2:
        return next(iter(stated), "") or BY_INPUT[kinds[0]].name
    fed = BY_INPUT[kinds[0]].name if kinds else ""
    other = next(variant for task, variant in stated.items() if task != fed)
    raise OptionsError(_left_over(other))


def _left_over(variant: VariantInfo) -> str:
    """What is said of a system that no manifest feeds."""
    if not variant.task:
        return f"{variant.bundle_path} holds no text for any line of the manifests; check its ids"
    task = TASKS.get(variant.task)
    wanted = f"gives {task.inputs}" if task is not None else "is of that task"
    return (
        f"{variant.bundle_name} is of the task {variant.task}, and no manifest {wanted}: systems of different tasks "
        "are not compared, each needs a manifest of its kind; add one, or leave the system out"
    )


def _baseline(names: Sequence[str], variants: Sequence[VariantInfo]) -> VariantInfo:
    """The one of the names that is among these variants; else the first bundle."""
    for name in names:
        with suppress(OptionsError):
            return find_baseline(variants, name)
    return find_baseline(variants, None)


def _check_baselines(names: Sequence[str], variants: Sequence[VariantInfo]) -> None:
    """Refuse names that nothing has, and two of one task.

    Raises:
        OptionsError: see above.
    """
    tasks = [find_baseline(variants, name).task for name in names]
    if len(set(tasks)) < len(tasks):
        raise OptionsError(f"several baselines of one task ({', '.join(names)}); name one for each task")


def find_candidates(variants: Sequence[VariantInfo], wanted: Sequence[str]) -> tuple[str, ...]:
    """Names of the variants that were named as candidates, by their own name or by that of their bundle.

    Raises:
        OptionsError: nothing has that name, or it is an anchor.
    """
    chosen: list[str] = []
    for name in wanted:
        same = [v for v in variants if name in {v.name, v.bundle_name, Path(v.bundle_path).stem}]
        if not same:
            known = ", ".join(v.name for v in variants)
            raise OptionsError(f"no variant or bundle is called {name!r}; choose candidates among: {known}")
        if all(v.anchor for v in same):
            raise OptionsError(f"{name} is an anchor and never ships; leave it out of the candidates or the anchors")
        chosen += [v.name for v in same if not v.anchor and v.name not in chosen]
    return tuple(chosen)
