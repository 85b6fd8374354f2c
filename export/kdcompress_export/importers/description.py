"""What a person can say about an ONNX file from elsewhere, field by field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_export.errors import ForeignModelError, MissingFieldsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CHOICES = {
    "features": ("kaldi", "kaldi_int16", "nemo", "waveform"),
    "normalize": ("none", "per_feature", "all_features", "zero_mean_unit_var"),
    "scores": ("log_probs", "logits", "probabilities"),
    "layout": ("NTF", "NFT"),
}
"""Fields with a closed set of values."""
HELP = {
    "tokens": "path of the token table, lines 'symbol id'",
    "features": "kaldi (log-mel of samples in [-1, 1]: icefall, sherpa-onnx), kaldi_int16 (of samples x 32768: WeNet), "
    "nemo (librosa log-mel), or waveform (samples)",
    "sample_rate": "Hz that the model hears, for example 16000",
    "num_mel_bins": "size of a feature frame, for example 80",
    "normalize": "what is done to the features of a recording: none, per_feature or all_features (nemo); "
    "none or zero_mean_unit_var (waveform)",
    "subsampling_factor": "feature frames for one output frame; it is measured, and must agree",
    "blank": "id or symbol of the CTC blank",
    "scores": "what the model answers: log_probs, logits or probabilities",
    "output": "name of the output with the scores",
    "layout": "axes of the features: NTF (icefall, WeNet) or NFT (NeMo)",
    "snip_edges": "Kaldi only: true leaves out windows that begin or end outside the recording (WeNet)",
    "low_freq": "Kaldi only: lower edge of the lowest filter in Hz",
    "high_freq": "Kaldi only: upper edge of the highest filter in Hz; zero or less counts from half the rate",
    "window_ms": "length of the analysis window",
    "frame_shift_ms": "time between feature frames",
    "word_delimiter": "symbol between words, where it is not a space or ▁",
}
"""Every field, with what to say."""


@dataclass(frozen=True)
class OnnxDescription:
    """All that may be said; what is left out is read from the file, or asked for by name if it cannot be."""

    tokens: Path | None = None
    """Token table; ``tokens.txt`` beside the file when left out."""
    features: str | None = None
    """What the model is fed."""
    sample_rate: int | None = None
    """Hz that the model hears."""
    num_mel_bins: int | None = None
    """Size of a feature frame."""
    normalize: str | None = None
    """What is done to all features, or all samples, of a recording."""
    subsampling_factor: int | None = None
    """Feature frames for one output frame."""
    blank: str | None = None
    """Id or symbol of the CTC blank."""
    scores: str | None = None
    """What the model answers."""
    output: str | None = None
    """Name of the output with the scores."""
    layout: str | None = None
    """Order of the features' axes."""
    snip_edges: bool | None = None
    """Kaldi: leave out windows that reach beyond the recording; on for ``kaldi_int16`` when left out, else off."""
    low_freq: float = 20.0
    """Kaldi: lower edge of the lowest filter in Hz."""
    high_freq: float | None = None
    """Kaldi: upper edge of the highest filter; -400 for ``kaldi``, 0 for ``kaldi_int16`` when left out."""
    window_ms: float = 25.0
    """Length of the analysis window."""
    frame_shift_ms: float = 10.0
    """Time between feature frames."""
    word_delimiter: str | None = None
    """Symbol between words."""

    def __post_init__(self) -> None:
        """Check the closed sets.

        Raises:
            ForeignModelError: a value is none of them.
        """
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ForeignModelError(f"{name} is {value!r}; it is one of {', '.join(choices)}")

    @classmethod
    def from_fields(cls, said: Mapping[str, str]) -> OnnxDescription:
        """Read fields given as text (``--field name=value``).

        Raises:
            ForeignModelError: an unknown field, or a value that does not fit, naming all of them.
        """
        unknown = sorted(set(said) - set(HELP))
        problems = [f"unknown field {name!r}" for name in unknown]
        values: dict[str, object] = {}
        for name, text in said.items():
            if name in unknown:
                continue
            try:
                values[name] = _PARSERS.get(name, str)(text)
            except ValueError as error:
                problems.append(f"{name}={text!r} {error}; it is {HELP[name]}")
        if problems:
            known = f"; known are {', '.join(HELP)}" if unknown else ""
            raise ForeignModelError(f"--field: {'; '.join(problems)}{known}")
        return cls(**values)  # type: ignore[arg-type] # each parser gives what its field takes


def missing_fields(file: Path, names: Iterable[str]) -> MissingFieldsError:
    """Return the error that asks for fields by name, all at once."""
    lines = "".join(f"\n  --field {name}=...  {HELP[name]}" for name in names)
    return MissingFieldsError(f"{file}: the file does not tell what is needed to feed it and to read it. Say:{lines}")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 10**6:
        raise ValueError("must be a whole number above 0")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 10**6:
        raise ValueError("must be a number")
    return value


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _one_of(choices: tuple[str, ...]) -> Callable[[str], object]:
    def parse(text: str) -> object:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


_PARSERS: dict[str, Callable[[str], object]] = {
    "tokens": Path,
    "snip_edges": _truth,
    **{name: _one_of(choices) for name, choices in CHOICES.items()},
    **dict.fromkeys(("sample_rate", "num_mel_bins", "subsampling_factor"), _positive),
    **dict.fromkeys(("low_freq", "high_freq", "window_ms", "frame_shift_ms"), _number),
}
FIELDS = tuple(field.name for field in fields(OnnxDescription))
"""Names of all fields, in order."""
