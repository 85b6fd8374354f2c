"""Finished run -> smaller run: blocks, then channels, removed where training data miss them least.

Every block keeps as many channels as every other, so that the recipe of the smaller model is as simple as before. What
is lost is to be learned again: ``prune_recipe`` makes the recipe by which the larger run teaches the smaller one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import lcm
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from kdcompress.checkpoint import write_tensors
from kdcompress.data.task import TASKS
from kdcompress.errors import RecipeError, RunError
from kdcompress.files import file_sha256, write_text
from kdcompress.hearing import hear
from kdcompress.layers import count_parameters
from kdcompress.losses.ctc import CtcLoss
from kdcompress.measure import measure
from kdcompress.provenance import data_provenance, versions
from kdcompress.pruning.groups import groups_of
from kdcompress.pruning.importance import channel_scores, mean_loss
from kdcompress.pruning.surgery import without_blocks, without_channels
from kdcompress.recipe import Recipe
from kdcompress.run import RunFolder, build_network, load_student
from kdcompress.students.base import Student
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress.hearing import Heard
    from kdcompress.pruning.groups import Group
    from kdcompress.pruning.surgery import Weights
    from kdcompress.run import TrainedRun

MULTIPLE = 8
"""Channels that are kept come in multiples of it where there are enough: int8 kernels compute them side by side."""
NOT_STARTED = {"init": None, "init_encoder": None}
"""What a recipe says of the run that its training began with; a pruned run began with none of its own."""


@dataclass(frozen=True)
class PruneOptions:
    """What to keep.

    Raises:
        OptionsError: a value is outside its range, or nothing would be removed.
    """

    keep_channels: float = 1.0
    """Share of the channels inside each block, rounded to a multiple of eight."""
    keep_blocks: int | None = None
    """Blocks; all when left out. The look-ahead stays and is spread over those that are left."""
    keep_width: float = 1.0
    """Share of the channels between the blocks, rounded to a multiple of eight (and of the attention heads)."""
    batches: int = 4
    """Training batches on which everything is measured."""

    def __post_init__(self) -> None:
        for name in ("keep_channels", "keep_width"):
            if not 0 < getattr(self, name) <= 1:
                raise OptionsError(f"{name} must be above 0 and at most 1, found {getattr(self, name)}")
        if self.batches < 1 or (self.keep_blocks is not None and self.keep_blocks < 1):
            raise OptionsError("keep_blocks and batches must be at least 1")
        if self.keep_channels == self.keep_width == 1 and self.keep_blocks is None:
            raise OptionsError("nothing to remove; give keep_channels, keep_blocks or keep_width")


def pruned_folder(output: Path) -> Path:
    """Folder beside ``output`` for the pruned run that is not yet distilled."""
    return output.with_name(f"{output.name}-undistilled")


def prune_run(run: Path, output: Path, options: PruneOptions, on_progress: Callable[[str], None] | None = None) -> Path:
    """Write the folder of a finished run that holds a smaller model, cut out of ``run``.

    ``run.json`` says under ``pruned`` what it was cut from, what was kept, and the loss before and after.

    Args:
        run: folder of a finished run of a student; its training data are read.
        output: folder to write; the same pruning, done before, is kept.
        options: see there.
        on_progress: called with one line at every stage.

    Returns:
        ``output``.

    Raises:
        RunError: ``run`` is no finished run of a student, or ``output`` holds something else.
        OptionsError: there are fewer blocks than should be kept.
        RecipeError: the blocks that are left cannot look as far ahead as the model does.
        ManifestError, AudioError: the data cannot be read.
    """
    say = on_progress or (lambda _: None)
    source, folder = load_student(run), RunFolder(output)
    origin = {"from": source.recipe.name, "sha256": file_sha256(source.folder.weights), "asked": asdict(options)}
    if folder.path.exists() and any(folder.path.iterdir()):
        if _origin(folder) == origin:
            return output
        raise RunError(f"{output}: is not empty and holds another run; choose another output folder")
    pruning = _Pruning.of(source, options.batches)
    start = pruning.loss()
    if options.keep_blocks is not None:
        pruning = _fewer_blocks(pruning, options.keep_blocks, say)
    pruning = _fewer_channels(pruning, options, say)
    found = {"parameters": source.summary.get("parameters"), "ctc": start, "ctc_undistilled": pruning.loss()}
    _write(pruning, source, folder, {**origin, **found, "blocks": list(pruning.blocks)})
    return output


@dataclass(frozen=True)
class _Pruning:
    """A student on its way down."""

    recipe: Recipe
    network: Student
    heard: Sequence[Heard]
    blank_id: int
    num_tokens: int
    blocks: tuple[int, ...]
    """Blocks that are left, by their numbers in the larger model."""

    @classmethod
    def of(cls, run: TrainedRun, batches: int) -> _Pruning:
        """Read the data and begin."""
        # How the run was taught has no bearing on how it is measured; its name will be another.
        changed = {"distill": None, "losses": (CtcLoss(),), "quantization_aware": None} | NOT_STARTED
        recipe = run.recipe.model_copy(update=changed)
        read = TASKS[recipe.task].training_batches(
            recipe, run.vocabulary, units_per_frame=run.network.units_per_frame, teacher_rates=[]
        )
        network = run.network
        if not isinstance(network, Student):
            raise RunError(f"{run.folder.path}: holds no student")
        heard = tuple(hear(network, recipe, read[step]) for step in range(batches))
        blocks = tuple(range(len(network.hidden_dims)))
        return cls(recipe, network, heard, run.vocabulary.blank_id, len(run.vocabulary), blocks)

    def loss(self) -> float:
        """CTC loss on the batches."""
        return mean_loss(self.network, self.heard, self.blank_id)

    def smaller(self, weights: Weights, blocks: tuple[int, ...], **sizes: Any) -> _Pruning:  # noqa: ANN401
        """Build the model with other sizes and the given weights."""
        tree = self.recipe.model.model_dump(mode="json") | sizes
        try:
            recipe = Recipe.model_validate(self.recipe.model_dump(mode="json", by_alias=True) | {"model": tree})
        except ValidationError as error:
            message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise RecipeError(f"the pruned model cannot be: {message}; keep more") from error
        network = build_network(recipe, self.num_tokens)
        network.load_state_dict(weights)
        network.eval().requires_grad_(requires_grad=False)
        if not isinstance(network, Student):
            raise RunError("the pruned model is no student")
        return replace(self, recipe=recipe, network=network, blocks=blocks)


def _fewer_blocks(pruning: _Pruning, keep: int, say: Callable[[str], None]) -> _Pruning:
    """Remove one block after the other, always the one that is missed least."""
    depth = len(pruning.blocks)
    if keep > depth:
        raise OptionsError(f"keep_blocks {keep}: the model has {depth} blocks")
    while (left := len(pruning.blocks)) > keep:
        weights = pruning.network.state_dict()
        candidates = []
        for gone in range(left):
            kept = [index for index in range(left) if index != gone]
            blocks = tuple(pruning.blocks[index] for index in kept)
            cut = without_blocks(weights, pruning.network, kept)
            candidates.append(pruning.smaller(cut, blocks, depth=left - 1))
        losses = [candidate.loss() for candidate in candidates]
        best = min(range(left), key=losses.__getitem__)
        say(f"Removed block {pruning.blocks[best]}: CTC {losses[best]:.4f}")
        pruning = candidates[best]
    return pruning


def _fewer_channels(pruning: _Pruning, options: PruneOptions, say: Callable[[str], None]) -> _Pruning:
    """Remove the least important channels of every group."""
    groups = groups_of(pruning.network)
    model = pruning.recipe.model
    heads = getattr(model, "heads", 1)
    old_width, old_inner = groups.width[0].size, groups.inner[0].size
    width = kept_of(old_width, options.keep_width, heads)
    inner = kept_of(old_inner, options.keep_channels)
    if (width, inner) == (old_width, old_inner):
        return pruning
    chosen: list[tuple[Group, int]] = [(group, inner) for group in groups.inner]
    chosen += [(group, group.size * width // old_width) for group in groups.width]
    scores = channel_scores(pruning.network, [group for group, _ in chosen], pruning.heard, pruning.blank_id)
    removed = [(group, least(score, keep)) for score, (group, keep) in zip(scores, chosen, strict=True)]
    weights = without_channels(pruning.network.state_dict(), removed)
    say(f"Kept {inner} of {old_inner} channels in each block, {width} of {old_width} between them")
    inside = {"channels": inner} if hasattr(model, "channels") else {"expansion": _ratio(inner, width)}
    return pruning.smaller(weights, pruning.blocks, width=width, **inside)


def kept_of(size: int, share: float, divisor: int = 1) -> int:
    """Channels to keep of ``size``: a multiple of ``divisor``, and of eight where that leaves a choice."""
    if share == 1:
        return size
    step = lcm(divisor, MULTIPLE)
    if size <= step:
        step = divisor
    return min(size, max(step, round(size * share / step) * step))


def least(scores: torch.Tensor, keep: int) -> torch.Tensor:
    """Mask of all but the ``keep`` highest scores; the first of equal ones stay."""
    mask = torch.ones(len(scores), dtype=torch.bool)
    mask[scores.sort(descending=True, stable=True).indices[:keep]] = False
    return mask


def _ratio(inner: int, width: int) -> int | float:
    return inner // width if inner % width == 0 else inner / width


def _write(pruning: _Pruning, source: TrainedRun, folder: RunFolder, found: dict[str, Any]) -> None:
    changed = {"name": f"{source.recipe.name}-undistilled", "model": pruning.recipe.model}
    recipe = source.recipe.model_copy(update=changed | NOT_STARTED)
    summary = {
        "name": recipe.name,
        "kind": recipe.model.kind,
        "seed": recipe.seed,
        "steps": 0,
        "seconds": 0.0,
        "parameters": count_parameters(build_network(recipe, pruning.num_tokens)),
        "losses": [],
        "dev": _measured(pruning, source),
        "data": data_provenance(recipe),
        "versions": versions(),
        "pruned": found,
    }
    write_text(folder.recipe, recipe.dumps())
    write_text(folder.tokens, source.vocabulary.dumps())
    write_text(folder.summary, json.dumps(summary, indent=2) + "\n")
    write_tensors(folder.weights, dict(pruning.network.state_dict()), {"recipe": recipe.name})


def _measured(pruning: _Pruning, source: TrainedRun) -> dict[str, float]:
    recipe, network = pruning.recipe, pruning.network
    if not recipe.data.dev:
        return {}
    task = TASKS[recipe.task]
    items = task.items(recipe.data.dev, recipe, source.vocabulary, network.units_per_frame)
    return measure(network, task.evaluation_batches(items, recipe), source.vocabulary, sees_labels=False)


def _origin(folder: RunFolder) -> dict[str, Any] | None:
    """What a finished pruning in this folder was made from and how; None where there is none."""
    if not folder.weights.is_file() or not folder.summary.is_file():
        return None
    pruned = json.loads(folder.summary.read_text(encoding="utf-8")).get("pruned", {})
    return {key: pruned.get(key) for key in ("from", "sha256", "asked")}
