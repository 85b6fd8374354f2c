"""The folder of a training run: what is in it, and how a finished one is read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from kdcompress.errors import RunError
from kdcompress.feature_frontend import FeatureFrontend, FeaturesConfig
from kdcompress.frontend import LogMel
from kdcompress.image_frontend import ImageConfig, ImageFrontend
from kdcompress.model_settings import StudentConfig, WholeStudentConfig
from kdcompress.recipe_file import load_recipe
from kdcompress.students import build_student
from kdcompress.students.base import Student
from kdcompress.teachers import build_teacher
from kdcompress.token_frontend import TokenFrontend, TokensConfig
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from kdcompress.network import CtcNetwork, Frontend
    from kdcompress.recipe import AnyFrontend, Recipe


@dataclass(frozen=True)
class RunFolder:
    """Names of the files of a run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """Resolved recipe, YAML."""
        return self.path / "recipe.yaml"

    @property
    def tokens(self) -> Path:
        """Vocabulary, as in a bundle."""
        return self.path / "tokens.txt"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs; there while the run is unfinished."""
        return self.path / "checkpoint.safetensors"

    @property
    def weights(self) -> Path:
        """Final weights; there when the run is finished."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: losses and dev measurements by step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Provenance and final measurements, JSON."""
        return self.path / "run.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.path / "tensorboard"


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, read back."""

    folder: RunFolder
    recipe: Recipe
    vocabulary: Vocabulary
    network: CtcNetwork
    """In evaluation mode, on the CPU."""
    summary: dict[str, Any]
    """Content of ``run.json``."""


def build_frontend(config: AnyFrontend) -> Frontend:
    """Build what turns raw inputs into features."""
    match config:
        case FeaturesConfig():
            return FeatureFrontend(config)
        case ImageConfig():
            return ImageFrontend(config)
        case TokensConfig():
            return TokenFrontend(config)
    return LogMel(config)


def build_network(recipe: Recipe, num_tokens: int) -> CtcNetwork:
    """Build the network of a recipe with fresh weights."""
    frontend = build_frontend(recipe.frontend)
    if isinstance(recipe.model, StudentConfig | WholeStudentConfig):
        return build_student(recipe.model, frontend, num_tokens)
    return build_teacher(recipe.model, frontend, num_tokens)


def load_run(path: str | Path) -> TrainedRun:
    """Read a finished run.

    Raises:
        RunError: the folder is missing, unfinished, or its files do not fit together.
        RecipeError: its recipe cannot be read by this version.
    """
    folder = RunFolder(Path(path))
    if not folder.path.is_dir():
        raise RunError(f"run not found: {folder.path}; give the folder that `kdcompress train` or `distill` wrote")
    if not folder.weights.is_file():
        remedy = "it is unfinished: repeat the command that started it, it goes on where it stopped"
        raise RunError(
            f"{folder.path}: no {folder.weights.name}; {remedy if folder.checkpoint.is_file() else 'not a run'}"
        )
    try:
        recipe = load_recipe(folder.recipe)
        vocabulary = Vocabulary.loads(folder.tokens.read_text(encoding="utf-8"), source=str(folder.tokens))
        summary = json.loads(folder.summary.read_text(encoding="utf-8"))
        network = build_network(recipe, len(vocabulary))
        network.load_state_dict(load_file(folder.weights))
    except (OSError, RuntimeError, json.JSONDecodeError, SafetensorError) as error:
        raise RunError(f"{folder.path}: files are missing or do not fit together ({error}); train again") from error
    network.eval().requires_grad_(requires_grad=False)
    return TrainedRun(folder, recipe, vocabulary, network, summary)


def load_student(path: str | Path) -> TrainedRun:
    """Read a finished run that holds a student.

    Raises:
        RunError: see ``load_run``; or the run holds a teacher, which sees the whole input (or the answer).
    """
    run = load_run(path)
    if not isinstance(run.network, Student):
        raise RunError(
            f"{path}: holds a teacher ({run.recipe.model.kind}), which cannot stream; distil a student from it"
        )
    return run
