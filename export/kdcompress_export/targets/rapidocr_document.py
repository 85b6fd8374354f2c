"""What the folder for RapidOCR holds, which bundles can be made into one, and how its recogniser is fed. No onnx."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_export.errors import TargetError
from kdcompress_export.targets.retarget import TARGET_KEY
from kdcompress_runtime.archive import is_plain_name, read_file
from kdcompress_runtime.errors import BundleError, BundleVersionError
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import Bundle, InputSpec
    from kdcompress_runtime.vocabulary import Vocabulary

NAME = "rapidocr"
DOCUMENT = "rapidocr.json"
MODEL_FILE, KEYS_FILE, CONFIG_FILE = "model.onnx", "keys.txt", "rapidocr.yaml"
FILES = (MODEL_FILE, KEYS_FILE, CONFIG_FILE)
CHARACTERS_KEY = "character"
"""Of the model's metadata: where RapidOCR looks for the characters, one a line."""
FORMAT_VERSION = 1
_WIDTH = 10
"""Of the narrowest batch, in heights; what is padded costs no computing."""
_BATCH = 6
"""Lines that RapidOCR hands over together; its own number."""


def class_order(vocabulary: Vocabulary) -> list[int]:
    """Ids in RapidOCR's order: the blank first, the lone word separator, which is its blank between words, last."""
    last = [index for index, symbol in enumerate(vocabulary.symbols) if symbol == WORD_SEPARATOR]
    others = [index for index in range(len(vocabulary)) if index not in {vocabulary.blank_id, *last}]
    return [vocabulary.blank_id, *others, *last]


def keys(vocabulary: Vocabulary) -> list[str]:
    """Characters as RapidOCR's list has them: without the blank, and without the space that it adds at the end."""
    symbols = (vocabulary.symbols[index] for index in class_order(vocabulary)[1:])
    return [symbol.replace(WORD_SEPARATOR, " ") for symbol in symbols if symbol != WORD_SEPARATOR]


def check_bundle(bundle: Bundle) -> None:
    """Refuse what RapidOCR would feed or spell wrongly.

    Raises:
        TargetError: naming everything that stands against it.
    """
    problems = [*_wrong(bundle)]
    if problems:
        raise TargetError(f"{bundle.path} cannot be made into a recogniser of RapidOCR: {'; '.join(problems)}")


def _wrong(bundle: Bundle) -> Iterator[str]:
    metadata = bundle.metadata
    target = metadata.provenance.get(TARGET_KEY, "onnxruntime")
    if target != "onnxruntime":
        yield f"it is a bundle for {target}; give the one it was made from"
    if metadata.input.kind != "image":
        yield f"its input is {metadata.input.kind}, and RapidOCR reads images of text lines"
    for symbol in bundle.vocabulary.symbols:
        if symbol.splitlines() != [symbol]:
            yield f"the token {symbol!r} ends a line, and RapidOCR's characters stand one on a line"


def config(spec: InputSpec) -> str:
    """Content of ``rapidocr.yaml``: what ``RapidOCR(params=...)`` takes, paths relative to the folder."""
    height = spec.height or 0
    return (
        "# What RapidOCR(params=...) takes; Rec.model_path is a file of this folder.\n"
        f"Rec.model_path: {MODEL_FILE}\n"
        f"Rec.rec_img_shape: [3, {height}, {_WIDTH * height}]\n"
        f"Rec.rec_batch_num: {_BATCH}\n"
    )


def as_fed(lines: Sequence[NDArray[np.uint8]], spec: InputSpec, width: int | None = None) -> NDArray[np.float32]:
    """Return columns ``(columns, height * channels)`` each as RapidOCR hands lines over, zeros behind shorter ones.

    Args:
        lines: at the model's height.
        spec: of the bundle's input.
        width: of the batch; that of the longest line when left out.

    Returns:
        ``(N, 3, height, width)`` float32: blue, green, red.
    """
    width = width or max(map(len, lines))
    height, channels = spec.height or 1, spec.channels or 1
    fed: NDArray[np.float32] = np.zeros((len(lines), 3, height, width), dtype=np.float32)
    for row, line in zip(fed, lines, strict=True):
        pixels = line.reshape(len(line), height, channels).transpose(2, 1, 0)[::-1].astype(np.float32)
        row[:, :, : len(line)] = (pixels / 255 - 0.5) / 0.5
    return fed


def read_document(folder: Path) -> dict[str, Any]:
    """Read ``rapidocr.json`` and check its outline.

    Raises:
        BundleNotFoundError: it is not there.
        BundleVersionError: it was written in another format.
        BundleError: it cannot be read, or names files outside the folder.
    """
    path = folder / DOCUMENT
    try:
        document = json.loads(read_file(folder, DOCUMENT))
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON; export again") from error
    if not isinstance(document, dict) or document.get(TARGET_KEY) != NAME:
        raise BundleError(f"{path}: not written by the {NAME} target; export again")
    if document.get("format_version") != FORMAT_VERSION:
        found = document.get("format_version")
        raise BundleVersionError(f"{path}: format {found!r}, this version reads {FORMAT_VERSION}; export again")
    files, spec, proof = (document.get(name) for name in ("files", "input", "proof"))
    if not (isinstance(files, dict) and isinstance(spec, dict) and isinstance(proof, dict) and {*FILES} <= {*files}):
        raise BundleError(f"{path}: a field is missing or malformed; export again")
    if not all(isinstance(name, str) and is_plain_name(name) for name in files):
        raise BundleError(f"{path}: a file name leaves the folder; do not use it")
    return document
