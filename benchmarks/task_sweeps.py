"""Students of several methods side by side, for ``bench_text.py`` and ``bench_translation.py``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import yaml

from kdcompress.files import write_text
from kdcompress.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Method(NamedTuple):
    """What a student learns from."""

    teachers: tuple[str, ...] = ()
    """Folders of runs or stores, inside that of the benchmark."""
    combine: str = "single"
    """How several are made one: ``distill.combine.kind``."""
    losses: tuple[dict[str, object], ...] = ({"kind": "ctc"},)
    """Of the recipe."""


def mixed(share: float, **loss: object) -> tuple[dict[str, object], ...]:
    """``(1 - share) * CTC + share * loss``."""
    return ({"kind": "ctc", "weight": round(1 - share, 3)}, {**loss, "weight": share})


def student(output: Path, number: int, seed: int) -> Path:
    """Folder of a student."""
    return output / "students" / f"{number}-seed{seed}"


def sweep_step(  # noqa: PLR0917 (positions read well here)
    output: Path, recipe: str, methods: Mapping[str, Method], chosen: Sequence[str], settings: Sequence[str], seed: int
) -> Step:
    """Train the students of the methods that are chosen, on the same batches."""
    variants = {}
    for number, (name, method) in enumerate(methods.items()):
        if name not in chosen:
            continue
        own = [*settings, f"seed={seed}", f"losses={json.dumps(method.losses)}"]
        if method.teachers:
            paths = [str(output / teacher) for teacher in method.teachers]
            own.append(f"distill={json.dumps({'teachers': paths, 'combine': {'kind': method.combine}})}")
        variants[student(output, number, seed).name] = own
    file = output / "sweeps" / f"seed{seed}.yaml"
    write_text(file, yaml.safe_dump({"recipe": recipe, "variants": variants}))
    return Step(f"seed {seed}", ("sweep", str(file), "-o", str(output / "students")))
