"""Where a model from elsewhere came from, as the bundle records it."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BLOCK = 1 << 20
_PACKAGES = ("kdcompress", "torch", "onnx", "onnxruntime", "numpy")
_FOR_KIND = {"hugging_face": ("transformers", "optimum", "optimum-onnx")}


def origin(kind: str, path: Path, files: Sequence[Path], **details: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a JSON object: kind and name of the origin, SHA-256 of its files, versions of what read it."""
    packages = [*_PACKAGES, *_FOR_KIND.get(kind, ())]
    return {
        "origin": {
            "kind": kind,
            "name": path.resolve().name,
            "sha256": {file.name: _sha256(file) for file in files},
            **details,
        },
        "versions": {name: version(name) for name in packages},
    }


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
