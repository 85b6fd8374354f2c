"""The files of a Hugging Face model folder that need no library to be read: configuration and token table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import ForeignModelError, UnsupportedModelError
from kdcompress_export.importers.symbols import reading_tokens
from kdcompress_runtime.hf_vocabulary import read_hf_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_runtime.vocabulary import Vocabulary

CONFIG = "config.json"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
_EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")
_RAW_AUDIO = "Wav2Vec2FeatureExtractor"


@dataclass(frozen=True)
class RawAudio:
    """What the feature extractor does to samples."""

    sample_rate: int
    """Hz."""
    normalize: bool
    """Zero mean and unit variance, each recording by itself."""
    settings: dict[str, Any]
    """As they stand in the file."""


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ForeignModelError: the file is missing or holds something else.
    """
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ForeignModelError(f"{file.parent}: no {file.name}; give a folder that `save_pretrained` wrote") from error
    except (OSError, ValueError) as error:
        raise ForeignModelError(f"{file} cannot be read as JSON ({error}); save the model again") from error
    if not isinstance(row, dict):
        raise ForeignModelError(f"{file}: expected a JSON object; save the model again")
    return row


def read_architecture(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of the model class, and ``config.json``.

    Raises:
        ForeignModelError: there is no readable ``config.json``.
        UnsupportedModelError: the model is no CTC model, or needs code of its own.
    """
    config = read_json(folder / CONFIG)
    named = config.get("architectures") or []
    found = [name for name in named if isinstance(name, str) and name.endswith("ForCTC")]
    if not found:
        raise UnsupportedModelError(f"{folder} holds {named or 'no named architecture'}, not a *ForCTC model")
    if "auto_map" in config:
        raise UnsupportedModelError(f"{folder} brings its own code (auto_map in {CONFIG}), which is never run here")
    return found[0], config


def check_weights(folder: Path) -> list[Path]:
    """Return the weight files after opening each; only safetensors are read, which cannot run code.

    Raises:
        UnsupportedModelError: the weights are pickled, or saved by another framework.
        ForeignModelError: no weights, or a file is missing, damaged, or named outside the folder.
    """
    from safetensors import SafetensorError, safe_open

    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / SHARDS).is_file():
        names = sorted({str(name) for name in read_json(folder / SHARDS).get("weight_map", {}).values()})
    elif not (folder / WEIGHTS).is_file():
        pickled = [name for name in PICKLED if (folder / name).is_file()]
        if pickled:
            raise UnsupportedModelError(
                f"{folder} holds {pickled[0]} and no {WEIGHTS}; a pickle can run code when it is opened, so it is not. "
                "Where you trust it: `AutoModelForCTC.from_pretrained(folder).save_pretrained(folder)`, then try again"
            )
        raise ForeignModelError(f"{folder}: no {WEIGHTS}; give a folder that `save_pretrained` wrote")
    for name in names:
        if len(PurePosixPath(name).parts) != 1 or "\\" in name:
            raise ForeignModelError(f"{folder / SHARDS} names {name!r}, outside the folder")
        try:
            with safe_open(str(folder / name), framework="numpy") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            raise ForeignModelError(f"{folder / name} is damaged or missing ({error}); copy it again") from error
    return [folder / name for name in names]


def read_extractor(folder: Path) -> RawAudio:
    """Read what is done to samples before the model sees them.

    Raises:
        ForeignModelError: no readable configuration, or a value that makes no sense.
        UnsupportedModelError: the model is not fed raw audio.
    """
    file = next((folder / name for name in _EXTRACTOR_FILES if (folder / name).is_file()), folder / _EXTRACTOR_FILES[0])
    row = read_json(file)
    row = row.get("feature_extractor", row)
    kind = row.get("feature_extractor_type", _RAW_AUDIO)
    if kind != _RAW_AUDIO or row.get("feature_size", 1) != 1:
        raise UnsupportedModelError(
            f"{file} names {kind}: this model is fed features, not raw audio. kdcompress has no graph of that "
            f"extractor; models with {_RAW_AUDIO} can be exported (Wav2Vec2, HuBERT, WavLM, Data2VecAudio, SEW...)"
        )
    rate = row.get("sampling_rate", 16000)
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise ForeignModelError(f"{file}: sampling_rate must be a number of Hz, found {rate!r}")
    return RawAudio(rate, bool(row.get("do_normalize", True)), row)


def read_vocabulary(folder: Path, size: int, pad_token_id: object) -> Vocabulary:
    """Read the token table of a model with ``size`` outputs; the padding token is the CTC blank.

    Raises:
        ForeignModelError: no readable table, or it does not fit the model.
        UnsupportedModelError: a table of several languages.
    """
    with reading_tokens():
        return read_hf_vocabulary(folder, pad_token_id).vocabulary(size)
