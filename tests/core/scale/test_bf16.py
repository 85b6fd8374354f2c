"""Every loss in bf16, in parts, for a student and a teacher that know nothing, and for two that are far too sure."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, get_args

import torch

from kdcompress.distill import Updates
from kdcompress.errors import TrainingDivergedError
from kdcompress.losses import AnyLoss
from kdcompress.run import RunFolder
from kdcompress.trainer import setup

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.recipe import Recipe

MORE: dict[str, dict[str, Any]] = {
    "label_interpolation": {"lm": "letters"},
    "lm_head": {"lm": "letters", "ctc": 0.5},
    "representation": {"lm": "letters"},
    "codebook": {"codebooks": 2, "entries": 4},
    "inter_ctc": {"layers": [0], "own": 1.0},
    "inter_kd": {"layers": [0]},
    "in_place": {"heads": 2},
    "essence": {"top_k": 2, "renormalise": "tail"},
    "frame_kl": {"temperature": 0.1},
    "feature_match": {"distance": "cosine", "frame_weights": "nonblank"},
}
SURENESS = (1.0, 300.0, 3e4)


def updates_of(recipe: Recipe, folder: Path, sureness: float) -> list[dict[str, float]] | Exception:
    """Scalars of two updates after the output layers of both sides were multiplied by ``sureness``."""
    seen: list[dict[str, float]] = []
    updates = Updates(setup(recipe, RunFolder(folder)), lambda *progress: seen.append(progress[2]))
    trainer = updates.trainer
    with torch.no_grad():
        for network in (trainer.network, trainer.sources[0].teacher.network):
            network.head.weight.mul_(sureness)
    try:
        for batch, _ in zip(updates.batches(), range(2), strict=False):
            updates.apply(batch)
    except TrainingDivergedError as problem:
        return problem
    return seen


def test_no_loss_overflows(in_processes, make_recipe, runs, *, text_model, alignment, tmp_path):
    kinds = [get_args(loss.model_fields["kind"].annotation)[0] for loss in get_args(get_args(AnyLoss)[0])]
    assert len(set(kinds)) == len(kinds) >= 17
    losses = [{"kind": kind, **MORE.get(kind, {})} for kind in kinds]
    reading = {"language_models": {"letters": str(text_model)}, "alignment": str(alignment)}
    distill = {"teachers": [str(runs["conventional"])], **reading}
    settings = [f"losses={json.dumps(losses)}", f"distill={json.dumps(distill)}"]
    recipe = make_recipe("student", *settings, precision="bf16", accumulate=2)

    def job() -> list[list[dict[str, float]] | Exception]:
        return [updates_of(recipe, tmp_path / str(sureness), sureness) for sureness in SURENESS]

    (found,) = in_processes(1, job)
    for rows in found:
        assert isinstance(rows, list), rows
        assert len(rows) == 2
        for row in rows:
            assert row.keys() == {"loss", *kinds}
            assert {name for name, value in row.items() if not math.isfinite(value)} == set()
