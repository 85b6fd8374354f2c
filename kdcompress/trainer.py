"""Everything a training run needs, built from its recipe before the first update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from kdcompress.data.task import TASKS
from kdcompress.data.text import indispensable, unit_vocabulary
from kdcompress.errors import RecipeError, VocabularyError
from kdcompress.files import write_text
from kdcompress.heads import WithHeads, with_heads
from kdcompress.layers import frame_mask
from kdcompress.losses.base import Head
from kdcompress.run import RunFolder, TrainedRun, build_network, load_run
from kdcompress.start import shaped_by_tokens, start_encoder_from, start_from
from kdcompress.targets import answer, check_teacher, dev_errors, hear
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch.utils.data import Dataset

    from kdcompress.data.batch import Batch
    from kdcompress.data.items import Item
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe, TrainConfig
    from kdcompress_runtime.vocabulary import Vocabulary

    Loaded = dict[Path, TrainedRun]
    """Teachers by the folder of their run."""

STATISTICS_BATCHES = 8
"""Training batches from which mean and variance of the features are taken, and what heads are fitted to."""


@dataclass(frozen=True)
class Trainer:
    """What the loop works with; built once by ``setup``."""

    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    vocabulary: Vocabulary
    model: WithHeads
    """The network, and what its losses add while training."""
    optimizer: torch.optim.Optimizer
    batches: Dataset[Batch]
    dev: list[Item]
    """Items of ``data.dev``, read before the first update so that a bad one does not end a long run; or none."""
    teachers: tuple[TrainedRun, ...]
    start: TrainedRun | None = None
    """The run whose weights this one began with."""

    @property
    def network(self) -> CtcNetwork:
        """What is trained, without the losses' heads."""
        return self.model.network


def setup(recipe: Recipe, folder: RunFolder, loaded: Loaded | None = None) -> Trainer:
    """Build data, network, optimizer and teachers; see ``fit`` for the errors.

    Args:
        recipe: what to train.
        folder: where it goes.
        loaded: teachers that another run has read already; what is read here is added.
    """
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.train.precision == "bf16" else "no",
        cpu=not torch.cuda.is_available(),
        log_with="tensorboard",
        project_dir=folder.path,
    )
    if recipe.train.batch_size % accelerator.num_processes:
        raise RecipeError(
            f"train.batch_size {recipe.train.batch_size} cannot be divided by {accelerator.num_processes} processes"
        )
    teachers = load_teachers(recipe, {} if loaded is None else loaded)
    chosen = recipe.init or recipe.init_encoder
    start = load_run(chosen) if chosen else None
    vocabulary = _vocabulary(recipe, teachers, start if recipe.init else None)
    set_seed(recipe.seed)
    network = build_network(recipe, len(vocabulary))
    task = TASKS[recipe.task]
    batches = task.training_batches(
        recipe,
        vocabulary,
        units_per_frame=network.units_per_frame,
        teacher_frontends=[teacher.recipe.frontend for teacher in teachers],
        streams=len(teachers) if recipe.distill and recipe.distill.combine.streams_per_item else 1,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    if len(batches.items) < accelerator.num_processes:
        raise RecipeError(f"{recipe.data.train}: fewer items than the {accelerator.num_processes} processes")
    dev = task.items(recipe.data.dev, recipe, vocabulary, network.units_per_frame) if recipe.data.dev else []
    if start:
        _start(start, network, recipe, vocabulary)
    else:
        _set_feature_statistics(network, batches, recipe.train.steps)
    model = with_heads(network, recipe.losses, len(vocabulary), teachers, recipe.quantization_aware)
    optimizer = _optimizer(model, recipe.train)
    if accelerator.is_main_process:
        write_text(folder.recipe, recipe.dumps())
        write_text(folder.tokens, vocabulary.dumps())
    for teacher in teachers:
        teacher.network.to(accelerator.device)
    model.to(accelerator.device)
    _prepare_heads(model, recipe, batches, teachers, accelerator.device)
    _calibrate(model, recipe, batches, accelerator.device)
    return Trainer(recipe, folder, accelerator, vocabulary, model, optimizer, batches, dev, teachers, start)


def load_teachers(recipe: Recipe, loaded: Loaded) -> tuple[TrainedRun, ...]:
    """Read the teachers' runs and check that their frames and tokens are the student's; none without ``distill``.

    Raises:
        RunError: no finished run there.
        RecipeError: frames of another length, tokens that differ between teachers, or a
            schedule by accuracy over a teacher that has seen the answer.
        VocabularyError: the teachers lack characters (or words) of the training texts.
    """
    if recipe.distill is None:
        return ()
    for path in recipe.distill.teachers:
        if path not in loaded:
            loaded[path] = load_run(path)
    teachers = tuple(loaded[path] for path in recipe.distill.teachers)
    first = teachers[0]
    _check_texts(first, recipe, "the teacher")
    for teacher in teachers:
        check_teacher(teacher, recipe, first.vocabulary)
    try:
        recipe.distill.combine.check_errors(dev_errors(teachers))
    except ValueError as error:
        raise RecipeError(f"distill.combine: {error}") from error
    return teachers


def _vocabulary(recipe: Recipe, teachers: tuple[TrainedRun, ...], start: TrainedRun | None) -> Vocabulary:
    """Tokens of the teachers, else of the run that this one starts from, else of the training texts."""
    if teachers:
        return teachers[0].vocabulary
    if start is None:
        return _training_vocabulary(recipe)
    _check_texts(start, recipe, "the run to start from")
    return start.vocabulary


def _check_texts(run: TrainedRun, recipe: Recipe, who: str) -> None:
    units = recipe.data.units
    missing = sorted(indispensable(_training_texts(recipe), units) - set(run.vocabulary.symbols))
    if missing:
        raise VocabularyError(
            f"{run.folder.path}: {who} does not know {missing}, which data.train holds; "
            f"train {who} on texts that hold them, or normalise the texts"
        )
    if units != run.recipe.data.units:
        raise VocabularyError(
            f"{run.folder.path}: tokens of {who} are {run.recipe.data.units}, here they are {units}; "
            f"set data.units to {run.recipe.data.units}"
        )


def _training_vocabulary(recipe: Recipe) -> Vocabulary:
    return unit_vocabulary(_training_texts(recipe), recipe.data.units, recipe.data.subwords)


def _training_texts(recipe: Recipe) -> Iterator[str]:
    return (entry.text for entry in read_manifest(recipe.data.train))


def _start(start: TrainedRun, network: CtcNetwork, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Copy what the recipe wants of a finished run into ``network``."""
    if recipe.init:
        start_from(start, network, recipe, vocabulary)
    else:
        larger = build_network(recipe, len(vocabulary) + 1)
        start_encoder_from(start, network, recipe, shaped_by_tokens(network, larger))


def _set_feature_statistics(network: CtcNetwork, batches: Dataset[Batch], steps: int) -> None:
    """Fix the feature normalisation from the first training batches, padding left out."""
    valid = []
    for step in range(min(STATISTICS_BATCHES, steps)):
        batch = batches[step]
        features = network.features(batch.inputs)
        lens = network.frame_lens(batch.input_lens) * network.subsampling_factor
        valid.append(features[frame_mask(lens, features.shape[1])])
    frames = torch.cat(valid)
    network.feature_norm.set_statistics(frames.mean(dim=0), frames.std(dim=0))


def _prepare_heads(
    model: WithHeads, recipe: Recipe, batches: Dataset[Batch], teachers: tuple[TrainedRun, ...], device: torch.device
) -> None:
    """Fit the heads that ask for it to what the teacher says of the first training batches, padding left out.

    Where there are several processes, all of them go on with the buffers of the first.
    """
    asking = [loss for loss in recipe.losses if loss.prepares]
    if not asking:
        return
    said = []
    for step in range(min(STATISTICS_BATCHES, recipe.train.steps)):
        heard = hear(model.network, recipe, batches[step].to(device))
        hidden = answer(teachers[0], recipe, heard).hidden
        said.append([block[frame_mask(heard.frame_lens, block.shape[1])].float() for block in hidden])
    frames = [torch.cat(blocks) for blocks in zip(*said, strict=True)]
    for loss in asking:
        head = model.heads[loss.key]
        if isinstance(head, Head):
            loss.prepare(head, frames, recipe.seed)


def _calibrate(model: WithHeads, recipe: Recipe, batches: Dataset[Batch], device: torch.device) -> None:
    """Take the ranges of the simulated int8, if there is one, from the first training batches."""
    config = recipe.quantization_aware
    if model.simulation is None or config is None:
        return
    for step in range(min(config.calibration_batches, recipe.train.steps)):
        heard = hear(model.network, recipe, batches[step].to(device))
        with model.simulation.observing(model.network):
            model.network.outputs(heard.features, heard.frame_lens, heard.labels, heard.label_lens)


def _optimizer(model: WithHeads, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with decay on matrices and kernels only."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
