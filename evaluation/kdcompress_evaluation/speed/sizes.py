"""Bytes on disk: what is shipped, compressed; and what has to be installed to run it."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_evaluation.speed.record import Sizes
from kdcompress_evaluation.systems import seq2seq
from kdcompress_evaluation.systems.bundle import source_files
from kdcompress_runtime.archive import read_file
from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, Bundle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcompress_evaluation.variants import VariantInfo

_LEVEL = 6
"""Of deflate, as zip tools do it unless told otherwise."""
_OURS = ("numpy", "numpy.libs", "onnxruntime/capi", "kdcompress_runtime")
_RUNTIMES = {
    "bundle": _OURS,
    "huggingface": _OURS[:-1],
    "seq2seq": ("numpy", "numpy.libs", "onnxruntime/capi", "tokenizers"),
    "sherpa-onnx": ("numpy", "numpy.libs", "sherpa_onnx", "sherpa_onnx.libs"),
}
"""Installed folders by kind of variant; of onnxruntime only the library and its bindings, not its tools."""
_LEFT_OUT = {"__pycache__", "tests"}


def measure_sizes(info: VariantInfo) -> Sizes | None:
    """Measure one variant; ``None`` for texts of another system, of which nothing is known.

    Raises:
        BundleError, OSError: a file cannot be read.
    """
    if info.kind not in _RUNTIMES:
        return None
    path, lm = Path(info.bundle_path), 0
    names: Iterable[str] = seq2seq.shipped(info.files) if info.kind == "seq2seq" else info.files
    if info.kind == "bundle":
        metadata = Bundle.open(path).metadata
        settings = metadata.decoder_settings
        needed = [name for name in (settings.lm, settings.lexicon) if name] if settings else []
        lm = sum(len(read_file(path, name)) for name in needed)
        names = [info.model_file, TOKENS_FILE, METADATA_FILE, *source_files(metadata), *needed]
    compressed = sum(len(zlib.compress(read_file(path, name), _LEVEL)) for name in names)
    return Sizes(compressed, lm, installed_bytes(_RUNTIMES[info.kind]))


def installed_bytes(folders: Iterable[str]) -> int | None:
    """Bytes of installed folders, tests and compiled Python left out; ``None`` when a package is not installed.

    Args:
        folders: a package, a folder in it (``onnxruntime/capi``), or what lies beside it (``numpy.libs``).
    """
    total = 0
    for name in folders:
        package, _, inside = name.partition("/")
        root = _root(package.partition(".")[0])
        if root is None:
            return None
        folder = root.with_name(package) / inside
        total += sum(
            file.stat().st_size
            for file in folder.rglob("*")
            if file.is_file() and _LEFT_OUT.isdisjoint(file.relative_to(folder).parts)
        )
    return total


def _root(package: str) -> Path | None:
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found is not None else None
    return Path(next(iter(places))) if places else None
