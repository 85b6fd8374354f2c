"""The training loop: teachers from labels, students from labels or from a teacher. Readable from top to bottom.

Everything random in step k follows from the recipe's seed and k, so a run that was stopped and goes on reaches
the same weights as one that was not. ``torchrun`` starts it on several processes; Accelerate does the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from kdcompress import losses
from kdcompress.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from kdcompress.data.augment import mask_features
from kdcompress.data.task import TASKS
from kdcompress.errors import RunError, TrainingDivergedError
from kdcompress.files import file_sha256, write_text
from kdcompress.interrupt import DeferredInterrupt
from kdcompress.layers import count_parameters
from kdcompress.measure import measure
from kdcompress.metrics import Metrics
from kdcompress.provenance import data_provenance, versions
from kdcompress.run import RunFolder
from kdcompress.teachers.leak import leak_report
from kdcompress.trainer import Trainer, setup
from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from accelerate import Accelerator
    from torch import Tensor, nn

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe, TrainConfig

    Progress = Callable[[int, int, dict[str, float]], None]


def fit(recipe: Recipe, output: Path, on_progress: Progress | None = None) -> dict[str, Any]:
    """Train what the recipe says into the folder ``output`` and return the content of its ``run.json``.

    A finished run of the same recipe is returned as it is; an unfinished one goes on where it stopped. After
    Ctrl-C (or SIGTERM) the step is finished, a checkpoint written, and ``KeyboardInterrupt`` raised.

    Args:
        recipe: what to train.
        output: folder of the run; made if it is not there.
        on_progress: called as ``(step, steps, scalars)`` after each update.

    Raises:
        RunError: ``output`` holds another run, or the teacher's run cannot be used.
        RecipeError: the recipe does not fit the teacher, or the number of processes.
        TrainingDivergedError: the loss is not finite.
        ManifestError, AudioError, VocabularyError, TargetTooLongError: the data cannot be used.
    """
    folder = RunFolder(output)
    if finished := finished_summary(recipe, folder):
        return finished
    trainer = setup(recipe, folder)
    seconds = _loop(trainer, on_progress)
    return _finish(trainer, seconds)


def finished_summary(recipe: Recipe, folder: RunFolder) -> dict[str, Any] | None:
    """Content of ``run.json`` if the folder holds a finished run of this very recipe, None if it holds nothing.

    Raises:
        RunError: the folder holds a run of another recipe, or something that is no run.
    """
    if folder.recipe.is_file() and folder.recipe.read_text(encoding="utf-8") != recipe.dumps():
        raise RunError(f"{folder.path}: holds a run of another recipe; choose another output folder, or remove it")
    if folder.weights.is_file() and folder.summary.is_file():
        summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
        return summary
    if folder.path.exists() and not folder.recipe.is_file() and _holds_something(folder.path):
        raise RunError(f"{folder.path}: is not empty and holds no run; choose another output folder")
    return None


def _holds_something(path: Path) -> bool:
    """Whether a folder holds anything but temporary files that a kill left behind."""
    return any(not item.name.endswith(".tmp") for item in path.iterdir())


def loss_of(trainer: Trainer, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    """``(1 - weight) * CTC + weight * frame KL`` of one batch, and its parts.

    ``model`` is ``trainer.network``, wrapped for several processes where there are several.
    """
    recipe, network = trainer.recipe, trainer.network
    frame_lens = network.frame_lens(batch.input_lens)
    features = network.features(batch.inputs)
    if recipe.augment.spec:
        lengths = frame_lens * network.subsampling_factor
        features = mask_features(features, lengths, network.feature_norm.mean, recipe.augment.spec, batch.seeds)
    set_seed(_step_seed(recipe.seed, step, trainer.accelerator.process_index))
    log_probs = model(features, frame_lens, batch.labels, batch.label_lens)
    blank = trainer.vocabulary.blank_id
    ctc = losses.ctc(log_probs, frame_lens, batch.labels, batch.label_lens, blank)
    if trainer.teacher is None or recipe.distill is None:
        return ctc, {"ctc": ctc}
    settings = recipe.distill
    kl = losses.frame_kl(
        log_probs,
        targets_of(trainer, trainer.teacher.network, features, frame_lens, batch),
        frame_lens,
        temperature=settings.temperature,
        frames=settings.frames,
        context=settings.context,
        delay_frames=settings.delay_frames,
        blank_id=blank,
    )
    return (1 - settings.weight) * ctc + settings.weight * kl, {"ctc": ctc, "frame_kl": kl}


@torch.no_grad()
def targets_of(trainer: Trainer, teacher: CtcNetwork, features: Tensor, frame_lens: Tensor, batch: Batch) -> Tensor:
    """Log-probabilities ``(N, T, V)`` that the teacher gives the frames of the batch.

    The student's features reach further than the input, by its look-ahead; the teacher sees none of that.
    """
    frames = int(frame_lens.max()) + teacher.lookahead_frames
    with trainer.accelerator.autocast():
        targets: Tensor = teacher(
            features[:, : frames * teacher.subsampling_factor], frame_lens, batch.labels, batch.label_lens
        )
    return targets


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine to zero."""
    warmup = max(1, round(config.warmup_fraction * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


def _loop(trainer: Trainer, on_progress: Progress | None) -> float:
    """Run the updates that are left and return the seconds they took, over all restarts."""
    recipe, accelerator, folder = trainer.recipe, trainer.accelerator, trainer.folder
    config, identity = recipe.train, _identity(trainer)
    start = 0
    if folder.checkpoint.is_file():
        start = load_checkpoint(folder.checkpoint, trainer.network, trainer.optimizer, identity)
    metrics = Metrics(folder, start, accelerator)
    before = metrics.seconds
    model, optimizer = accelerator.prepare(trainer.network, trainer.optimizer)
    loader = DataLoader(trainer.batches, batch_size=None, sampler=range(start, config.steps))
    model.train()
    began = time.monotonic()
    with DeferredInterrupt() as interrupt:
        for step, batch in enumerate(loader, start=start):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            loss, parts = loss_of(trainer, model, batch.to(accelerator.device), step)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.grad_clip)
            if not (torch.isfinite(loss) and torch.isfinite(torch.as_tensor(norm))):
                raise TrainingDivergedError(
                    f"loss {loss.item()}, gradient norm {float(norm)} at step {step}; lower train.learning_rate, or "
                    f"check the data. The last checkpoint in {folder.path} is kept"
                )
            optimizer.step()
            optimizer.zero_grad()

            done = step + 1
            seconds = before + time.monotonic() - began
            scalars = {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}
            if on_progress:
                on_progress(done, config.steps, scalars)
            if done % config.log_every == 0 or done == config.steps:
                metrics.write(done, seconds, {**scalars, "grad_norm": float(norm), "lr": learning_rate(step, config)})
            if recipe.data.dev and done % config.eval_every == 0 and done < config.steps:
                metrics.write(done, seconds, {f"dev_{k}": v for k, v in dev_measurements(trainer).items()})
            stop = _agreed(accelerator, interrupt.requested)
            if stop or (done % config.checkpoint_every == 0 and done < config.steps):
                if accelerator.is_main_process:
                    save_checkpoint(folder.checkpoint, trainer.network, trainer.optimizer, done, identity)
                accelerator.wait_for_everyone()
                if stop:
                    raise KeyboardInterrupt
    return before + time.monotonic() - began


def _agreed(accelerator: Accelerator, requested: bool) -> bool:
    """Whether any process was asked to stop: all of them must stop after the same step."""
    if accelerator.num_processes == 1:
        return requested
    votes = accelerator.reduce(torch.tensor(float(requested), device=accelerator.device))
    return bool(votes > 0)


def _identity(trainer: Trainer) -> str:
    """What a checkpoint belongs to: the recipe, the tokens, and the items it trains on."""
    parts = (trainer.recipe.dumps(), trainer.vocabulary.dumps(), manifest_fingerprint(trainer.recipe.data.train))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def dev_measurements(trainer: Trainer) -> dict[str, float]:
    """Measure the network on ``data.dev``; no error rate for a network that sees the labels."""
    recipe = trainer.recipe
    if not trainer.dev:
        return {}
    batches = TASKS[recipe.task].evaluation_batches(trainer.dev, recipe)
    return measure(trainer.network, batches, trainer.vocabulary, sees_labels=recipe.model.sees_labels)


def _finish(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """Measure on dev, run the leak tests of an oracle, write weights and ``run.json``, drop the checkpoint."""
    recipe, folder, network = trainer.recipe, trainer.folder, trainer.network
    measured = dev_measurements(trainer)
    summary: dict[str, Any] = {
        "name": recipe.name,
        "kind": recipe.model.kind,
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "seconds": round(seconds, 3),
        "parameters": count_parameters(network),
        "dev": measured,
        "data": data_provenance(recipe),
        "versions": versions(),
    }
    if trainer.teacher:
        summary["teacher"] = {
            "name": trainer.teacher.recipe.name,
            "kind": trainer.teacher.recipe.model.kind,
            "sha256": file_sha256(trainer.teacher.folder.weights),
        }
    if recipe.model.sees_labels and trainer.dev:
        batches = TASKS[recipe.task].evaluation_batches(trainer.dev, recipe)
        summary["leak"] = leak_report(network, batches, trainer.vocabulary).to_json()
    if trainer.accelerator.is_main_process:
        Metrics(folder, recipe.train.steps, trainer.accelerator).write(
            recipe.train.steps, seconds, {f"dev_{name}": value for name, value in measured.items()}
        )
        write_tensors(folder.weights, dict(network.state_dict()), {"recipe": recipe.name})
        write_text(folder.summary, json.dumps(summary, indent=2) + "\n")
        folder.checkpoint.unlink(missing_ok=True)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return summary


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 1_009 + rank) % 2**31
