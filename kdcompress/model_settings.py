"""What a recipe's ``model`` section can be: settings of every student and teacher."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from kdcompress.settings import Settings


class EncoderConfig(Settings):
    """Full-context separable-convolution encoder of a teacher."""

    width: int = Field(default=128, ge=4)
    """Channels."""
    depth: int = Field(default=8, ge=1)
    """Blocks."""
    kernel: int = Field(default=15, ge=3)
    """Frames a block sees; odd, so that it looks equally far both ways."""
    expansion: int = Field(default=2, ge=1)
    """Inner width of a block over its outer width."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout inside a block."""
    channels: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Maps of 2-D convolutions in front of the blocks, two or more; each halves the bins (rows of an image), and the
    first two divide time. None: one convolution over time."""
    block: Literal["convolution", "attention", "both", "recurrent"] = "convolution"
    """What a block is: a separable convolution, self-attention, the one and then the other, or an LSTM that reads both
    ways (with ``channels``: CRNN)."""
    heads: int = Field(default=4, ge=1)
    """Attention heads of a block."""
    token_depth: int = Field(default=2, ge=0)
    """Blocks of attention over source tokens, before each becomes several frames; for task translation."""

    newer: ClassVar[frozenset[str]] = frozenset({"channels", "block", "heads", "token_depth"})

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd: a full-context block looks equally far both ways")
        if len(self.channels) == 1:
            raise ValueError("channels are none, or two and more: the first two divide time")
        if self.width % self.heads and self.block in {"attention", "both"}:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.width % 2 and self.block == "recurrent":
            raise ValueError(f"width {self.width} is odd: each direction of a recurrent block gives half of it")
        return self


class ConventionalConfig(Settings):
    """A full-context CTC teacher."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["conventional"]
    """Selects this teacher."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    encoder: EncoderConfig = EncoderConfig()
    """The network under the head."""


class FullContextConfig(Settings):
    """A student that takes whole inputs: text lines, sentences, short recordings."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["full_context"]
    """Selects this student."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    encoder: EncoderConfig = EncoderConfig()
    """The network under the head."""


class OracleConfig(Settings):
    """An Oracle Teacher: sees input and reference (Yoon et al., arXiv 2111.03664)."""

    sees_labels: ClassVar[bool] = True

    kind: Literal["oracle"]
    """Selects this teacher."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    encoder: EncoderConfig = EncoderConfig()
    """The network that reads the source."""
    heads: int = Field(default=4, ge=1)
    """Attention heads."""
    fusion_depth: int = Field(default=2, ge=1)
    """Blocks in which source frames attend to the labels."""
    source_self_attention: bool = False
    """Whether a fusion block starts with self-attention over the source."""
    label_self_attention: int = Field(default=0, ge=0)
    """Self-attention blocks over the label embeddings."""
    positions: Literal["none", "source", "target", "both"] = "none"
    """Where positions are encoded. ``both`` is the most accurate teacher and the one that copies most."""
    label_mask_prob: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the labels hidden in training, so that the teacher leans on the input."""

    @model_validator(mode="after")
    def _check(self) -> OracleConfig:
        if self.encoder.width % self.heads:
            raise ValueError(f"encoder.width {self.encoder.width} is not divisible by heads {self.heads}")
        return self


class VggConfig(Settings):
    """A full-context CTC teacher of 2-D convolutions over bins and time."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["vgg"]
    """Selects this teacher."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(12, 24, 32), min_length=2)
    """Maps of each 2-D convolution. The first two divide time; the bins are halved after each."""
    width: int = Field(default=128, ge=4)
    """Channels of the convolutions over time that follow."""
    depth: int = Field(default=5, ge=1)
    """Convolutions over time."""
    kernel: int = Field(default=7, ge=3)
    """Frames that a convolution over time sees; odd, so that it looks equally far both ways."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout after each convolution over time."""

    @model_validator(mode="after")
    def _check(self) -> VggConfig:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd: a full-context block looks equally far both ways")
        return self


class LstmConfig(Settings):
    """A recurrent CTC teacher that reads both ways."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["lstm"]
    """Selects this teacher."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    width: int = Field(default=128, ge=4)
    """Cells of each direction, and channels of the subsampling."""
    depth: int = Field(default=2, ge=1)
    """Bidirectional layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout after each layer."""


class StudentSize(Settings):
    """Width, depth and kernel that a preset stands for."""

    width: int
    depth: int
    kernel: int


PRESETS = {
    "tiny": StudentSize(width=96, depth=8, kernel=11),
    "small": StudentSize(width=192, depth=10, kernel=11),
    "base": StudentSize(width=320, depth=12, kernel=15),
}
"""About 0.3, 1.6 and 5 M parameters with 40 to 80 features and characters."""


class SeparableConvConfig(Settings):
    """The depthwise-separable convolution student."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["separable_conv"]
    """Selects this student."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Size; about 0.3, 1.6 and 5 M parameters."""
    width: int | None = Field(default=None, ge=4)
    """Channels; overrides the preset."""
    depth: int | None = Field(default=None, ge=1)
    """Blocks; overrides the preset."""
    kernel: int | None = Field(default=None, ge=2)
    """Frames a block sees; overrides the preset."""
    expansion: int | float = Field(default=2, gt=0)
    """Inner width of a block over its outer width; a broken number where channels were pruned."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout inside a block."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    lookahead_frames: int = Field(default=8, ge=0)
    """Output frames the student waits for: 8 are 320 ms. Zero is strictly causal and learns badly."""
    chunk_frames: int = Field(default=8, ge=1)
    """Output frames the runtime computes at a time unless told otherwise."""

    @model_validator(mode="after")
    def _check(self) -> SeparableConvConfig:
        size = self.resolved()
        if -(-self.lookahead_frames // size.depth) > size.kernel - 1:
            raise ValueError(_too_far(self.lookahead_frames, size.depth, size.kernel))
        return self

    def resolved(self) -> StudentSize:
        """Return the preset's size with the overrides applied."""
        return _resolved(PRESETS[self.preset], self.width, self.depth, self.kernel)


class CnnConfig(Settings):
    """The student of standard, dense convolutions."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["cnn"]
    """Selects this student."""
    channels: int = Field(default=16, ge=1)
    """Maps of the two 2-D convolutions over bins and time."""
    width: int = Field(default=96, ge=4)
    """Channels of the convolutions over time that follow."""
    depth: int = Field(default=6, ge=1)
    """Convolutions over time."""
    kernel: int = Field(default=5, ge=2)
    """Frames that a convolution over time sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout after each convolution over time."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    lookahead_frames: int = Field(default=8, ge=0)
    """Output frames the student waits for: 8 are 320 ms. Zero is strictly causal and learns badly."""
    chunk_frames: int = Field(default=8, ge=1)
    """Output frames the runtime computes at a time unless told otherwise."""

    @model_validator(mode="after")
    def _check(self) -> CnnConfig:
        if -(-self.lookahead_frames // self.depth) > self.kernel - 1:
            raise ValueError(_too_far(self.lookahead_frames, self.depth, self.kernel))
        return self


CONFORMER_PRESETS = {
    "tiny": StudentSize(width=64, depth=4, kernel=9),
    "small": StudentSize(width=128, depth=4, kernel=9),
    "base": StudentSize(width=240, depth=4, kernel=9),
}
"""About 0.4, 1.6 and 5.4 M parameters with 40 to 80 features and characters."""


class ChunkedConformerConfig(Settings):
    """The conformer student: attention over a limited past, and convolutions."""

    sees_labels: ClassVar[bool] = False

    kind: Literal["chunked_conformer"]
    """Selects this student."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Size; about 0.4, 1.6 and 5.4 M parameters."""
    width: int | None = Field(default=None, ge=4)
    """Channels; overrides the preset."""
    depth: int | None = Field(default=None, ge=1)
    """Blocks; overrides the preset."""
    kernel: int | None = Field(default=None, ge=2)
    """Frames that the convolution of a block sees; overrides the preset."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; a divisor of the width."""
    expansion: int | float = Field(default=4, gt=0)
    """Inner width of a feed-forward part over its outer width; a broken number where channels were pruned."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout inside and after each part of a block."""
    subsampling_factor: int = Field(default=4, ge=1)
    """Feature frames for one output frame."""
    left_frames: int = Field(default=32, ge=1, le=1000)
    """Frames before a frame that it attends to in each block: 32 are 1.28 s. Blocks add up."""
    lookahead_frames: int = Field(default=8, ge=0)
    """Output frames the student waits for: 8 are 320 ms. Zero is strictly causal and learns badly."""
    chunk_frames: int = Field(default=8, ge=1)
    """Output frames the runtime computes at a time unless told otherwise."""

    @model_validator(mode="after")
    def _check(self) -> ChunkedConformerConfig:
        size = self.resolved()
        if -(-self.lookahead_frames // size.depth) > size.kernel - 1:
            raise ValueError(_too_far(self.lookahead_frames, size.depth, size.kernel))
        if size.width % self.heads:
            raise ValueError(f"width {size.width} is not divisible by heads {self.heads}")
        return self

    def resolved(self) -> StudentSize:
        """Return the preset's size with the overrides applied."""
        return _resolved(CONFORMER_PRESETS[self.preset], self.width, self.depth, self.kernel)


def _resolved(preset: StudentSize, width: int | None, depth: int | None, kernel: int | None) -> StudentSize:
    return StudentSize(width=width or preset.width, depth=depth or preset.depth, kernel=kernel or preset.kernel)


def _too_far(lookahead: int, depth: int, kernel: int) -> str:
    return (
        f"lookahead_frames {lookahead} is more than depth {depth} blocks of kernel {kernel} can see; "
        f"at most {depth * (kernel - 1)}"
    )


StudentConfig = SeparableConvConfig | CnnConfig | ChunkedConformerConfig
"""What the ``model`` section of a student can be that streams."""
WholeStudentConfig = FullContextConfig
"""What the ``model`` section of a student can be that takes whole inputs."""
TeacherConfig = ConventionalConfig | OracleConfig | VggConfig | LstmConfig
"""What a teacher's ``model`` section can be."""
ModelConfig = Annotated[StudentConfig | WholeStudentConfig | TeacherConfig, Field(discriminator="kind")]
