"""All that must be known of a CTC ONNX file: what it tells itself, and what ``teacher.yaml`` beside it adds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kdcompress.errors import TeacherError
from kdcompress.frontend import LogMelConfig
from kdcompress.teachers.features import Recipe
from kdcompress.teachers.onnx_settings import missing_fields, read_settings
from kdcompress.teachers.onnx_signature import (
    OUTPUTS,
    guess_features,
    guess_layout,
    guess_normalize,
    positive_integer,
)
from kdcompress_runtime.errors import ForeignVocabularyError
from kdcompress_runtime.foreign_tokens import BLANKS, make_vocabulary, parse_tokens
from kdcompress_runtime.hf_vocabulary import TABLE, read_hf_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kdcompress.teachers.onnx_settings import OnnxSettings
    from kdcompress_runtime.vocabulary import Vocabulary

TOKENS, EXTRACTOR = "tokens.txt", "preprocessor_config.json"
_INTEGERS = {"tensor(int32)": "int32", "tensor(int64)": "int64"}
_NORMALIZE = {"nemo": ("none", "per_feature", "all_features"), "waveform": ("none", "zero_mean_unit_var")}


@dataclass(frozen=True)
class Facts:
    """A file, and what is known of it."""

    file: Path
    said: OnnxSettings
    """Complete but for what only a run tells."""
    input: str
    """Name of the features or samples."""
    output: str
    """Name of the scores."""
    channel: bool
    """Samples have a channel axis: ``(N, 1, n)``."""
    lengths: tuple[str, str] | None
    """Name and dtype of the input with the number of feature frames or samples."""
    mask: tuple[str, str] | None
    """The same of a mask ``(N, n)``."""
    tokens: dict[int, str] | None
    """Token table; None: it is in ``vocab.json``, as Hugging Face has it."""
    recipe: Recipe | None
    """How the features are computed; None where it hears samples."""

    @property
    def unit(self) -> int:
        """Samples for one unit of the input."""
        return self.recipe.hop if self.recipe else 1

    def vocabulary(self, size: int) -> Vocabulary:
        """Token table of a model with ``size`` outputs.

        Raises:
            TeacherError: it does not fit.
        """
        said, blank = self.said.blank, None
        try:
            if self.tokens is None:
                return read_hf_vocabulary(self.file.parent).vocabulary(size, usual_spelling=True)
            if isinstance(said, int) or (said is not None and said.isdecimal()):
                blank = int(said)
            else:
                names = BLANKS if said is None else (said,)
                blank = next((index for name in names for index, s in self.tokens.items() if s == name), None)
            if blank is None and said is not None:
                raise TeacherError(f"{self.file}: no token {said!r}, which was said to be the blank")
            # NeMo's table has no blank: it comes after the last symbol
            blank = size - 1 if blank is None else blank
            source = str(self.said.tokens or self.file)
            return make_vocabulary(self.tokens, size, blank, source=source, delimiter=self.said.word_delimiter)
        except ForeignVocabularyError as error:
            raise TeacherError(str(error)) from error


def read_facts(file: Path, session: Any) -> Facts:  # noqa: ANN401 - onnxruntime has no types
    """Read what a file tells, and put it beside what was said.

    Raises:
        TeacherError: naming all that must be said; or the model is no CTC model of whole recordings.
    """
    said, properties = read_settings(file), dict(session.get_modelmeta().custom_metadata_map)
    source, counts = _inputs(file, session.get_inputs())
    shape = [size if isinstance(size, int) else None for size in source.shape]
    features = said.features or guess_features(shape, properties, {value.name for value in session.get_inputs()})
    waveform = features == "waveform"
    beside = _extractor(file) if waveform else {}
    layout = said.layout or guess_layout(shape, features)
    fixed = {"NTF": 2, "NFT": 1}.get(layout or "", 2)
    bins = said.num_mel_bins or (shape[fixed] if len(shape) == 3 and not waveform else None)
    rate = said.sample_rate or positive_integer(properties, "sample_rate") or beside.get("sample_rate")
    normalize = said.normalize or guess_normalize(features, properties) or beside.get("normalize")
    output = said.output or _output(session.get_outputs())
    tokens, table = _tokens(file, said, properties)
    needed = {"tokens": table, "features": features, "sample_rate": rate, "normalize": normalize, "output": output}
    if not waveform:
        needed |= {"layout": layout, "num_mel_bins": bins}
    missing = [name for name, value in needed.items() if value is None]
    if tokens and said.blank is None and features != "nemo" and not set(BLANKS) & set(tokens.values()):
        missing.append("blank")
    if missing:
        raise missing_fields(file, missing)
    update = {"features": features, "sample_rate": rate, "normalize": normalize, "layout": layout, "num_mel_bins": bins}
    factor = said.subsampling_factor or positive_integer(properties, "subsampling_factor")
    complete = said.model_copy(update={**update, "output": output, "tokens": table, "subsampling_factor": factor})
    _check(file, str(source.name), shape, complete)
    counted = None if counts is None else (str(counts.name), _INTEGERS[counts.type])
    return Facts(
        file=file,
        said=complete,
        input=str(source.name),
        output=str(output),
        channel=waveform and len(shape) == 3,
        lengths=counted if counts is not None and len(counts.shape) < 2 else None,
        mask=counted if counts is not None and len(counts.shape) == 2 else None,
        tokens=tokens,
        recipe=None if waveform else _recipe(file, complete),
    )


def _inputs(file: Path, inputs: Sequence[Any]) -> tuple[Any, Any]:
    """Tell features (or samples) from lengths or a mask; anything more is a state."""
    floats = [value for value in inputs if value.type == "tensor(float)"]
    counts = [value for value in inputs if value.type in _INTEGERS]
    if len(floats) != 1 or len(counts) > 1 or len(floats) + len(counts) < len(inputs):
        listed = ", ".join(f"{value.name} {value.type}" for value in inputs[:6]) + (", ..." if len(inputs) > 6 else "")
        raise TeacherError(
            f"{file} takes {listed}; supported are models of whole recordings: float32 features or samples, and their "
            "lengths or a mask. Export the offline (non-streaming) model in float32, or write a Python file that feeds "
            "this one (docs/teachers.md)"
        )
    return floats[0], counts[0] if counts else None


def _output(outputs: Sequence[Any]) -> str | None:
    scores = [str(v.name) for v in outputs if v.type == "tensor(float)" and len(v.shape) in {0, 3}]
    if len(scores) == 1:
        return scores[0]
    return next((name for name in OUTPUTS if name in scores), None)


def _tokens(file: Path, said: OnnxSettings, properties: Mapping[str, str]) -> tuple[dict[int, str] | None, Path | None]:
    """Token table, and where it stands; no table: ``vocab.json``, or nowhere."""
    beside, own = file.with_name(TOKENS), properties.get("tokens")
    try:
        if said.tokens is None and own:
            listed = json.loads(own) if own.startswith("[") else None
            return (dict(enumerate(map(str, listed))) if listed else parse_tokens(own, str(file))), file
        if said.tokens is not None or beside.is_file():
            table = said.tokens or beside
            return parse_tokens(table.read_text(encoding="utf-8"), str(table)), table
    except ForeignVocabularyError as error:
        raise TeacherError(str(error)) from error
    except (OSError, ValueError) as error:
        raise TeacherError(f"{said.tokens or file}: the token table cannot be read ({error})") from error
    return None, file.with_name(TABLE) if file.with_name(TABLE).is_file() else None


def _extractor(file: Path) -> dict[str, Any]:
    """What a Hugging Face feature extractor beside a file that hears samples does."""
    try:
        row = json.loads(file.with_name(EXTRACTOR).read_text(encoding="utf-8"))
        normalize = "zero_mean_unit_var" if row.get("do_normalize", True) else "none"
        return {"sample_rate": int(row.get("sampling_rate", 16000)), "normalize": normalize}
    except (OSError, ValueError, AttributeError):
        return {}


def _check(file: Path, name: str, shape: Sequence[int | None], said: OnnxSettings) -> None:
    """Refuse axes that are fixed, and values that contradict each other."""
    waveform = said.features == "waveform"
    if len(shape) not in ({2, 3} if waveform else {3}):
        takes = "samples (N, n)" if waveform else "features (N, T, F)"
        raise TeacherError(f"{file}: {name} has {len(shape)} axes; supported are {takes}")
    inner = [size for size in shape[1:] if size is not None]
    if shape[0] not in {None, 1} or (inner and inner != ([1] if waveform else [said.num_mel_bins])):
        raise TeacherError(
            f"{file}: {name} has the fixed shape {list(shape)}; time must be dynamic, and num_mel_bins what the "
            "model takes: export it with dynamic axes, or make a bundle of it: `kdcompress export --onnx FILE`"
        )
    choices = _NORMALIZE.get(said.features or "", ("none",))
    if said.normalize not in choices:
        raise TeacherError(
            f"{file}: normalize is {said.normalize!r}; with features {said.features} it is one of {', '.join(choices)}"
        )


def _recipe(file: Path, said: OnnxSettings) -> Recipe:
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
    except ValidationError as error:
        wrong = "; ".join(f"{item['loc']}: {item['msg']}" for item in error.errors())
        raise TeacherError(f"{file}: no filterbank can be made of {values}: {wrong}") from error
    snip = wenet if said.snip_edges is None else said.snip_edges
    return Recipe(str(said.features), mel, said.normalize or "none", snip and not nemo)
