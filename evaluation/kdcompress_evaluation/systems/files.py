"""Files of models that no ``bundle.json`` describes: hashes, and precisions by their names."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from kdcompress_runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PRECISIONS = {
    "int8": r"int8|uint8|quantized|quant|qint8",
    "float16": r"fp16|float16|half",
    "int4": r"int4|uint4|q4|bnb4",
    "bfloat16": r"bf16|bfloat16",
}
_BLOCK = 1 << 20


def precision_of(name: str) -> str:
    """Tell the precision of a model file by its name, ``float32`` where it says nothing."""
    stem = name.removesuffix(".onnx").lower()
    for precision, words in _PRECISIONS.items():
        if re.search(rf"(^|[._-])({words})($|[._-])", stem):
            return precision
    return "float32"


def choose(path: Path, models: Mapping[str, str], wanted: str, default: str) -> list[str]:
    """Keys of ``models`` to evaluate.

    Raises:
        BundleError: no such precision.
    """
    if wanted == "all":
        return sorted(models)
    name = wanted
    if wanted == "default":
        name = default if default in models else next(iter(models))
    if name not in models:
        raise BundleError(
            f"{path}: holds no {name} model; it holds: {', '.join(sorted(models))}; leave it out, "
            "or ask for default or all"
        )
    return [name]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, a piece in memory at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
