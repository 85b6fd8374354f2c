"""Everything a training run needs, built from its recipe before the first update."""

from __future__ import annotations

import math
from copy import copy
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
from kdcompress.hearing import hear
from kdcompress.layers import frame_mask
from kdcompress.losses.base import Head
from kdcompress.parallel import processes, take_from_main
from kdcompress.recipe_file import load_recipe
from kdcompress.recompute import recompute_blocks
from kdcompress.run import RunFolder, TrainedRun, build_network, load_run
from kdcompress.sources import bridged, check_teachers, frame_of, load_teachers, rates_of, tell
from kdcompress.start import shaped_by_tokens, start_encoder_from, start_from
from kdcompress.sync_norm import synchronise_norms
from kdcompress.text_sources import open_text_sources
from kdcompress.text_targets import text_teachers
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from kdcompress.data.batch import Batch
    from kdcompress.data.batches import StepBatches
    from kdcompress.data.items import Item
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe, TrainConfig
    from kdcompress.sources import Loaded
    from kdcompress.targets import Source
    from kdcompress.teachers.teacher import Teacher
    from kdcompress.text_sources import TextSource
    from kdcompress.text_targets import TextTeachers

STATISTICS_BATCHES = 8
"""Training batches from which mean and variance of the features are taken, and what heads are fitted to."""
STATISTICS_FRAMES = 100_000
"""Valid frames (of the student, 4000 s or so) that are enough for these, however large a batch is."""
ITEMS_AT_ONCE = 32
"""Items that are looked at together before the first update: a batch of many processes is too large for one."""


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
    batches: StepBatches
    dev: Sequence[Item]
    """Items of ``data.dev``, read before the first update so that a bad one does not end a long run; or none."""
    sources: tuple[Source, ...]
    """The teachers, each with what brings its answers to the student's frames and tokens."""
    texts: TextTeachers | None = None
    """The language models, if there are any."""
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
        folder: where it goes; a run that is there goes on with what the data told of its inputs when it began.
        loaded: teachers that another run has read already; what is read here is added.
    """
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.train.precision == "bf16" else "no",
        cpu=not torch.cuda.is_available(),
        log_with="tensorboard",
        project_dir=folder.path,
    )
    if folder.recipe.is_file():
        recipe = load_recipe(folder.recipe)
    _check_loop(recipe, accelerator.num_processes)
    chosen = recipe.init or recipe.init_encoder
    start = load_run(chosen) if chosen else None
    recipe, vocabulary, sources, texts = _taught(recipe, start, {} if loaded is None else loaded)
    if accelerator.is_main_process:
        tell(sources)
    set_seed(recipe.seed)
    network = build_network(recipe, len(vocabulary))
    task = TASKS[recipe.task]
    with accelerator.main_process_first():  # the others find the index that it makes of the manifests
        batches = task.training_batches(
            recipe,
            vocabulary,
            units_per_frame=network.units_per_frame,
            teacher_rates=rates_of(sources),
            streams=len(sources) if sources and recipe.distill and recipe.distill.combine.streams_per_item else 1,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            keep=folder.path,
        )
        held_out = (recipe, vocabulary, network.units_per_frame, folder.path)
        dev = task.items(recipe.data.dev, *held_out) if recipe.data.dev else ()
    if len(batches.items) < accelerator.num_processes:
        raise RecipeError(f"{recipe.data.train}: fewer items than the {accelerator.num_processes} processes")
    if start:
        _start(start, network, recipe, vocabulary)
    shapes = texts.shapes if texts else {}
    model = with_heads(network, recipe.losses, len(vocabulary), sources, recipe.quantization_aware, texts=shapes)
    if accelerator.num_processes > 1:
        synchronise_norms(model)
    if recipe.train.activation_checkpointing:
        recompute_blocks(model)
    optimizer = _optimizer(model, recipe.train)
    if accelerator.is_main_process:
        write_text(folder.recipe, recipe.dumps())
        write_text(folder.tokens, vocabulary.dumps())
    for source in sources:
        source.teacher.to(accelerator.device)
    model.to(accelerator.device)
    if accelerator.is_main_process:
        _fit_to_data(model, recipe, undivided(batches), sources, accelerator.device)
    take_from_main(model, processes())
    return Trainer(recipe, folder, accelerator, vocabulary, model, optimizer, batches, dev, sources, texts, start)


def _taught(
    recipe: Recipe, start: TrainedRun | None, loaded: Loaded
) -> tuple[Recipe, Vocabulary, tuple[Source, ...], TextTeachers | None]:
    """The recipe with what the data tell of its inputs, the tokens of the run, and who teaches them."""
    teachers, models = load_teachers(recipe, loaded), open_text_sources(recipe)
    known = [teacher.frontend for teacher in teachers if teacher.frontend is not None]
    recipe = TASKS[recipe.task].resolved(recipe, [*([start.recipe.frontend] if start else []), *known])
    check_teachers(recipe, teachers)
    needed = indispensable(_training_texts(recipe), recipe.data.units)
    vocabulary = _vocabulary(recipe, [*_tokens_of_teachers(teachers), *_tokens_of_models(models)], start, needed)
    sources = bridged(recipe, teachers, vocabulary, needed)
    return recipe, vocabulary, sources, text_teachers(recipe, models, vocabulary, frame_of(recipe))


def _tokens_of_teachers(teachers: Sequence[Teacher]) -> list[tuple[str, Vocabulary]]:
    """What the tokens of each teacher are, and these."""
    return [(teacher.info.units, teacher.info.vocabulary) for teacher in teachers]


def _tokens_of_models(models: Mapping[str, TextSource]) -> list[tuple[str, Vocabulary]]:
    """The same of language models, whose units a student can share."""
    return [(model.info.units, Vocabulary.from_symbols(model.info.symbols)) for model in models.values()]


def _vocabulary(
    recipe: Recipe, taught: Sequence[tuple[str, Vocabulary]], start: TrainedRun | None, needed: Collection[str]
) -> Vocabulary:
    """Tokens of the run that this one starts from, else of the first teacher that suits, else of the training texts."""
    if start is not None and recipe.init:
        _check_start(start, recipe, needed)
        return start.vocabulary
    units = recipe.data.units
    suiting = (vocabulary for theirs, vocabulary in taught if theirs == units)
    for vocabulary in suiting:
        symbols = [symbol for index, symbol in enumerate(vocabulary.symbols) if index != vocabulary.blank_id]
        # what other toolkits add, such as <unk>, is no business of a student
        if set(needed) <= set(symbols) and not any(symbol.startswith("<") for symbol in symbols):
            return vocabulary
    return unit_vocabulary(_training_texts(recipe), units, recipe.data.subwords)


def _check_start(start: TrainedRun, recipe: Recipe, needed: Collection[str]) -> None:
    if missing := sorted(set(needed) - set(start.vocabulary.symbols)):
        raise VocabularyError(
            f"{start.folder.path}: the run to start from does not know {missing}, which data.train holds; "
            "train it on texts that hold them, or normalise the texts"
        )
    if recipe.data.units != start.recipe.data.units:
        raise VocabularyError(
            f"{start.folder.path}: tokens of the run to start from are {start.recipe.data.units}, here they are "
            f"{recipe.data.units}; set data.units to {start.recipe.data.units}"
        )


def _training_texts(recipe: Recipe) -> Iterator[str]:
    return (entry.text for entry in read_manifest(recipe.data.train))


def _start(start: TrainedRun, network: CtcNetwork, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Copy what the recipe wants of a finished run into ``network``."""
    if recipe.init:
        start_from(start, network, recipe, vocabulary)
    else:
        larger = build_network(recipe, len(vocabulary) + 1)
        start_encoder_from(start, network, recipe, shaped_by_tokens(network, larger))


def _check_loop(recipe: Recipe, world: int) -> None:
    """Refuse settings of the loop that do not go together."""
    config = recipe.train
    if config.batch_seconds is None and config.batch_size < world * config.accumulate:
        who = "1 process, which" if world == 1 else f"{world} processes, each of which"
        needs = "needs an item" if config.accumulate == 1 else f"divides its share into {config.accumulate} parts"
        raise RecipeError(f"train.batch_size {config.batch_size} is too small for {who} {needs}")
    if config.activation_checkpointing and recipe.quantization_aware:
        raise RecipeError(
            "train.activation_checkpointing: what quantization_aware rounds cannot be computed again; set it to false, "
            "or train.accumulate to save memory"
        )


def undivided(batches: StepBatches) -> StepBatches:
    """Return the same batches as one process alone reads them."""
    whole = copy(batches)
    whole.rank, whole.world = 0, 1
    return whole


def _fit_to_data(
    model: WithHeads, recipe: Recipe, batches: StepBatches, sources: tuple[Source, ...], device: torch.device
) -> None:
    """Set what depends on data before the first update, from whole batches: the same for any number of processes."""
    if not (recipe.init or recipe.init_encoder):
        _set_feature_statistics(model.network, batches, recipe.train.steps, device)
    _prepare_heads(model, recipe, batches, sources, device)
    _calibrate(model, recipe, batches, device)


def _first(
    batches: StepBatches, network: CtcNetwork, steps: int, device: torch.device, most: float = math.inf
) -> Iterator[Batch]:
    """The first training batches in parts of a few items, until they have ``most`` valid frames."""
    frames = 0
    for step in range(steps):
        batch = batches[step]
        for start in range(0, len(batch.items), ITEMS_AT_ONCE):
            part = batch.part(start, start + ITEMS_AT_ONCE).to(device)
            frames += int(network.frame_lens(part.input_lens).sum())
            yield part
            if frames >= most:
                return


def _set_feature_statistics(network: CtcNetwork, batches: StepBatches, steps: int, device: torch.device) -> None:
    """Fix the feature normalisation from the first training batches, padding left out; ids have none."""
    if network.frontend.symbols is not None:
        return
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in _first(batches, network, min(STATISTICS_BATCHES, steps), device, STATISTICS_FRAMES):
        features = network.features(batch.inputs)
        lens = network.frame_lens(batch.input_lens) * network.subsampling_factor
        valid = features[frame_mask(lens, features.shape[1])].double().cpu()
        count, total, squares = count + len(valid), total + valid.sum(dim=0), squares + valid.square().sum(dim=0)
    mean = total / count
    variance = (squares - count * mean.square()) / max(1, count - 1)
    network.feature_norm.set_statistics(mean.to(device), variance.clamp(min=0).sqrt().to(device))


def _prepare_heads(
    model: WithHeads, recipe: Recipe, batches: StepBatches, sources: tuple[Source, ...], device: torch.device
) -> None:
    """Fit the heads that ask for it to what the teacher says of the first training batches, padding left out."""
    asking = [loss for loss in recipe.losses if loss.prepares]
    if not asking or "hidden" not in sources[0].bridge.gives:
        return
    said = []
    for batch in _first(batches, model.network, min(STATISTICS_BATCHES, recipe.train.steps), device, STATISTICS_FRAMES):
        heard = hear(model.network, recipe, batch)
        hidden = sources[0].answer(heard).hidden
        said.append([block[frame_mask(heard.frame_lens, block.shape[1])].float() for block in hidden])
    frames = [torch.cat(blocks) for blocks in zip(*said, strict=True)]
    for loss in asking:
        head = model.heads[loss.key]
        if isinstance(head, Head):
            loss.prepare(head, frames, recipe.seed)


def _calibrate(model: WithHeads, recipe: Recipe, batches: StepBatches, device: torch.device) -> None:
    """Take the ranges of the simulated int8, if there is one, from the first training batches."""
    config = recipe.quantization_aware
    if model.simulation is None or config is None:
        return
    for batch in _first(batches, model.network, min(config.calibration_batches, recipe.train.steps), device):
        heard = hear(model.network, recipe, batch)
        with model.simulation.observing(model.network):
            model.network.outputs(heard.features, heard.frame_lens, heard.labels, heard.label_lens)


def _optimizer(model: WithHeads, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with decay on matrices and kernels only."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
