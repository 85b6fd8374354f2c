"""The training loop: teachers from labels, students from labels or from a teacher. Readable from top to bottom.

Everything random in step k follows from the recipe's seed and k, so a run that was stopped and goes on reaches
the same weights as one that was not. ``torchrun`` starts it on several processes, which do the updates of one
(``parallel.py``); Accelerate joins them, and knows devices and precision.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import set_seed

from kdcompress.alignment import measure_alignment
from kdcompress.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from kdcompress.data.index import remove_indexes
from kdcompress.data.read_ahead import read_ahead
from kdcompress.data.task import TASKS
from kdcompress.errors import RecipeError, RunError, TrainingDivergedError
from kdcompress.files import file_sha256, flush_to_disk, write_text
from kdcompress.hearing import hear
from kdcompress.interrupt import DeferredInterrupt
from kdcompress.layers import count_parameters
from kdcompress.lock import LOCK, alone_in
from kdcompress.losses.base import Signals
from kdcompress.measure import measure
from kdcompress.metrics import Metrics
from kdcompress.parallel import add_up, by_main, from_all, parts_of, processes
from kdcompress.provenance import data_provenance, versions
from kdcompress.recipe_file import load_recipe
from kdcompress.run import RunFolder
from kdcompress.sources import rates_of
from kdcompress.targets import targets_of
from kdcompress.teachers.leak import leak_report
from kdcompress.trainer import Trainer, setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from kdcompress.data.batch import Batch
    from kdcompress.hearing import Memo
    from kdcompress.recipe import Recipe, TrainConfig
    from kdcompress.run import TrainedRun
    from kdcompress.targets import Source
    from kdcompress.text_sources import ModelInfo

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
        RunError: ``output`` holds another run, or another process trains there; the teacher's run, or the last
            checkpoint, cannot be used; a checkpoint cannot be written.
        RecipeError: the recipe does not fit the teacher, or the number of processes.
        TrainingDivergedError: the loss is not finite.
        ManifestError, AudioError, VocabularyError, TargetTooLongError: the data cannot be used.
    """
    folder = RunFolder(output)
    if finished := finished_summary(recipe, folder):
        return finished
    with alone_in(folder.path, processes()):
        updates = Updates(setup(recipe, folder), on_progress)
        with DeferredInterrupt() as interrupt:
            for batch in updates.batches():
                updates.apply(batch)
                if updates.checkpoint(stop=interrupt.requested):
                    raise KeyboardInterrupt
        return finish(updates)


def finished_summary(recipe: Recipe, folder: RunFolder) -> dict[str, Any] | None:
    """Content of ``run.json`` if the folder holds a finished run of this very recipe, None if it holds nothing.

    A key that an earlier version did not write has its default: what counts is what the recipe says, not how. What the
    data told of a recipe's inputs when the run began may be left out.

    Raises:
        RunError: the folder holds a run of another recipe, or something that is no run.
    """
    remedy = "choose another output folder, or remove it"
    if folder.recipe.is_file():
        try:
            kept = load_recipe(folder.recipe)
        except RecipeError as error:
            raise RunError(
                f"{folder.path}: holds a run that this version cannot go on with; {remedy} ({error})"
            ) from error
        if recipe not in (kept, TASKS[kept.task].asked(kept)):
            raise RunError(f"{folder.path}: holds a run of another recipe; {remedy}")
    if folder.weights.is_file() and folder.summary.is_file():
        summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
        return summary
    if folder.path.exists() and not folder.recipe.is_file() and _holds_something(folder.path):
        raise RunError(f"{folder.path}: is not empty and holds no run; choose another output folder")
    return None


def _holds_something(path: Path) -> bool:
    """Whether a folder holds anything but temporary files, or a lock, that a kill left behind."""
    return any(item.name != LOCK and not item.name.endswith(".tmp") for item in path.iterdir())


def loss_of(  # noqa: PLR0917 (positions read well here)
    trainer: Trainer, model: nn.Module, batch: Batch, step: int, memo: Memo | None = None, draw: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the recipe's losses for one batch, and each of them by its key.

    Args:
        trainer: the run.
        model: ``trainer.model``, as Accelerate prepared it.
        batch: what is trained on.
        step: updates done before.
        memo: what other runs have computed from this very batch.
        draw: another one draws other dropout; parts of one update must not share theirs.
    """
    recipe, blank = trainer.recipe, trainer.vocabulary.blank_id
    heard = hear(trainer.network, recipe, batch, memo)
    set_seed(_step_seed(recipe.seed, step, draw))
    outputs, heads = model(heard.features, heard.frame_lens, heard.labels, heard.label_lens)
    with trainer.accelerator.autocast():
        teacher = targets_of(trainer.sources, recipe, heard, step, blank)
    signals = Signals(
        log_probs=outputs.log_probs,
        hidden=outputs.hidden,
        frame_lens=heard.frame_lens,
        labels=heard.labels,
        label_lens=heard.label_lens,
        blank_id=blank,
        teacher=teacher,
        texts=trainer.texts(heard) if trainer.texts else {},
    )
    parts = {
        loss.key: loss(replace(signals, head=heads.get(loss.key), fitted=trainer.model.fitted(loss.key)))
        for loss in recipe.losses
    }
    progress = step / recipe.train.steps
    total = sum(loss.weight_at(progress) * parts[loss.key] for loss in recipe.losses)
    return torch.as_tensor(total), parts


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine to zero."""
    warmup = max(1, round(config.warmup_fraction * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


class Updates:
    """The updates of one run that are left to do, with their metrics and checkpoints."""

    def __init__(self, trainer: Trainer, on_progress: Progress | None = None) -> None:
        self.trainer, self.on_progress, self.processes = trainer, on_progress, processes()
        self.identity = _identity(trainer)
        folder = trainer.folder
        self.step = 0
        """Updates done."""
        if folder.checkpoint.is_file():
            self.step = load_checkpoint(folder.checkpoint, trainer.model, trainer.optimizer, self.identity)
        self._check_step()
        self.metrics = Metrics(folder, self.step, trainer.recipe.train.steps, trainer.accelerator)
        self.seconds = self.metrics.seconds
        """Time the updates took, over all restarts."""
        # "evaluation" only keeps DistributedDataParallel away, see parallel.py
        self.model = trainer.accelerator.prepare_model(trainer.model, evaluation_mode=True)
        self.optimizer = trainer.accelerator.prepare_optimizer(trainer.optimizer)
        self.model.train()

    def _check_step(self) -> None:
        """Refuse to go on from different checkpoints."""
        steps = from_all(self.step, self.processes)
        if steps.count(steps[0]) < len(steps):
            raise RunError(
                f"{self.trainer.folder.path}: the processes do not find the same checkpoint there; the output folder "
                "must be on a file system that all machines share"
            )

    def batches(self) -> Iterator[Batch]:
        """Batches of the updates that are left, on the device; reading them is part of ``seconds``."""
        before, began = self.seconds, time.monotonic()
        steps = range(self.step, self.trainer.recipe.train.steps)
        for batch in read_ahead(self.trainer.batches, steps, self.trainer.recipe.data.workers):
            self.seconds = before + time.monotonic() - began
            yield batch.to(self.trainer.accelerator.device)
            self.seconds = before + time.monotonic() - began

    def apply(self, batch: Batch, memos: dict[int, Memo] | None = None) -> None:
        """Do one update, and whatever is due after it but the checkpoint.

        Args:
            batch: what this process has of the batch of the step; with ``train.accumulate`` it goes through the network
                in parts.
            memos: what other runs have computed from this very batch, by the number of the part; what is new is added.

        Raises:
            TrainingDivergedError: loss or gradient are not finite.
        """
        trainer, config = self.trainer, self.trainer.recipe.train
        rate = learning_rate(self.step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scalars = self._gradients(batch, {} if memos is None else memos)
        norm = float(trainer.accelerator.clip_grad_norm_(self.model.parameters(), config.grad_clip))
        if not (math.isfinite(scalars["loss"]) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"loss {scalars['loss']}, gradient norm {norm} at step {self.step}; lower train.learning_rate, or "
                f"check the data. The last checkpoint in {trainer.folder.path} is kept"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._report(scalars, {"grad_norm": norm, "lr": rate})

    def _gradients(self, batch: Batch, memos: dict[int, Memo]) -> dict[str, float]:
        """Leave the gradient of the whole batch, over all processes, in the parameters; return its losses."""
        trainer, scalars = self.trainer, dict[str, float]()
        for part in parts_of(batch, trainer.network, trainer.recipe.train.accumulate, self.processes):
            memo = memos.setdefault(part.number, {})
            loss, losses = loss_of(trainer, self.model, part.batch, self.step, memo, part.number)
            trainer.accelerator.backward(part.weight * loss)
            for name, value in {"loss": loss, **losses}.items():
                scalars[name] = scalars.get(name, 0.0) + part.weight * float(value.detach())
        return add_up(self.model.parameters(), scalars, self.processes)

    def _report(self, scalars: dict[str, float], more: dict[str, float]) -> None:
        done, config = self.step, self.trainer.recipe.train
        if self.on_progress:
            self.on_progress(done, config.steps, scalars)
        if done % config.log_every == 0 or done == config.steps:
            self.metrics.write(done, self.seconds, {**scalars, **more})
        if self.trainer.dev and done % config.eval_every == 0 and done < config.steps:
            measured = dev_measurements(self.trainer)
            self.metrics.write(done, self.seconds, {f"dev_{name}": value for name, value in measured.items()})

    def checkpoint(self, *, stop: bool) -> bool:
        """Write a checkpoint if one is due, or if any process was asked to stop; return whether to stop."""
        config = self.trainer.recipe.train
        # all of them must stop after the same step
        stop = any(from_all(int(stop), self.processes))
        if stop or (self.step % config.checkpoint_every == 0 and self.step < config.steps):
            by_main(self._save, self.processes)
        return stop

    def _save(self) -> None:
        folder = self.trainer.folder
        if folder.metrics.is_file():
            flush_to_disk(folder.metrics)
        save_checkpoint(folder.checkpoint, self.trainer.model, self.trainer.optimizer, self.step, self.identity)


def _identity(trainer: Trainer) -> str:
    """What a checkpoint belongs to: the recipe, the tokens, and the items it trains on."""
    parts = (trainer.recipe.dumps(), trainer.vocabulary.dumps(), trainer.batches.items.fingerprint)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def dev_measurements(trainer: Trainer) -> dict[str, float]:
    """Measure the network on ``data.dev``; no error rate for a network that sees the labels."""
    recipe = trainer.recipe
    if not trainer.dev:
        return {}
    batches = TASKS[recipe.task].evaluation_batches(trainer.dev, recipe)
    return measure(trainer.network, batches, trainer.vocabulary, sees_labels=recipe.model.sees_labels)


def simulated_measurements(trainer: Trainer) -> dict[str, float]:
    """Measure the network on ``data.dev`` as its simulated int8 self; nothing where int8 is not simulated."""
    if trainer.model.simulation is None:
        return {}
    with trainer.model.simulation.on(trainer.network):
        return dev_measurements(trainer)


def alignment_of(trainer: Trainer) -> dict[str, Any] | None:
    """Spikes of the network beside those of its one teacher on ``data.dev``, see ``kdcompress.alignment``.

    None without dev, for another number of teachers, and for a teacher that gives no posteriors, or none of items that
    it was not asked about before.
    """
    if not trainer.dev or len(trainer.sources) != 1:
        return None
    source, recipe = trainer.sources[0], trainer.recipe
    if "log_probs" not in source.bridge.gives or not source.teacher.answers_anything:
        return None
    batches = TASKS[recipe.task].evaluation_batches(trainer.dev, recipe, rates_of([source]))
    return measure_alignment(trainer.network, source, recipe, batches, trainer.vocabulary.blank_id).to_json()


def finish(updates: Updates) -> dict[str, Any]:
    """Measure on dev, run the leak tests of an oracle, write weights and ``run.json``, drop the checkpoint.

    ``run.json`` holds name, kind, seed, steps, seconds and parameters; ``losses`` by their keys; ``dev``, the last
    measurements; ``data`` and ``versions``; with teachers ``teachers`` and, if there is one, ``alignment`` (fields of
    ``Alignment``); with ``init`` the run it started from; with ``quantization_aware`` what dev gives in simulated
    int8; of a network that sees labels ``leak``.
    """
    trainer, seconds = updates.trainer, updates.seconds
    recipe, folder, network = trainer.recipe, trainer.folder, trainer.network
    measured = dev_measurements(trainer)
    summary: dict[str, Any] = {
        "name": recipe.name,
        "kind": recipe.model.kind,
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "seconds": round(seconds, 3),
        "parameters": count_parameters(network),
        "losses": [loss.key for loss in recipe.losses],
        "dev": measured,
        "data": data_provenance(recipe),
        "versions": versions(),
    }
    if trainer.sources:
        summary["teachers"] = [_taught_by(source) for source in trainer.sources]
    if trainer.texts:
        summary["language_models"] = {name: _read_by(source.info) for name, source in trainer.texts.sources.items()}
    if trainer.start:
        summary["init" if recipe.init else "init_encoder"] = _named(trainer.start)
    if simulated := simulated_measurements(trainer):
        summary["quantization_aware"] = {"dev": simulated}
    if alignment := alignment_of(trainer):
        summary["alignment"] = alignment
    if recipe.model.sees_labels and trainer.dev:
        batches = TASKS[recipe.task].evaluation_batches(trainer.dev, recipe)
        summary["leak"] = leak_report(network, batches, trainer.vocabulary).to_json()

    def write() -> None:
        updates.metrics.write(recipe.train.steps, seconds, {f"dev_{name}": value for name, value in measured.items()})
        write_tensors(folder.weights, dict(network.state_dict()), {"recipe": recipe.name})
        write_text(folder.summary, json.dumps(summary, indent=2) + "\n")
        folder.checkpoint.unlink(missing_ok=True)
        remove_indexes(folder.path)

    by_main(write, updates.processes)
    for tracker in trainer.accelerator.trackers:
        tracker.finish()
    return summary


def _taught_by(source: Source) -> dict[str, Any]:
    """What ``run.json`` says of a teacher: which it was, and how it was brought to the student's frames and tokens."""
    info = source.info
    named: dict[str, Any] = {"name": info.name, "kind": info.kind, "fingerprint": info.fingerprint}
    said = {"bridged": source.bridge.report, "lost": source.bridge.tally.sentences()}
    return {**named, **{key: list(sentences) for key, sentences in said.items() if sentences}}


def _read_by(info: ModelInfo) -> dict[str, Any]:
    """What ``run.json`` says of a language model."""
    return {
        "name": info.name,
        "kind": info.kind,
        "units": info.units,
        "symbols": len(info.symbols),
        "fingerprint": info.fingerprint,
    }


def _named(run: TrainedRun) -> dict[str, str]:
    """What ``run.json`` says of a run that this one was made from."""
    return {"name": run.recipe.name, "kind": run.recipe.model.kind, "sha256": file_sha256(run.folder.weights)}


def _step_seed(seed: int, step: int, draw: int) -> int:
    return (seed * 1_000_003 + step * 1_009 + draw) % 2**31
