"""What can be read off a foreign ONNX file: its signature, whose features it is fed, how it was subsampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from kdcompress.frontend import LogMelConfig
from kdcompress.teachers.features import Recipe
from kdcompress.teachers.onnx_signature import OUTPUTS, guess_features, guess_layout, guess_normalize, positive_integer
from kdcompress_export.errors import ForeignModelError, UnsupportedModelError
from kdcompress_export.importers.description import OnnxDescription, missing_fields
from kdcompress_export.importers.surgery import traced_scores
from kdcompress_export.importers.symbols import reading_tokens
from kdcompress_runtime.foreign_tokens import BLANKS, make_vocabulary, parse_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto, ValueInfoProto

    from kdcompress_runtime.vocabulary import Vocabulary

_INTEGERS: dict[int, str] = {TensorProto.INT32: "int32", TensorProto.INT64: "int64"}


@dataclass(frozen=True)
class Signature:
    """Names and axes of the foreign graph."""

    input: str
    """Features or samples."""
    output: str
    """Scores ``(N, T, C)``."""
    layout: str = "NTF"
    """Axes of the features."""
    channel: bool = False
    """Samples have a channel axis: ``(N, 1, n)``."""
    lengths: str | None = None
    """Input with the number of feature frames or samples, if there is one."""
    lengths_dtype: str = "int64"
    """Its dtype."""


@dataclass(frozen=True)
class Facts:
    """All that is needed to feed a foreign file and to read its answer."""

    signature: Signature
    """Names and axes."""
    description: OnnxDescription
    """Complete, but for what only a run can tell."""
    properties: dict[str, str]
    """``metadata_props`` of the file."""
    symbols: dict[int, str]
    """Token table."""

    def recipe(self) -> Recipe | None:
        """How the features are computed; None where the model hears samples.

        Raises:
            ForeignModelError: the values make no filterbank.
        """
        said = self.description
        if said.features is None or said.features == "waveform":
            return None
        nemo, wenet = said.features == "nemo", said.features == "kaldi_int16"
        high = said.high_freq if said.high_freq is not None else (0.0 if wenet else -400.0)
        values = {
            "sample_rate": said.sample_rate,
            "num_mel_bins": said.num_mel_bins,
            "frame_shift_ms": said.frame_shift_ms,
            "window_ms": said.window_ms,
            "low_freq": 0.0 if nemo else said.low_freq,
            "high_freq": 0.0 if nemo else high,
        }
        try:
            mel = LogMelConfig.model_validate(values)
        except ValueError as error:  # pydantic's is one
            lines = "; ".join(line.strip() for line in str(error).splitlines()[1:] if "further" not in line)
            raise ForeignModelError(f"no filterbank can be made of {values}: {lines}") from error
        snip = said.snip_edges if said.snip_edges is not None else wenet
        return Recipe(said.features, mel, said.normalize or "none", snip and not nemo)

    def vocabulary(self, size: int) -> Vocabulary:
        """Token table of a model with ``size`` outputs.

        Raises:
            ForeignModelError: it does not fit.
        """
        source = str(self.description.tokens)
        said = self.description.blank
        blank = next((index for name in (said, *BLANKS) for index, s in self.symbols.items() if s == name), None)
        if said is not None and said.isascii() and said.isdigit():
            blank = int(said)
        elif said is not None and said not in self.symbols.values():
            raise ForeignModelError(f"{source} has no symbol {said!r}, which was said to be the blank")
        if blank is None:
            blank = size - 1  # NeMo, whose blank comes after the last symbol
        delimiter = self.description.word_delimiter
        with reading_tokens():
            return make_vocabulary(self.symbols, size, blank, source=source, delimiter=delimiter)


def read_facts(file: Path, model: ModelProto, said: OnnxDescription) -> Facts:
    """Read what the file tells, and put it beside what was said.

    Raises:
        MissingFieldsError: naming every field that must be said.
        UnsupportedModelError: a streaming model, 16 bits, or an axis that is fixed.
        ForeignModelError: what was said is not what the file tells, or the token table cannot be read.
    """
    graph = model.graph
    properties = {entry.key: entry.value for entry in model.metadata_props}
    held = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in held]
    source, lengths = _inputs(file, inputs)
    shape = _shape(source)
    features = said.features or guess_features(shape, properties, {value.name for value in inputs})
    waveform = features == "waveform" or len(shape) == 2
    layout = said.layout or guess_layout(shape, features)
    bins = None if waveform else _bins(file, shape, layout, said.num_mel_bins)
    output = said.output or _output(graph.output)
    if said.output and said.output not in {value.name for value in graph.output}:
        raise ForeignModelError(f"{file} has no output {said.output!r}; it has {[v.name for v in graph.output]}")
    rate = said.sample_rate or positive_integer(properties, "sample_rate")
    normalize = said.normalize or guess_normalize(features, properties)
    tokens = said.tokens or (file.with_name("tokens.txt") if file.with_name("tokens.txt").is_file() else None)
    symbols = _symbols(tokens) if tokens else {}
    needed = {"tokens": tokens, "features": features, "sample_rate": rate, "normalize": normalize, "output": output}
    if not waveform:
        needed |= {"layout": layout, "num_mel_bins": bins}
    missing = [name for name, value in needed.items() if value is None]
    if tokens and said.blank is None and features != "nemo" and not set(BLANKS) & set(symbols.values()):
        missing.append("blank")
    if missing:
        raise missing_fields(file, missing)
    _check_axes(file, source, shape, waveform=waveform)
    _check_normalize(file, features, normalize)
    signature = Signature(
        source.name,
        str(output),
        layout or "NTF",
        channel=waveform and len(shape) == 3,
        lengths=lengths.name if lengths is not None else None,
        lengths_dtype=_INTEGERS[lengths.type.tensor_type.elem_type] if lengths is not None else "int64",
    )
    complete = replace(
        said,
        tokens=tokens,
        features=features,
        sample_rate=rate,
        num_mel_bins=bins,
        normalize=normalize,
        layout=None if waveform else layout,
        subsampling_factor=said.subsampling_factor or positive_integer(properties, "subsampling_factor"),
        scores=said.scores or traced_scores(graph, str(output)),
    )
    return Facts(signature, complete, properties, symbols)


def _inputs(file: Path, inputs: list[ValueInfoProto]) -> tuple[ValueInfoProto, ValueInfoProto | None]:
    """Tell features (or samples) from lengths; anything more is a state."""
    kinds = [value.type.tensor_type.elem_type for value in inputs]
    floats = [value for value, kind in zip(inputs, kinds, strict=True) if kind == TensorProto.FLOAT]
    counts = [value for value, kind in zip(inputs, kinds, strict=True) if kind in _INTEGERS]
    if TensorProto.FLOAT16 in kinds or TensorProto.DOUBLE in kinds:
        raise UnsupportedModelError(f"{file} takes other floats than float32; export the float32 model")
    if len(floats) > 1 or len(counts) > 1 or len(floats) + len(counts) < len(inputs):
        listed = ", ".join(value.name for value in inputs[:8]) + (", ..." if len(inputs) > 8 else "")
        raise UnsupportedModelError(
            f"{file} takes {len(inputs)} inputs ({listed}), as streaming models do, which carry caches. Supported are "
            "models of whole recordings: features or samples, and their lengths; export the offline (non-streaming) one"
        )
    if not floats:
        raise UnsupportedModelError(f"{file} takes no float32 features or samples; is it a decoder?")
    return floats[0], counts[0] if counts else None


def _shape(value: ValueInfoProto) -> list[int | None]:
    return [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]


def _bins(file: Path, shape: list[int | None], layout: str | None, said: int | None) -> int | None:
    if len(shape) != 3 or layout is None:
        return said
    found = shape[1 if layout == "NFT" else 2]
    if said is not None and found is not None and said != found:
        raise ForeignModelError(f"{file} takes {found} features a frame, but num_mel_bins was said to be {said}")
    return found or said


def _output(outputs: list[ValueInfoProto]) -> str | None:
    scores = [v.name for v in outputs if v.type.tensor_type.elem_type == TensorProto.FLOAT and len(_shape(v)) in {0, 3}]
    if len(scores) == 1:
        return scores[0]
    return next((name for name in OUTPUTS if name in scores), None)


def _check_axes(file: Path, source: ValueInfoProto, shape: list[int | None], *, waveform: bool) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type)
    if len(shape) not in ({2, 3} if waveform else {3}):
        takes = "samples (N, n)" if waveform else "features (N, T, F)"
        raise UnsupportedModelError(f"{file}: {source.name} is {dtype} with {len(shape)} axes; supported are {takes}")
    fixed = [axis for axis, size in enumerate(shape) if size is not None]
    allowed = {1} if waveform else {1, 2}
    if 0 in fixed or len(fixed) > 1 or not set(fixed) <= allowed:
        raise UnsupportedModelError(
            f"{file}: {source.name} has the fixed shape {shape}; batch and time must be dynamic: export it with "
            "dynamic axes"
        )


def _check_normalize(file: Path, features: str | None, normalize: str | None) -> None:
    allowed = {"nemo": ("none", "per_feature", "all_features"), "waveform": ("none", "zero_mean_unit_var")}
    choices = allowed.get(features or "", ("none",))
    if normalize not in choices:
        raise ForeignModelError(f"{file}: normalize is {normalize!r}; with features={features} it is one of {choices}")


def _symbols(tokens: Path) -> dict[int, str]:
    try:
        with reading_tokens():
            return parse_tokens(tokens.read_text(encoding="utf-8"), str(tokens))
    except (OSError, UnicodeDecodeError) as error:
        raise ForeignModelError(f"{tokens}: the token table cannot be read ({error})") from error
