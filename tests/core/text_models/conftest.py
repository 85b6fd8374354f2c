"""A small language of words, recipes over it, and one trained model of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kdcompress.text_models.fit import fit_text_model
from kdcompress.text_models.recipe import TextRecipe, load_text_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORDS = ("ab", "cab", "bad", "dab", "ada", "bc")
TRAIN = [f"{first} {second}" for first in WORDS for second in WORDS] * 2
DEV = ["ab cab bad", "ada dab", "bc ab"]
SMALL = {"width": 16, "depth": 1, "dropout": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "ngram": {"order": 3},
    "causal_lstm": SMALL,
    "causal_transformer": {**SMALL, "heads": 2},
    "masked_transformer": {**SMALL, "heads": 2, "positions": "learned", "most_units": 64},
}


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.txt").write_text("\n".join(TRAIN) + "\n", encoding="utf-8")
    (folder / "dev.txt").write_text("\n".join(DEV) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def text_recipe(texts) -> Callable[..., TextRecipe]:
    """``text_recipe("ngram", "train.steps=3")``."""

    def make(kind: str = "causal_lstm", *overrides: str) -> TextRecipe:
        path = texts / f"{kind}.yaml"
        path.write_text(
            f"schema: 1\nname: {kind}\nseed: 3\n"
            f"text: {{train: {texts / 'train.txt'}, dev: {texts / 'dev.txt'}}}\n"
            f"model: { ({'kind': kind, **KINDS[kind]}) }\n"
            "train: {steps: 12, batch_tokens: 128, eval_every: 4, checkpoint_every: 5, log_every: 1}\n",
            encoding="utf-8",
        )
        return load_text_recipe(path, overrides)

    return make


@pytest.fixture(scope="session")
def runs(text_recipe, tmp_path_factory) -> dict[str, Path]:
    """A finished run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in KINDS:
        fit_text_model(text_recipe(kind), folder / kind)
    return {kind: folder / kind for kind in KINDS}
