"""What systems are fed, by kind: how it is read, handed to a fresh process, and what it says about itself.

Imported by processes that measure start-up time and memory, so nothing but the runtime is imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.tasks import AUDIO, IMAGE, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = Any
"""Samples ``(n,)`` float32, pixels ``(H, W, C)`` uint8, or a sentence."""


def read_input(kind: str, source: str, form: int | None = None) -> Value:
    """Read what a system is fed.

    Args:
        kind: ``audio``, ``image`` or ``text``.
        source: path of a recording or image, or the sentence itself.
        form: sample rate in Hz, or channels of an image; ``None``: as the file has it, three channels.

    Raises:
        InputError: it cannot be read.
        MissingDependencyError: a package that reads it is not installed.
    """
    return _READERS[kind](source, form)


def save_input(value: Value, folder: Path) -> Path:
    """Write a value so that ``restore_input`` reads it without any package that decodes files."""
    if isinstance(value, str):
        path = folder / "input.txt"
        path.write_text(value, encoding="utf-8", newline="")
    else:
        path = folder / "input.npy"
        np.save(path, value)
    return path


def restore_input(path: Path) -> Value:
    """Read what ``save_input`` wrote."""
    if path.suffix == ".txt":
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    return np.load(path)


def facts_of(kind: str, value: Value) -> dict[str, float]:
    """What an input says about itself, to slice by: the pixels of an image, the words of a sentence."""
    return _FACTS[kind](value)


def _read_audio(source: str, form: int | None) -> Value:
    from kdcompress_runtime.audio import read_audio

    return read_audio(Path(source), sample_rate=form)[0]


def _read_image(source: str, form: int | None) -> Value:
    from kdcompress_runtime.images import COLOUR, read_image

    return read_image(source, form or COLOUR)


_READERS: Mapping[str, Callable[[str, int | None], Value]] = {
    AUDIO: _read_audio,
    IMAGE: _read_image,
    TEXT: lambda source, _: source,
}
_FACTS: Mapping[str, Callable[[Value], dict[str, float]]] = {
    AUDIO: lambda _: {},
    IMAGE: lambda value: {"image width": int(value.shape[1]), "image height": int(value.shape[0])},
    TEXT: lambda value: {"source words": len(value.split())},
}
