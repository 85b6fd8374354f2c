"""The updates of a language model, with their metrics and checkpoints."""

from __future__ import annotations

import copy
import itertools
import json
import math
import time
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name for it)

from kdcompress.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from kdcompress.errors import RecipeError, TrainingDivergedError
from kdcompress.files import write_text
from kdcompress.metrics import read_metrics
from kdcompress.text_models.batches import ELSEWHERE, batch_places, probe_batches, text_batch
from kdcompress.text_models.networks import build_text_network
from kdcompress.text_models.settings import NgramSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import Tensor

    from kdcompress.text_models.batches import TextBatch
    from kdcompress.text_models.corpus import Corpus
    from kdcompress.text_models.folder import TextFolder
    from kdcompress.text_models.networks import TextNetwork
    from kdcompress.text_models.recipe import TextRecipe, TextTraining


class Progress(nn.Module):
    """All that a checkpoint keeps beside the optimizer: the weights, and those that were best on dev."""

    best_loss: Tensor
    best_step: Tensor

    def __init__(self, network: TextNetwork) -> None:
        super().__init__()
        self.network, self.best = network, copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.register_buffer("best_loss", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("best_step", torch.tensor(0))


class TextUpdates:
    """The updates of one run that are left to do.

    Args:
        recipe: of a network.
        folder: of the run.
        corpus: its texts.
        identity: what a checkpoint must belong to.
        on_progress: called as ``(step, steps, scalars)`` after each update.

    Raises:
        RunError: the checkpoint is damaged, or belongs to another recipe or other texts.
        RecipeError: a text is longer than learned positions reach.
    """

    def __init__(
        self,
        recipe: TextRecipe,
        folder: TextFolder,
        corpus: Corpus,
        identity: str,
        on_progress: Callable[[int, int, dict[str, float]], None] | None = None,
    ) -> None:
        if isinstance(recipe.model, NgramSettings):
            raise RecipeError("model.kind ngram is counted, not trained in steps")
        self.config, self.model, self.seed = recipe.train, recipe.model, recipe.seed
        self.folder, self.identity, self.on_progress = folder, identity, on_progress
        self.train = [text.ids for text in corpus.train if text.ids]
        self.dev = [text.ids for text in corpus.dev if text.ids]
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = build_text_network(recipe.model, len(corpus.inventory.symbols))
        _check_lengths(network, [*self.train, *self.dev])
        self.progress = Progress(network.to(self.device))
        self.optimizer = _optimizer(network, self.config)
        self.step = 0
        """Updates done."""
        if folder.checkpoint.is_file():
            self.step = load_checkpoint(folder.checkpoint, self.progress, self.optimizer, identity)
        self.seconds = self._kept_metrics()
        """Time the updates took, over all restarts."""
        self._places = itertools.islice(
            batch_places([len(text) + 2 for text in self.train], self.config.batch_tokens, recipe.seed), self.step, None
        )

    @property
    def best_step(self) -> int:
        """Update after which the network was best on dev."""
        return int(self.progress.best_step)

    def best_network(self) -> TextNetwork:
        """The network with the weights that were best on dev, in evaluation mode, on the CPU."""
        network: TextNetwork = copy.deepcopy(self.progress.network).cpu()
        network.load_state_dict(self.progress.best.state_dict())
        return network.eval().requires_grad_(requires_grad=False)

    def write_weights(self, path: Path) -> None:
        """Write these weights."""
        write_tensors(path, self.progress.best.state_dict(), {"best_step": str(self.best_step)})

    def apply(self) -> None:
        """Do one update, and measure on dev where it is due.

        Raises:
            TrainingDivergedError: loss or gradient are not finite.
        """
        began, network, config = time.monotonic(), self.progress.network.train(), self.config
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        batch = text_batch([self.train[place] for place in next(self._places)], network, self.model, generator)
        rate = learning_rate(self.step, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total, count = self._loss(network, batch)
        loss = total / count
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = float(nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip))
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"loss {value}, gradient norm {norm} at step {self.step}; lower train.learning_rate, or check the "
                f"texts. The last checkpoint in {self.folder.path} is kept"
            )
        self.optimizer.step()
        self.step += 1
        scalars = {"loss": value, "grad_norm": norm, "lr": rate}
        due = self.step % config.eval_every == 0 or self.step == config.steps
        if due:
            scalars["dev_loss"] = self._measure()
        self.seconds += time.monotonic() - began
        if due or self.step % config.log_every == 0:
            self._write(scalars)
        if self.on_progress:
            self.on_progress(self.step, config.steps, scalars)

    def checkpoint(self, *, stop: bool) -> bool:
        """Write a checkpoint if one is due, or before stopping; return whether to stop."""
        if stop or (self.step % self.config.checkpoint_every == 0 and self.step < self.config.steps):
            save_checkpoint(self.folder.checkpoint, self.progress, self.optimizer, self.step, self.identity)
        return stop

    def _loss(self, network: TextNetwork, batch: TextBatch) -> tuple[Tensor, int]:
        """Sum of -ln P over the places that are learned from, and how many they are."""
        ids, lens, targets = (part.to(self.device) for part in batch)
        learned = targets != ELSEWHERE
        logits = network.logits(network.hidden(ids, lens)[learned])
        if network.reads_both_ways:
            logits = logits[:, : network.num_units]
        return F.cross_entropy(logits, targets[learned], reduction="sum"), int(learned.sum())

    @torch.no_grad()
    def _measure(self) -> float:
        """Mean -ln P on dev; keep the weights where it is the lowest so far."""
        network = self.progress.network.eval()
        parts = [self._loss(network, batch) for batch in probe_batches(self.dev, network, self.config.batch_tokens)]
        loss = sum(float(total) for total, _ in parts) / sum(count for _, count in parts)
        if loss < float(self.progress.best_loss):
            self.progress.best.load_state_dict(network.state_dict())
            self.progress.best_loss.fill_(loss)
            self.progress.best_step.fill_(self.step)
        return loss

    def _kept_metrics(self) -> float:
        """Drop lines of updates that are done again; return the seconds of those that are not."""
        rows = read_metrics(self.folder.metrics) if self.folder.metrics.is_file() else []
        rows = [row for row in rows if row["step"] <= self.step]
        write_text(self.folder.metrics, "".join(json.dumps(row) + "\n" for row in rows))
        return float(rows[-1]["seconds"]) if rows else 0.0

    def _write(self, scalars: dict[str, float]) -> None:
        row = {"step": self.step, "seconds": round(self.seconds, 2), **scalars}
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def learning_rate(step: int, config: TextTraining) -> float:
    """Linear warm-up, then cosine to zero."""
    warmup = max(1, round(config.warmup_fraction * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


def _optimizer(network: nn.Module, config: TextTraining) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only."""
    parameters = list(network.parameters())
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def _check_lengths(network: TextNetwork, texts: Iterable[tuple[int, ...]]) -> None:
    longest = max(map(len, texts), default=0)
    if network.most_units is not None and longest > network.most_units:
        raise RecipeError(
            f"a text has {longest} units, and model.most_units is {network.most_units}; raise it, or set "
            "model.positions=sinusoidal"
        )
