"""Check everything that can be checked before the first utterance, and write down what was asked for."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.manifests import plan_manifest
from kdcompress_evaluation.recognise import streaming_plan
from kdcompress_evaluation.summary import BrokenVariant, RunInfo
from kdcompress_evaluation.variants import find_baseline, plan_variants
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcompress_evaluation.options import EvalOptions
    from kdcompress_evaluation.variants import VariantInfo

_TASKS = {"audio": "speech", "image": "scene_text", "text": "translation"}


def plan(
    systems: Sequence[Path], manifests: Mapping[str, Path], options: EvalOptions
) -> tuple[RunInfo, tuple[BrokenVariant, ...]]:
    """Open every system, read every manifest once, and settle names.

    Returns:
        What is evaluated, and what could not be opened (the others go on without it).

    Raises:
        OptionsError: nothing to evaluate, an unknown baseline or candidate, systems of different tasks, a manifest name
            that cannot name a file.
        ManifestError: a manifest is missing, empty, or has a broken line.
        KdcompressError: no system can be opened.
    """
    if not manifests:
        raise OptionsError("no manifest to evaluate on; give at least one as NAME=FILE")
    for name in manifests:
        if not re.fullmatch(r"[\w-]+", name):
            raise OptionsError(f"the manifest name {name!r} names files; use letters, digits, - and _ only")
    found, broken = plan_variants([Path(system) for system in systems], options.precisions, options.anchors)
    variants = tuple(found)
    run = RunInfo(
        variants=variants,
        baseline=find_baseline(variants, options.baseline).name,
        manifests=tuple(plan_manifest(name, Path(path)) for name, path in manifests.items()),
        task=find_task(variants, [Path(path) for path in manifests.values()]),
        decoder=options.decoding.describe(),
        streaming=streaming_plan(options),
        normaliser=options.normaliser,
        resamples=options.resamples,
        seed=options.seed,
        tolerance=options.tolerance,
        budget=options.budget,
        candidates=find_candidates(variants, options.candidates),
        slices=options.slices,
        command=options.command,
        device_note=options.device_note,
        machine=describe_machine(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return run, tuple(broken)


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


def find_task(variants: Sequence[VariantInfo], manifests: Sequence[Path]) -> str:
    """The task that decides the metrics: what the systems say, else what the manifests feed.

    Raises:
        OptionsError: the systems do not agree.
        ManifestError: a manifest is missing, empty, or has a broken line.
    """
    stated = {v.task for v in variants if v.task}
    if len(stated) > 1:
        raise OptionsError(
            f"systems of different tasks cannot be compared ({', '.join(sorted(stated))}); report on each task alone"
        )
    if stated:
        return stated.pop()
    kinds = {next(iter(read_manifest(manifest))).kind for manifest in manifests}
    if len(kinds) > 1:
        raise OptionsError(f"the manifests feed different things ({', '.join(sorted(kinds))}); report on each alone")
    return _TASKS[kinds.pop()]
