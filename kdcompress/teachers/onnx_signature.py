"""What the names, shapes and properties of a CTC ONNX file give away about what it is fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

OUTPUTS = ("log_probs", "logprobs", "ctc_log_probs", "logits")
"""Usual names of the output with the scores."""
_KNOWN_AUTHORS = {"k2-fsa": "kaldi", "wenet": "kaldi_int16", "nemo": "nemo"}
_NEMO_NAMES = {"audio_signal", "length"}
_NONE = ("", "NA", "none", "None")


def guess_features(shape: Sequence[int | None], properties: Mapping[str, str], names: Collection[str]) -> str | None:
    """What it is fed: ``waveform``, ``kaldi``, ``kaldi_int16`` or ``nemo``; None where nothing tells.

    Args:
        shape: of the input, None for what is dynamic.
        properties: ``metadata_props``.
        names: of all inputs.
    """
    kind, author = properties.get("model_type", ""), properties.get("model_author", "").lower()
    if len(shape) == 2 or (len(shape) == 3 and shape[1] == 1):
        return "waveform"
    if kind.startswith("EncDec") or set(names) == _NEMO_NAMES:
        return "nemo"
    if kind.startswith("wenet"):
        return "kaldi_int16"
    if kind.startswith("zipformer"):
        return "kaldi"
    return _KNOWN_AUTHORS.get(author)


def guess_layout(shape: Sequence[int | None], features: str | None) -> str | None:
    """Order of the features' axes: ``NTF`` or ``NFT``; None where nothing tells."""
    if len(shape) == 3 and shape[2] is not None and shape[1] is None:
        return "NTF"
    if len(shape) == 3 and shape[1] is not None and shape[2] is None:
        return "NFT"
    known = {"nemo": "NFT", "kaldi": "NTF", "kaldi_int16": "NTF"}
    return known.get(features or "")


def guess_normalize(features: str | None, properties: Mapping[str, str]) -> str | None:
    """What is done to the features of a recording; None where nothing tells."""
    if features in {"kaldi", "kaldi_int16"}:
        return "none"
    found = properties.get("normalize_type")
    return "none" if found in _NONE else found


def positive_integer(properties: Mapping[str, str], name: str) -> int | None:
    """A property that is a number above 0; None where it is missing or something else."""
    text = properties.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None
