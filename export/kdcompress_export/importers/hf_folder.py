"""The files of a Hugging Face model folder that need no library to be read: configuration and token table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import ForeignModelError, UnsupportedModelError
from kdcompress_export.importers.symbols import make_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_runtime.vocabulary import Vocabulary

CONFIG = "config.json"
WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
_EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")
_RAW_AUDIO = "Wav2Vec2FeatureExtractor"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token")


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
    settings = _settings(folder)
    file, table = _table(folder)
    languages = [key for key, value in table.items() if isinstance(value, dict)]
    if languages:
        raise UnsupportedModelError(
            f"{file} holds a table for each of {', '.join(languages[:3])}...; save the tokenizer of one language "
            "(`tokenizer.set_target_lang(...)`) together with that language's weights"
        )
    if not all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in table.values()):
        raise ForeignModelError(f"{file}: expected symbols and their ids; save the tokenizer again")
    twice = sorted(symbol for symbol, index in table.items() if list(table.values()).count(index) > 1)
    if twice:
        raise ForeignModelError(f"{file} gives the symbols {twice[:5]} one id; every symbol needs its own")
    pad = _text(settings.get("pad_token")) or "<pad>"
    if pad not in table:
        raise ForeignModelError(f"{file} has no {pad!r}, the padding token that a CTC model answers for blank")
    if isinstance(pad_token_id, int) and table[pad] != pad_token_id:
        raise ForeignModelError(
            f"{CONFIG} says that token {pad_token_id} is the blank (pad_token_id), {file} gives {pad!r} the id "
            f"{table[pad]}; correct the one that is wrong"
        )
    special = {_text(settings.get(name)) for name in _SPECIAL} | {pad, "<s>", "</s>", "<unk>"}
    added = {str(row.get("content")) for row in dict(settings.get("added_tokens_decoder") or {}).values()}
    return make_vocabulary(
        {index: symbol for symbol, index in table.items()},
        size,
        table[pad],
        source=str(file),
        delimiter=_text(settings.get("word_delimiter_token", "|")),
        extra={name for name in special | added if name},
    )


def _settings(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= read_json(folder / name)
    return found


def _table(folder: Path) -> tuple[Path, dict[str, Any]]:
    if (folder / "vocab.json").is_file():
        file, table = folder / "vocab.json", read_json(folder / "vocab.json")
        added = folder / "added_tokens.json"
        return file, {**table, **(read_json(added) if added.is_file() else {})}
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ForeignModelError(f"{folder}: no vocab.json and no tokenizer.json; save the model's tokenizer there, too")
    row = read_json(file)
    listed: object = row.get("model", {}).get("vocab") if isinstance(row.get("model"), dict) else None
    if isinstance(listed, list):  # sentencepiece: pairs of symbol and score
        listed = {pair[0]: index for index, pair in enumerate(listed)}
    if not isinstance(listed, dict):
        raise ForeignModelError(f"{file} holds no vocabulary; save the model's tokenizer again")
    added_rows = [entry for entry in row.get("added_tokens") or [] if isinstance(entry, dict)]
    return file, {
        **listed,
        **{entry["content"]: entry["id"] for entry in added_rows if {"content", "id"} <= set(entry)},
    }


def _text(token: object) -> str | None:
    """Return a token's spelling; it may be saved as text or as an object with its ``content``."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
