"""Where a run comes from: versions, data fingerprints, hashes."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.recipe import Recipe


def versions() -> dict[str, str]:
    """Versions of what shapes a result."""
    packages = ("kdcompress", "torch", "accelerate", "numpy", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def data_provenance(recipe: Recipe) -> dict[str, Any]:
    """Fingerprints of the manifests of a recipe: SHA-256 over ids and texts."""
    manifests = {"train": recipe.data.train, "dev": recipe.data.dev}
    return {
        name: {"manifest": str(path), "fingerprint": manifest_fingerprint(path)}
        for name, path in manifests.items()
        if path is not None
    }


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
