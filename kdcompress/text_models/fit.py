"""Training of language models. Everything random in step k follows from the recipe's seed and k.

The texts are small, and networks learn them by heart: the weights that were best on dev are kept, not the last ones.
Training does not stop early, because the schedule of the learning rate ends with the steps.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import torch

from kdcompress.errors import RecipeError, RunError
from kdcompress.files import file_sha256, replacing, write_text
from kdcompress.interrupt import DeferredInterrupt
from kdcompress.lock import LOCK, alone_in
from kdcompress.parallel import processes
from kdcompress.provenance import versions
from kdcompress.text_models.corpus import read_texts
from kdcompress.text_models.folder import TextFolder
from kdcompress.text_models.loop import TextUpdates
from kdcompress.text_models.measuring import measure_texts
from kdcompress.text_models.network_model import TrainedTextModel
from kdcompress.text_models.ngram_model import NgramTextModel, estimate_ngrams
from kdcompress.text_models.recipe import load_text_recipe
from kdcompress.text_models.settings import NgramSettings
from kdcompress_runtime.lm.packed import dumps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.text_models.corpus import Corpus
    from kdcompress.text_models.recipe import TextRecipe
    from kdcompress.text_models.text_model import TextModel

    Progress = Callable[[int, int, dict[str, float]], None]

COMPARED_ORDER = 5
"""Of the n-gram model that every network is compared with."""


def fit_text_model(recipe: TextRecipe, output: Path, on_progress: Progress | None = None) -> dict[str, Any]:
    """Train a language model into the folder ``output`` and return the content of its ``run.json``.

    A finished run of the same recipe is returned as it is; an unfinished one goes on where it stopped. After Ctrl-C
    (or SIGTERM) the step is finished, a checkpoint written, and ``KeyboardInterrupt`` raised.

    Args:
        recipe: what to train.
        output: folder of the run; made if it is not there.
        on_progress: called as ``(step, steps, scalars)`` after each update.

    Raises:
        RunError: ``output`` holds another run, or another process trains there; or the last checkpoint is damaged.
        RecipeError: it was started on several processes.
        TrainingDivergedError: the loss is not finite.
        LanguageModelError, ManifestError, VocabularyError: the texts cannot be used.
    """
    folder = TextFolder(output)
    if finished := _finished(recipe, folder):
        return finished
    state = processes()
    if state.num_processes > 1:
        raise RecipeError(f"{recipe.name}: a language model is trained by one process; start it without torchrun")
    with alone_in(folder.path, state), torch.random.fork_rng(devices=[]):
        corpus = read_texts(recipe.text)
        write_text(folder.recipe, recipe.dumps())
        write_text(folder.units, json.dumps(corpus.inventory.to_json(), ensure_ascii=False) + "\n")
        if isinstance(recipe.model, NgramSettings):
            return _count(recipe, folder, corpus, on_progress)
        updates = TextUpdates(recipe, folder, corpus, _identity(recipe, corpus), on_progress)
        with DeferredInterrupt() as interrupt:
            while updates.step < recipe.train.steps:
                updates.apply()
                if updates.checkpoint(stop=interrupt.requested):
                    raise KeyboardInterrupt
        return _finish(recipe, folder, corpus, updates)


def _finished(recipe: TextRecipe, folder: TextFolder) -> dict[str, Any] | None:
    """Content of ``run.json`` of a finished run of this very recipe, None where there is nothing yet."""
    remedy = "choose another output folder, or remove it"
    if folder.recipe.is_file():
        try:
            same = load_text_recipe(folder.recipe) == recipe
        except RecipeError as error:
            raise RunError(f"{folder.path}: holds a run that this cannot go on with; {remedy} ({error})") from error
        if not same:
            raise RunError(f"{folder.path}: holds a run of another recipe; {remedy}")
        if folder.finished:
            summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8"))
            return summary
    elif folder.path.is_dir() and any(map(_counts, folder.path.iterdir())):
        raise RunError(f"{folder.path}: is not empty and holds no run; choose another output folder")
    return None


def _counts(item: Path) -> bool:
    """Whether a file is more than what a kill leaves behind."""
    return item.name != LOCK and not item.name.endswith(".tmp")


def _count(recipe: TextRecipe, folder: TextFolder, corpus: Corpus, on_progress: Progress | None) -> dict[str, Any]:
    """Estimate and write a model of n-grams."""
    began = time.monotonic()
    order = recipe.model.order if isinstance(recipe.model, NgramSettings) else COMPARED_ORDER
    model = estimate_ngrams([text.ids for text in corpus.train], corpus.inventory.symbols, order)
    with replacing(folder.ngrams) as temporary:
        temporary.write_bytes(dumps(model))
    seconds = time.monotonic() - began
    scorer = NgramTextModel(model, corpus.inventory, source=folder.path, name=recipe.name, fingerprint="")
    summary = _summary(recipe, corpus, scorer, seconds, model.ngrams)
    write_text(folder.summary, json.dumps(summary, indent=2) + "\n")
    if on_progress:
        on_progress(1, 1, {"loss": 0.0})
    return summary


def _finish(recipe: TextRecipe, folder: TextFolder, corpus: Corpus, updates: TextUpdates) -> dict[str, Any]:
    """Measure the best weights, write them and ``run.json``, drop the checkpoint."""
    network = updates.best_network()
    scorer = TrainedTextModel(
        network, corpus.inventory, source=folder.path, name=recipe.name, kind=recipe.model.kind, fingerprint=""
    )
    summary = _summary(recipe, corpus, scorer, updates.seconds, sum(one.numel() for one in network.parameters()))
    ngrams = estimate_ngrams([text.ids for text in corpus.train], corpus.inventory.symbols, COMPARED_ORDER)
    compared = NgramTextModel(ngrams, corpus.inventory, source=folder.path, name="ngram", fingerprint="")
    summary["ngram"] = {"order": COMPARED_ORDER, **measure_texts(compared, corpus.dev, corpus.dev_texts)}
    summary |= {"steps": recipe.train.steps, "best_step": updates.best_step}
    updates.write_weights(folder.weights)
    write_text(folder.summary, json.dumps(summary, indent=2) + "\n")
    folder.checkpoint.unlink(missing_ok=True)
    return summary


def _summary(recipe: TextRecipe, corpus: Corpus, scorer: TextModel, seconds: float, parameters: int) -> dict[str, Any]:
    """What every ``run.json`` holds."""
    known = {word for text in corpus.train_texts for word in text.split()}
    words = [word for text in corpus.dev_texts for word in text.split()]
    texts = {"train": recipe.text.train, "dev": (recipe.text.dev,) if recipe.text.dev else ()}
    return {
        "name": recipe.name,
        "kind": recipe.model.kind,
        "units": corpus.inventory.kind,
        "num_units": len(corpus.inventory.symbols),
        "seed": recipe.seed,
        "seconds": round(seconds, 3),
        "parameters": parameters,
        "dev": measure_texts(scorer, corpus.dev, corpus.dev_texts),
        "dev_unknown_words": round(sum(word not in known for word in words) / max(1, len(words)), 5),
        "held_out": recipe.text.dev is None,
        "sentences": {"train": len(corpus.train), "dev": len(corpus.dev)},
        "data": {
            part: [{"path": str(path), "sha256": file_sha256(path)} for path in paths] for part, paths in texts.items()
        },
        "versions": versions(),
    }


def _identity(recipe: TextRecipe, corpus: Corpus) -> str:
    """What a checkpoint belongs to: recipe, units and texts."""
    digest = hashlib.sha256(recipe.dumps().encode())
    digest.update(json.dumps(corpus.inventory.to_json(), sort_keys=True).encode())
    for text in itertools.chain(corpus.train, corpus.dev):
        digest.update(repr(text.ids).encode())
    return digest.hexdigest()
