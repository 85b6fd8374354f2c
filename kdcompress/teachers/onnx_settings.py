"""What a person may say of a CTC ONNX file: ``teacher.yaml`` beside it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import Field, ValidationError

from kdcompress.data.text import Units  # noqa: TC001 (as above)
from kdcompress.errors import TeacherError
from kdcompress.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = ("teacher.yaml", "teacher.yml", "teacher.json")
"""Names of the file beside a model that says what the model does not."""


class OnnxSettings(Settings):
    """What may be said of a file; the same fields as ``kdcompress export --onnx FILE --field NAME=VALUE`` has."""

    name: str | None = None
    """Short name, for reports; the file's when left out."""
    tokens: Path | None = None
    """Token table, lines 'symbol id', beside the file."""
    units: Units | None = None
    """What one token is; by the spelling when left out."""
    features: Literal["kaldi", "kaldi_int16", "nemo", "waveform"] | None = None
    """kaldi (log-mel of samples in [-1, 1]: icefall, sherpa-onnx), kaldi_int16 (of samples x 32768: WeNet), nemo
    (librosa log-mel), or waveform (samples)."""
    sample_rate: int | None = Field(default=None, ge=1000, le=192000)
    """Hz that the model hears."""
    num_mel_bins: int | None = None
    """Size of a feature frame."""
    normalize: Literal["none", "per_feature", "all_features", "zero_mean_unit_var"] | None = None
    """What is done to a recording: none, per_feature or all_features (nemo); none or zero_mean_unit_var (waveform)."""
    subsampling_factor: int | None = Field(default=None, ge=1)
    """Feature frames, or samples, for one output frame."""
    blank: str | int | None = None
    """Id or symbol of the CTC blank."""
    scores: Literal["logits", "log_probs", "probabilities"] | None = None
    """What the model answers."""
    output: str | None = None
    """Name of the output with the scores."""
    layout: Literal["NTF", "NFT"] | None = None
    """Axes of the features: NTF (icefall, WeNet) or NFT (NeMo)."""
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
    """Symbol between words, where it is not a space or ``▁``."""


def read_settings(file: Path) -> OnnxSettings:
    """Read what is said beside a model.

    Raises:
        TeacherError: not YAML, an unknown name, or a value that does not fit; naming all of them.
    """
    found = next((file.with_name(name) for name in SETTINGS if file.with_name(name).is_file()), None)
    if found is None:
        return OnnxSettings()
    try:
        said = OnnxSettings.model_validate(yaml.safe_load(found.read_text(encoding="utf-8")) or {})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()]
        known = ", ".join(OnnxSettings.model_fields)
        raise TeacherError(f"{found}: {'; '.join(wrong)}; known are {known}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TeacherError(f"{found}: not valid YAML ({' '.join(str(error).split())})") from error
    return said.model_copy(update={"tokens": file.parent / said.tokens}) if said.tokens else said


def missing_fields(file: Path, names: Sequence[str]) -> TeacherError:
    """Ask for everything by name, all at once."""
    fields = OnnxSettings.model_fields
    lines = "".join(f"\n  {name}: ...  # {' '.join(str(fields[name].description).split())}" for name in names)
    wanted = f"the file does not tell what is needed to feed it and to read it. Write {SETTINGS[0]} beside it"
    return TeacherError(f"{file}: {wanted}:{lines}")
