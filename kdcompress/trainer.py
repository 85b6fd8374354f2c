"""Everything a training run needs, built from its recipe before the first update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from kdcompress.data.task import TASKS
from kdcompress.data.text import character_vocabulary
from kdcompress.errors import RecipeError, VocabularyError
from kdcompress.files import write_text
from kdcompress.layers import frame_mask
from kdcompress.run import RunFolder, TrainedRun, build_network, load_run
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from kdcompress.data.batch import Batch
    from kdcompress.data.items import Item
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe, TrainConfig
    from kdcompress_runtime.vocabulary import Vocabulary

STATISTICS_BATCHES = 8
"""Training batches from which mean and variance of the features are taken."""


@dataclass(frozen=True)
class Trainer:
    """What the loop works with; built once by ``setup``."""

    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    vocabulary: Vocabulary
    network: CtcNetwork
    optimizer: torch.optim.Optimizer
    batches: Dataset[Batch]
    dev: list[Item]
    """Items of ``data.dev``, read before the first update so that a bad one does not end a long run; or none."""
    teacher: TrainedRun | None


def setup(recipe: Recipe, folder: RunFolder) -> Trainer:
    """Build data, network, optimizer and teacher; see ``fit`` for the errors."""
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
    teacher = load_teacher(recipe) if recipe.distill else None
    vocabulary = teacher.vocabulary if teacher else _training_vocabulary(recipe)
    set_seed(recipe.seed)
    network = build_network(recipe, len(vocabulary))
    task = TASKS[recipe.task]
    batches = task.training_batches(
        recipe,
        vocabulary,
        units_per_frame=network.units_per_frame,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    if len(batches.items) < accelerator.num_processes:
        raise RecipeError(f"{recipe.data.train}: fewer items than the {accelerator.num_processes} processes")
    dev = task.items(recipe.data.dev, recipe, vocabulary, network.units_per_frame) if recipe.data.dev else []
    _set_feature_statistics(network, batches, recipe.train.steps)
    optimizer = _optimizer(network, recipe.train)
    if accelerator.is_main_process:
        write_text(folder.recipe, recipe.dumps())
        write_text(folder.tokens, vocabulary.dumps())
    if teacher:
        teacher.network.to(accelerator.device)
    network.to(accelerator.device)
    return Trainer(recipe, folder, accelerator, vocabulary, network, optimizer, batches, dev, teacher)


def load_teacher(recipe: Recipe) -> TrainedRun:
    """Read the teacher's run and check that its frames and tokens are the student's.

    Raises:
        RunError: no finished run there.
        RecipeError: another frontend or subsampling than the student's, or a longer look-ahead.
        VocabularyError: the teacher lacks characters of the training texts.
    """
    if recipe.distill is None:
        raise RecipeError("the recipe has no distill section")
    teacher = load_run(recipe.distill.teacher)
    if teacher.recipe.frontend != recipe.frontend:
        raise RecipeError(
            f"{recipe.distill.teacher}: its frontend differs from the student's; give both the same section"
        )
    if teacher.network.subsampling_factor != recipe.model.subsampling_factor:
        raise RecipeError(
            f"{recipe.distill.teacher}: its subsampling_factor is {teacher.network.subsampling_factor}, "
            f"the student's {recipe.model.subsampling_factor}; they must agree"
        )
    if teacher.network.lookahead_frames > getattr(recipe.model, "lookahead_frames", 0):
        raise RecipeError(
            f"{recipe.distill.teacher}: looks {teacher.network.lookahead_frames} frames ahead, further than the "
            "student; give the student at least as much, or choose another teacher"
        )
    missing = sorted(set(_training_vocabulary(recipe).symbols) - set(teacher.vocabulary.symbols))
    if missing:
        raise VocabularyError(
            f"{recipe.distill.teacher}: the teacher does not know {missing}, which data.train holds; "
            "train the teacher on texts that hold them, or normalise the texts"
        )
    return teacher


def _training_vocabulary(recipe: Recipe) -> Vocabulary:
    return character_vocabulary(entry.text for entry in read_manifest(recipe.data.train))


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


def _optimizer(network: CtcNetwork, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with decay on matrices and kernels only."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
