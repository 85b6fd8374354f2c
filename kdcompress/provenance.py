"""Where a run comes from: versions, data fingerprints, hashes."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from kdcompress.recipe import Recipe


def versions() -> dict[str, str]:
    """Versions of what shapes a result."""
    packages = ("kdcompress", "torch", "accelerate", "numpy", "onnxruntime")
    found = {"python": platform.python_version()}
    for name in packages:
        with suppress(PackageNotFoundError):  # another build of onnxruntime has another name
            found[name] = version(name)
    return found


def data_provenance(recipe: Recipe) -> dict[str, Any]:
    """Fingerprints of the manifests of a recipe: SHA-256 over ids and texts."""
    manifests = {"train": recipe.data.train, "dev": recipe.data.dev}
    return {
        name: {"manifest": str(path), "fingerprint": manifest_fingerprint(path)}
        for name, path in manifests.items()
        if path is not None
    }
