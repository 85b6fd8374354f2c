"""The files of a Hugging Face folder: what model it is, weights that are safe to open, what it is fed."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdcompress.errors import TeacherError
from kdcompress.frontend import LogMelConfig
from kdcompress.teachers.features import Recipe, compute
from kdcompress.teachers.foreign import one_line
from kdcompress_runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

CONFIG = "config.json"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
EXTRACTORS = ("preprocessor_config.json", "processor_config.json")
_EPSILON = 1e-7
"""What Hugging Face's extractors add to a variance."""
_LIBRARY_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError, ImportError, IndexError)


@dataclass(frozen=True)
class Ear:
    """From a waveform to what the model takes."""

    sample_rate: int
    """Hz."""
    unit: int
    """Samples for one unit of the model's input: 1 where it hears samples."""
    argument: str
    """Name of the input."""
    listen: Callable[[Tensor], tuple[Tensor, int]]
    """Waveform ``(n,)`` -> input ``(units, ...)`` on the same device, and how many of its units are valid."""


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        TeacherError: the file is missing or holds something else.
    """
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TeacherError(f"{file.parent}: no {file.name}; give a folder that `save_pretrained` wrote") from error
    except (OSError, ValueError) as error:
        raise TeacherError(f"{file} cannot be read as JSON ({error}); save the model again") from error
    if not isinstance(row, dict):
        raise TeacherError(f"{file}: expected a JSON object; save the model again")
    return row


def find_weights(folder: Path, loader: str = "AutoModelForCTC") -> list[Path]:
    """Return the weight files; only safetensors are read, which cannot run code. ``loader`` is named in a remedy.

    Raises:
        TeacherError: no weights, or pickled ones only, or a file is missing or named outside the folder.
    """
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / SHARDS).is_file():
        names = sorted({str(name) for name in read_json(folder / SHARDS).get("weight_map", {}).values()})
    elif not (folder / WEIGHTS).is_file():
        pickled = [name for name in PICKLED if (folder / name).is_file()]
        if pickled:
            raise TeacherError(
                f"{folder} holds {pickled[0]} and no {WEIGHTS}; a pickle can run code when it is opened, so it is not. "
                f"Where you trust it: `{loader}.from_pretrained(folder).save_pretrained(folder)`, then try again"
            )
        raise TeacherError(f"{folder}: no {WEIGHTS}; give a folder that `save_pretrained` wrote")
    for name in names:
        if len(PurePosixPath(name).parts) != 1 or "\\" in name:
            raise TeacherError(f"{folder / SHARDS} names {name!r}, outside the folder")
        if not (folder / name).is_file():
            raise TeacherError(f"{folder / name} is missing; copy it again")
    return [folder / name for name in names]


def load_model(folder: Path, endings: tuple[str, ...] = ("ForCTC",), purpose: str = "CTC") -> Any:  # noqa: ANN401
    """Load a model in float32, of a class that is only known by its name; local files, safetensors, no foreign code.

    Args:
        folder: what ``save_pretrained`` wrote.
        endings: of the names of classes that will do.
        purpose: what they are for, for messages.

    Raises:
        MissingDependencyError: transformers is not installed.
        TeacherError: no such model, unknown to the installed transformers, or with weights that do not fit.
    """
    config = read_json(folder / CONFIG)
    named = config.get("architectures") or []
    found = [name for name in named if isinstance(name, str) and name.endswith(endings)]
    if not found:
        raise TeacherError(f"{folder} holds {named or 'no named architecture'}, not a *{endings[0]} model")
    if "auto_map" in config:
        raise TeacherError(f"{folder} brings its own code (auto_map in {CONFIG}), which is never run here")
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            f"{folder}: Hugging Face models need transformers; install it with `pip install 'kdcompress[export]'`"
        ) from error
    with redirect_stdout(io.StringIO()):  # some models print when they are first imported
        kind = getattr(transformers, found[0], None)
    if kind is None:
        raise TeacherError(f"{folder}: transformers {transformers.__version__} knows no {found[0]}")
    try:
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # safetensors' has no base of its own
        raise TeacherError(f"{folder}: transformers cannot load it as {found[0]} ({one_line(error)})") from error
    wrong = sorted([*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])])
    if wrong:
        raise TeacherError(
            f"{folder}: {len(wrong)} weights of {found[0]} are missing or have another shape, for example "
            f"{wrong[0]}; give a model that was trained for {purpose}, saved whole"
        )
    return model.eval().requires_grad_(requires_grad=False)


def read_ear(folder: Path) -> Ear:
    """Read what the model is fed.

    Raises:
        TeacherError: no readable configuration, or an extractor that is not known.
    """
    file = next((folder / name for name in EXTRACTORS if (folder / name).is_file()), folder / EXTRACTORS[0])
    row = read_json(file)
    row = row.get("feature_extractor", row)
    kind = str(row.get("feature_extractor_type", "Wav2Vec2FeatureExtractor"))
    rate = row.get("sampling_rate", 16000)
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise TeacherError(f"{file}: sampling_rate must be a number of Hz, found {rate!r}")
    if kind not in EARS:
        raise TeacherError(
            f"{file} names {kind}; known are {', '.join(EARS)}. Any other model can teach through a Python file "
            "(docs/teachers.md)"
        )
    try:
        return EARS[kind](row, rate)
    except _LIBRARY_ERRORS as error:
        raise TeacherError(f"{file}: no {kind} can be made of it ({one_line(error)})") from error


def _raw(row: dict[str, Any], rate: int) -> Ear:
    """Samples, each recording with zero mean and unit variance by itself where the file says so."""
    if row.get("feature_size", 1) != 1:
        raise ValueError(f"feature_size is {row['feature_size']}, where samples have 1")
    normalise = bool(row.get("do_normalize", True))

    def listen(waveform: Tensor) -> tuple[Tensor, int]:
        if normalise:
            variance = waveform.var(unbiased=False)
            waveform = (waveform - waveform.mean()) / (variance + _EPSILON).sqrt()
        return waveform, len(waveform)

    return Ear(rate, 1, "input_values", listen)


def _seamless(row: dict[str, Any], rate: int) -> Ear:
    """Kaldi's log-mel features, each bin normalised over the recording, some frames stacked: transformers' own."""
    from transformers import SeamlessM4TFeatureExtractor

    extractor: Any = SeamlessM4TFeatureExtractor.from_dict(row)

    def listen(waveform: Tensor) -> tuple[Tensor, int]:
        fed = extractor(waveform.cpu().numpy(), sampling_rate=rate, return_tensors="np", return_attention_mask=True)
        features = torch.from_numpy(np.asarray(fed["input_features"][0], dtype=np.float32))
        return features.to(waveform.device), int(fed["attention_mask"].sum())

    return Ear(rate, 160 * extractor.stride, "input_features", listen)


def _parakeet(row: dict[str, Any], rate: int) -> Ear:
    """NeMo's log-mel features; computed here, because transformers' extractor needs librosa."""
    window, hop = int(row.get("win_length", 400)), int(row.get("hop_length", 160))
    mel = LogMelConfig(
        sample_rate=rate,
        num_mel_bins=int(row.get("feature_size", 80)),
        window_ms=1000 * window / rate,
        frame_shift_ms=1000 * hop / rate,
        low_freq=0.0,
        high_freq=0.0,
    )
    recipe = Recipe("nemo", mel, normalize="per_feature")
    told = {"n_fft": recipe.fft_size, "preemphasis": 0.97}
    if wrong := [f"{name} {row[name]}" for name, value in told.items() if row.get(name, value) != value]:
        raise ValueError(f"{', '.join(wrong)}; known is {told}")

    def listen(waveform: Tensor) -> tuple[Tensor, int]:
        features = torch.from_numpy(compute(recipe, waveform.cpu().numpy()[None])[0])
        return features.to(waveform.device), len(features)

    return Ear(rate, recipe.hop, "input_features", listen)


EARS: dict[str, Callable[[dict[str, Any], int], Ear]] = {
    "Wav2Vec2FeatureExtractor": _raw,
    "SeamlessM4TFeatureExtractor": _seamless,
    "ParakeetFeatureExtractor": _parakeet,
}
"""By the name of the feature extractor."""
