"""Recipes of language models: YAML with a ``text`` section, read as strictly as those of students."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from kdcompress.errors import RecipeError
from kdcompress.recipe_file import packaged_in, read_settings, read_tree
from kdcompress.settings import Settings
from kdcompress.text_models.settings import TextModelSettings  # noqa: TC001 (pydantic needs it at run time)

if TYPE_CHECKING:
    from collections.abc import Iterable

SUBWORDS = 256
"""Symbols of ``units: subwords`` unless told otherwise."""
PACKAGED = resources.files("kdcompress.text_models") / "recipes"
"""Folder of the recipes that come with the package."""


class TextData(Settings):
    """The texts, and the units they are written in. Relative paths start at the folder the command runs in."""

    train: tuple[Path, ...] = Field(min_length=1)
    """Texts, one sentence a line (also gzipped), or manifests; one path will do for one."""
    dev: Path | None = None
    """Text or manifest to choose the best weights by; none: one sentence in forty of ``train`` is held out."""
    units: Literal["characters", "words", "subwords", "phones", "senones"] = "characters"
    """What one unit is."""
    subwords: int = Field(default=SUBWORDS, ge=2)
    """How many symbols ``units: subwords`` has."""
    algorithm: Literal["bpe", "unigram"] = "bpe"
    """How subwords are found."""
    tokens: Path | None = None
    """Units of an acoustic model, its ``tokens.txt`` or its run, in the place of units made from ``train``."""
    lexicon: Path | None = None
    """Pronunciations, ``CAT K AE1 T`` a line; for phones. Senones bring theirs."""
    g2p: Literal["none", "lexicon", "espeak"] = "none"
    """How a word outside the lexicon is said: an error, by rules learned from the lexicon, or by espeak-ng."""
    senones: Path | None = None
    """``senones.json``, or its folder; for ``units: senones``."""
    words: Literal["as_is", "normalise"] = "as_is"
    """``normalise``: lower-case letters a to z and apostrophes, without punctuation."""
    field: Literal["text", "words"] = "text"
    """Field of manifests that holds the text; those of phones hold their words in ``words``."""

    @field_validator("train", mode="before")
    @classmethod
    def _one_will_do(cls, value: object) -> object:
        return [value] if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _check(self) -> TextData:
        said = self.units in {"phones", "senones"}
        if self.subwords != SUBWORDS and self.units != "subwords":
            raise ValueError(f"text: subwords is {self.subwords}, but units is {self.units}; set units to subwords")
        if self.units == "senones" and self.senones is None:
            raise ValueError("text: units is senones, which need the file senones: senones.json")
        if self.units == "phones" and self.lexicon is None:
            raise ValueError("text: units is phones, which need a lexicon, lines such as `CAT K AE1 T`")
        if self.senones and self.units != "senones":
            raise ValueError(f"text: senones is set, but units is {self.units}; set units to senones")
        if said and self.tokens:
            raise ValueError(f"text: units is {self.units}, which come from no tokens; remove tokens")
        if self.units != "phones" and (self.lexicon or self.g2p != "none"):
            raise ValueError(f"text: units is {self.units}, which take no lexicon and no g2p; remove them")
        return self


class TextTraining(Settings):
    """The loop. N-grams have none."""

    steps: int = Field(default=1500, ge=1)
    """Updates."""
    batch_tokens: int = Field(default=2048, ge=16)
    """Units an update, padding and sentence marks included."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak of the schedule: linear warm-up, then cosine to zero."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the updates spent warming up."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's, on matrices only."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    log_every: int = Field(default=50, ge=1)
    """Updates between lines of ``metrics.jsonl``."""
    eval_every: int = Field(default=250, ge=1)
    """Updates between measurements on dev; the weights that were best there are kept."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Updates between checkpoints; Ctrl-C writes one, too."""


class TextRecipe(Settings):
    """One training run of a language model."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of the recipe format, ``schema: 1`` in the file."""
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Short name, used in tables."""
    seed: int = Field(default=1, ge=0)
    """Weights, order, dropout, what is hidden: everything random follows from it."""
    text: TextData
    """Texts and units."""
    model: TextModelSettings
    """What is trained."""
    train: TextTraining = TextTraining()
    """The loop."""

    def dumps(self) -> str:
        """Return the resolved recipe as YAML; ``load_text_recipe`` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False)


def packaged_text_recipes() -> list[str]:
    """Names of the recipes of language models that come with the package."""
    return packaged_in(PACKAGED)


def load_text_recipe(source: str | Path, overrides: Iterable[str] = ()) -> TextRecipe:
    """Read a recipe file, or a packaged recipe by name, and apply ``key.path=value`` overrides.

    Raises:
        RecipeError: see ``kdcompress.recipe_file.load_recipe``.
    """
    return read_settings(TextRecipe, source, overrides, PACKAGED)


def is_text_recipe(source: str | Path) -> bool:
    """Whether ``source`` is a recipe of a language model: it has a section ``text``, or is packaged with them."""
    try:
        tree: dict[str, Any] = read_tree(source, (), PACKAGED)[0]
    except RecipeError:
        return False
    return "text" in tree and "data" not in tree
