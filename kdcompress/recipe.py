"""Recipes: frozen, typed settings of one training run. ``recipe_file`` reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kdcompress.data.image_augment import ImageAugment  # noqa: TC001 (pydantic needs it at run time)
from kdcompress.data.text import Units  # noqa: TC001 (pydantic needs it at run time)
from kdcompress.feature_frontend import FeaturesConfig
from kdcompress.frontend import LogMelConfig
from kdcompress.image_frontend import ImageConfig
from kdcompress.labels.settings import AnyLabels  # noqa: TC001 (pydantic needs it at run time)
from kdcompress.losses import AnyLoss  # noqa: TC001 (pydantic needs it at run time)
from kdcompress.losses.ctc import CtcLoss
from kdcompress.losses.frame_kl import FrameKlLoss
from kdcompress.model_settings import ModelConfig, StudentConfig
from kdcompress.quantization_aware import QuantizationAware  # noqa: TC001 (pydantic needs it at run time)
from kdcompress.settings import Settings
from kdcompress.teachers.ensemble import AnyCombination, Single
from kdcompress.token_frontend import TokensConfig

SUBWORDS = 256
"""Symbols of ``units: subwords`` unless told otherwise."""


class DataConfig(Settings):
    """Where the items come from. Relative paths start at the folder the command runs in."""

    train: Path
    """JSONL manifest to train on."""
    dev: Path | None = None
    """JSONL manifest to measure on while training; never trained on."""
    units: Units = "characters"
    """What one token is. With ``words`` each word of a text is one: for texts of phones, or few words; the word error
    rate of phones is their phone error rate. With ``subwords`` pieces of words, learned from the training texts
    (byte-pair encoding), are; those of the teacher or of ``init`` where there is one."""
    subwords: int = Field(default=SUBWORDS, ge=2)
    """How many symbols ``units: subwords`` has besides the blank, the characters among them."""
    max_duration: float | None = Field(default=None, gt=0)
    """Longest item: seconds; columns of an image; tokens of a source sentence. A longer one is an error (or left out,
    see ``on_unusable``). Left out: 30 s, 2000 columns, 200 tokens."""
    on_unusable: Literal["error", "skip"] = "error"
    """What to do with an item that is too long, or whose text needs more frames than its input has."""
    workers: int = Field(default=0, ge=0, le=256)
    """Threads of each process that read and augment the next batches meanwhile; batches are the same for any number."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.subwords != SUBWORDS and self.units != "subwords":
            raise ValueError(f"subwords is {self.subwords}, but units is {self.units}; set units to subwords")
        return self


class NoiseAugment(Settings):
    """Mix real noise into training items."""

    manifest: Path
    """JSONL manifest of noise recordings with a ``split`` field."""
    split: str = "train"
    """Noises of this split are used."""
    snr_db: tuple[float, float] = (-5.0, 20.0)
    """Signal-to-noise ratio, drawn evenly between the two, in dB."""
    probability: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of the items that get noise."""

    @model_validator(mode="after")
    def _check(self) -> NoiseAugment:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db runs from low to high, found {list(self.snr_db)}")
        return self


class SpecAugment(Settings):
    """Masks on features (Park et al., arXiv 1904.08779); teacher and student see the same ones."""

    freq_masks: int = Field(default=2, ge=0)
    """Masks over feature bins for each item."""
    freq_fraction: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Widest mask, as a share of the bins."""
    time_masks: int = Field(default=2, ge=0)
    """Masks over time for each item."""
    time_frames: int = Field(default=25, ge=0)
    """Widest mask in feature frames."""
    time_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Widest mask, as a share of the item."""


class AugmentConfig(Settings):
    """Augmentation of training items. Everything that moves time happens before teacher and student part."""

    lead_in_s: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.0, 0.0)
    """Seconds of quiet noise put in front, drawn evenly between the two. Without it a student with little look-ahead
    may learn to emit the first label with the first frame, before it can have heard it, and never unlearn that."""
    speed: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Speed factors, one drawn for each item; pitch moves along."""
    gain_db: tuple[float, float] = (-6.0, 6.0)
    """Gain, drawn evenly between the two, in dB."""
    noise: NoiseAugment | None = None
    """Background noise; none if left out."""
    spec: SpecAugment | None = SpecAugment()
    """Feature masks; ``null`` switches them off."""
    image: ImageAugment | None = None
    """What happens to images of text lines; nothing if left out."""

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        if not self.speed or min(self.speed) < 0.5 or max(self.speed) > 2:
            raise ValueError("speed factors must lie between 0.5 and 2")
        for name, (low, high) in (("gain_db", self.gain_db), ("lead_in_s", self.lead_in_s)):
            if low > high:
                raise ValueError(f"{name} runs from low to high, found {[low, high]}")
        return self

    def stretched(self, units: int, rate: float) -> int:
        """Return the most input units that ``units`` of them, ``rate`` a second, become by lead-in and speed."""
        return math.ceil((units + self.lead_in_s[1] * rate) / min(1.0, *self.speed))

    def check_for(self, task: str, augments: frozenset[str]) -> None:
        """Refuse what has no effect on the items of a task.

        Raises:
            ValueError: a key that ``augments`` does not name is set, and not to what changes nothing.
        """
        plain, nothing = AugmentConfig(), {"lead_in_s": (0.0, 0.0), "speed": (1.0,), "gain_db": (0.0, 0.0)}
        for name in type(self).model_fields:
            found = getattr(self, name)
            if name not in augments and found not in (getattr(plain, name), nothing.get(name)):
                raise ValueError(f"augment.{name} does nothing to the items of task {task}; remove it")


def _frontend_kind(found: object) -> str:
    """What a frontend section is; one that does not say is for speech."""
    return str(found.get("kind", "log_mel") if isinstance(found, dict) else getattr(found, "kind", "log_mel"))


AnyFrontend = Annotated[
    Annotated[LogMelConfig, Tag("log_mel")]
    | Annotated[FeaturesConfig, Tag("features")]
    | Annotated[ImageConfig, Tag("image")]
    | Annotated[TokensConfig, Tag("tokens")],
    Discriminator(_frontend_kind),
]
"""Each says which ``task`` it is for, how its inputs are counted and called (``units_per_second``, ``measure``), how
long they may be (``longest``), which of its fields decide how many units an item has (``counted_by``; stored labels are
about these), what of ``augment`` changes them, and their ``sample_rate``, if they are audio."""
LONGEST = {
    kind.model_fields["kind"].default: kind.longest
    for kind in (LogMelConfig, FeaturesConfig, ImageConfig, TokensConfig)
}
"""Longest item by the kind of the frontend."""


class TrainConfig(Settings):
    """The loop."""

    steps: int = Field(default=1000, ge=1)
    """Updates."""
    batch_size: int = Field(default=24, ge=1)
    """Items an update, over all processes."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of the schedule: linear warm-up, then cosine to zero."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the updates spent warming up."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's, on matrices only."""
    grad_clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    log_every: int = Field(default=20, ge=1)
    """Updates between scalars."""
    eval_every: int = Field(default=500, ge=1)
    """Updates between measurements on dev; there is one at the end in any case."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Updates between checkpoints; Ctrl-C writes one, too."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 helps on a GPU, and on CPUs that have it in hardware; on others it does not."""
    batch_seconds: float | None = Field(default=None, gt=0)
    """Seconds of input an update, padding included, over all processes, in the place of ``batch_size``: short items go
    many at a time, long ones few. None: ``batch_size`` items."""
    accumulate: int = Field(default=1, ge=1)
    """Parts that each process divides its share of a batch into, one after the other, to fit into memory; the update
    is the same but for batch norm, whose statistics are those of the parts."""
    activation_checkpointing: bool = False
    """Compute blocks again in the backward pass and keep less: more time, less memory."""


class DistillConfig(Settings):
    """Who gives targets besides the labels."""

    teachers: tuple[Path, ...] = ()
    """Runs, bundles, Hugging Face folders, ONNX or Python files, or stores of ``kdcompress label``
    (``docs/teachers.md``); one path will do for one teacher."""
    combine: AnyCombination = Single()
    """How several answers become one: ``switching``, ``multi_stream``, ``interpolation`` or ``hybrid``."""
    language_models: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Path] = Field(default_factory=dict)
    """Language models by names of your own, which losses call them by: runs of them, Hugging Face folders, or stores
    (``docs/language-models.md``)."""
    alignment: Path | None = None
    """Where in the training items their units are: ``alignment.jsonl`` of ``kdcompress align``."""
    top_k: int = Field(default=16, ge=1)
    """Units that are kept of a language model's distributions; the others share what is left."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_will_do(cls, value: object) -> object:
        return [value] if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _check(self) -> DistillConfig:
        if not (self.teachers or self.language_models):
            raise ValueError("nobody teaches; name teachers, or language_models")
        if self.teachers:
            self.combine.check(len(self.teachers))
        return self


UNHEARD = ("gain_db", "image")
"""Keys of ``augment`` that are not written down for tasks that they do nothing to."""
TEACHER_SHARE = 0.9
"""Weight of the teacher beside CTC where a recipe names no losses; measured, see ``docs/methods.md``."""


def default_losses(found: dict[str, Any]) -> tuple[AnyLoss, ...]:
    """Losses of a recipe that names none, from the sections read before."""
    if not found.get("distill") or not found["distill"].teachers:
        return (CtcLoss(),)
    return (CtcLoss(weight=round(1 - TEACHER_SHARE, 6)), FrameKlLoss(weight=TEACHER_SHARE, suit_teacher=True))


class Recipe(Settings):
    """One training run, from manifest to weights."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of the recipe format, ``schema: 1`` in the file."""
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Short name, used in tables."""
    task: Literal["speech", "features", "scene_text", "translation"] = "speech"
    """What the inputs are: recordings, frames of features, images of text lines, or sentences."""
    seed: int = Field(default=1, ge=0)
    """Weights, order, augmentation: everything random follows from it."""
    data: DataConfig
    """Manifests."""
    frontend: AnyFrontend = LogMelConfig()
    """Raw input -> features."""
    augment: AugmentConfig = AugmentConfig()
    """Changes to training items."""
    model: ModelConfig
    """What is trained: a student or a teacher."""
    init: Path | None = None
    """Folder of a finished run of the same model whose weights the training starts from; none: fresh weights."""
    init_encoder: Path | None = None
    """The same for a run of other tokens: all weights are taken from it but the output layer's, which are fresh."""
    train: TrainConfig = TrainConfig()
    """The loop."""
    distill: DistillConfig | None = None
    """Where targets come from besides the labels; none: labels only."""
    losses: tuple[AnyLoss, ...] = Field(default_factory=default_losses, min_length=1)
    """What is minimised: the weighted sum of these. Left out: CTC; with a teacher mostly frame KL, answered late enough
    for the student to have heard what a full-context teacher has (``docs/methods.md``)."""
    label: AnyLabels | None = None
    """What ``kdcompress label`` stores of the teachers' answers; left out: the eight most probable tokens."""
    quantization_aware: QuantizationAware | None = None
    """Round in training as the int8 file will; none: train in float32 alone."""

    @model_validator(mode="before")
    @classmethod
    def _suit_length(cls, found: object) -> object:
        """Fill in the longest item that suits the task: a resolved recipe says it."""
        if not isinstance(found, dict) or not isinstance(data := found.get("data"), dict):
            return found
        longest = LONGEST.get(_frontend_kind(found.get("frontend")))
        return found if data.get("max_duration") else {**found, "data": {**data, "max_duration": longest}}

    @model_validator(mode="after")
    def _check_inputs(self) -> Recipe:
        if self.frontend.task != self.task:
            raise ValueError(
                f"task is {self.task}, and frontend.kind {self.frontend.kind} is for task {self.frontend.task}; "
                "change one of them"
            )
        self.augment.check_for(self.task, self.frontend.augments)
        if self.frontend.kind == "tokens" and self.model.subsampling_factor != 1:
            raise ValueError(
                f"model.subsampling_factor is {self.model.subsampling_factor}, and nothing is left out of a sentence; "
                "set it to 1"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.distill and self.model.sees_labels:
            raise ValueError(f"model.kind {self.model.kind} sees the labels already; remove the distill section")
        if self.init and self.init_encoder:
            raise ValueError("init and init_encoder both say where to start; remove one of them")
        names = [loss.key for loss in self.losses]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"losses: {twice[0]!r} is there twice; give each a `name`")
        taught = [loss.key for loss in self.losses if loss.needs_teacher]
        if taught and not self.distill:
            raise ValueError(f"losses: {taught[0]!r} needs a teacher; add a distill section")
        if self.distill and self.distill.teachers and not taught:
            raise ValueError("distill: no loss looks at a teacher; add one such as frame_kl to losses")
        if taught and self.distill and not self.distill.teachers:
            raise ValueError(f"losses: {taught[0]!r} needs a teacher; add distill.teachers")
        self._check_language_models()
        if self.quantization_aware and not isinstance(self.model, StudentConfig):
            raise ValueError(f"quantization_aware: model.kind {self.model.kind} is a teacher, which has no int8 file")
        if self.quantization_aware and self.train.precision != "float32":
            raise ValueError("quantization_aware: bf16 rounds as coarsely as int8; set train.precision to float32")
        return self

    def _check_language_models(self) -> None:
        models = self.distill.language_models if self.distill else {}
        for loss in self.losses:
            if loss.reads is not None and loss.reads not in models:
                known = f"it has {', '.join(map(repr, models))}" if models else "there is none"
                raise ValueError(f"losses: {loss.key!r} learns from {loss.reads!r} of distill.language_models; {known}")
            if loss.needs_alignment and self.distill and self.distill.alignment is None:
                raise ValueError(
                    f"losses: {loss.key!r} needs to know where the units are; set distill.alignment to what "
                    "`kdcompress align` wrote, or placement to path"
                )
        read = {loss.reads for loss in self.losses}
        if unread := sorted(set(models) - read):
            raise ValueError(
                f"distill.language_models: no loss learns from {unread[0]!r}; add an lm_head, or remove it"
            )

    @property
    def longest(self) -> float:
        """``data.max_duration``, or what suits the task."""
        return self.frontend.longest if self.data.max_duration is None else self.data.max_duration

    def dumps(self) -> str:
        """Return the resolved recipe as YAML; ``load_recipe`` reads it back.

        What a recipe does without and earlier versions did not know is left out: checkpoints go by this text.
        """
        without: dict[str, Any] = {
            key: True for key in ("init", "init_encoder", "label", "quantization_aware") if getattr(self, key) is None
        }
        without["data"] = {"subwords"} if self.data.units != "subwords" else set()
        if self.distill and not self.distill.language_models:
            without["distill"] = {"language_models", "alignment", "top_k"}
        if not self.data.workers:
            without["data"] |= {"workers"}
        without["augment"] = {
            name for name in AugmentConfig.model_fields if name not in self.frontend.augments and name in UNHEARD
        }
        plain = TrainConfig()
        newer = ("batch_seconds", "accumulate", "activation_checkpointing")
        without["train"] = {key for key in newer if getattr(self.train, key) == getattr(plain, key)}
        tree = self.model_dump(mode="json", by_alias=True, exclude=without)
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
