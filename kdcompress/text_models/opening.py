"""Open a language model, wherever it comes from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kdcompress.errors import RecipeError, TextModelError, VocabularyError
from kdcompress.files import file_sha256
from kdcompress.text_models.folder import TextFolder
from kdcompress.text_models.network_model import TrainedTextModel
from kdcompress.text_models.networks import build_text_network
from kdcompress.text_models.ngram_model import NgramTextModel
from kdcompress.text_models.recipe import load_text_recipe
from kdcompress.text_models.settings import NgramSettings
from kdcompress.units.opening import read_inventory
from kdcompress_runtime.errors import LanguageModelError
from kdcompress_runtime.lm import NgramModel, open_lm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from kdcompress.text_models.recipe import TextRecipe
    from kdcompress.text_models.text_model import TextModel
    from kdcompress.units.inventory import Inventory

UNITS_SUFFIX = ".units.json"
"""Added to the name of a file of n-grams: its inventory."""
HF_CONFIG = "config.json"


def open_text_model(path: str | Path, inventory: Inventory | None = None, texts: Iterable[str] = ()) -> TextModel:
    """Open a run of a language model, a Hugging Face folder, or a file of n-grams with ``<path>.units.json`` beside it.

    Args:
        path: where it is.
        inventory: units that are asked for. A Hugging Face model is brought to them where each is one of its tokens;
            any other must have them. None: its own.
        texts: what a Hugging Face model will be asked about. Its own tokens are then those that these texts use, also
            where ``inventory`` cannot be reached: look at ``TextModel.inventory`` of what comes back.

    Raises:
        TextModelError: it is missing, unfinished, damaged or has other units; the message says what to do.
        VocabularyError: its inventory is damaged.
        MissingDependencyError: a Hugging Face folder, and transformers is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise TextModelError(
            f"language model not found: {path}; give a run of a language model, a Hugging Face folder, or a file of "
            f"n-grams with its {UNITS_SUFFIX} beside it"
        )
    if path.is_file():
        model: TextModel = _open_ngrams(path, Path(f"{path}{UNITS_SUFFIX}"), path.name)
    elif (path / HF_CONFIG).is_file():
        from kdcompress.text_models.hugging_face import open_hugging_face

        return open_hugging_face(path, inventory, texts)
    else:
        model = _open_run(TextFolder(path))
    if inventory is not None and inventory.to_json() != model.inventory.to_json():
        raise TextModelError(
            f"{path}: predicts {len(model.inventory.symbols)} {model.inventory.kind}, not the {len(inventory.symbols)} "
            f"{inventory.kind} that are asked for; train one of these units"
        )
    return model


def _open_run(folder: TextFolder) -> TextModel:
    """Open what ``fit_text_model`` wrote."""
    if not folder.recipe.is_file():
        raise TextModelError(
            f"{folder.path}: no language model, neither a run ({folder.recipe.name}) nor Hugging Face's ({HF_CONFIG})"
        )
    try:
        recipe = load_text_recipe(folder.recipe)
    except RecipeError as error:
        raise TextModelError(
            f"{folder.path}: is no run of a language model that this version reads ({error})"
        ) from error
    if not folder.finished:
        raise TextModelError(
            f"{folder.path}: is unfinished; repeat the command that started it, it goes on where it stopped"
        )
    if isinstance(recipe.model, NgramSettings):
        return _open_ngrams(folder.ngrams, folder.units, recipe.name, folder.path)
    inventory = read_inventory(folder.units)
    network = build_text_network(recipe.model, len(inventory.symbols))
    try:
        weights = load_file(folder.weights)
        network.load_state_dict(weights)
    except (OSError, RuntimeError, SafetensorError) as error:
        problem = " ".join(str(error).split())[:300]
        raise TextModelError(
            f"{folder.path}: weights, units and recipe do not fit together, or are damaged ({problem}); train it again"
        ) from error
    check_finite(weights, folder.weights)
    return TrainedTextModel(
        network.eval().requires_grad_(requires_grad=False),
        inventory,
        source=folder.path,
        name=recipe.name,
        kind=recipe.model.kind,
        fingerprint=_fingerprint(folder.weights, inventory, recipe),
    )


def _open_ngrams(file: Path, units: Path, name: str, source: Path | None = None) -> TextModel:
    """Open a file of n-grams and its inventory."""
    try:
        inventory = read_inventory(units)
    except VocabularyError as error:
        if units.is_file():
            raise
        raise TextModelError(
            f"{file}: no {units.name} beside it, which says what its units are; write the `to_json` of their inventory"
        ) from error
    try:
        model = open_lm(file)
    except LanguageModelError as error:
        raise TextModelError(f"no language model to learn from: {error}") from error
    if not isinstance(model, NgramModel):
        raise TextModelError(f"{file}: a binary of KenLM does not give whole distributions; give its ARPA file")
    fingerprint = _fingerprint(file, inventory)
    return NgramTextModel(model, inventory, source=source or file, name=name, fingerprint=fingerprint)


def check_finite(weights: dict[str, Tensor], source: Path) -> None:
    """Refuse weights that poison every answer.

    Raises:
        TextModelError: a weight is NaN or infinite.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TextModelError(f"{source}: holds NaN or infinity in {name}; train it again, or copy it again")


def _fingerprint(weights: Path, inventory: Inventory, recipe: TextRecipe | None = None) -> str:
    """SHA-256 over what decides the answers."""
    content = {
        "weights": file_sha256(weights),
        "units": inventory.to_json(),
        "model": recipe.model.model_dump(mode="json") if recipe else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
