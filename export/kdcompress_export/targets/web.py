"""``web``: a bundle that onnxruntime-web runs, with the recogniser in JavaScript beside the model.

What the WebAssembly build of onnxruntime-web can run is known from ``web/operators.json``, which was found out by
loading a model for each operator (``tools/web_operators.py``); the build publishes no list.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from kdcompress_export.errors import TargetError
from kdcompress_export.inputs import inputs_for
from kdcompress_export.targets.retarget import bundle_files, chosen_models
from kdcompress_export.verify import Check
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from onnx import GraphProto, ModelProto

NAME = "web"
SCRIPT_FILE = "kdcompress.mjs"
MAX_BYTES = 256 * 2**20
"""Largest model. A page holds it about three times while it loads, and phones end pages at about a gigabyte."""
MIN_OPSET = 7


@dataclass(frozen=True)
class WebRuntime:
    """What was found out about onnxruntime-web."""

    version: str
    """Of the npm package."""
    max_opset: int
    """Newest opset of ``ai.onnx`` that it loads."""
    operators: frozenset[tuple[str, str]]
    """Domain and name of what its WebAssembly build runs."""


def web_runtime() -> WebRuntime:
    """Return what was found out about the version that the target is tested with."""
    row = json.loads(_packaged("operators.json"))
    operators = frozenset((domain, name) for domain, names in row["operators"].items() for name in names)
    return WebRuntime(row["onnxruntime-web"], row["max_opset"], operators)


def files(bundle: Bundle, *, precisions: Sequence[str] | None = None, max_bytes: int = MAX_BYTES) -> dict[str, bytes]:
    """Make the files of the web bundle.

    Args:
        bundle: a finished bundle.
        precisions: models to keep; the default one when left out.
        max_bytes: largest model allowed.

    Raises:
        BundleError: a file is missing or damaged, or a precision is not there.
        TargetError: onnxruntime-web could not run a model.
    """
    fed = inputs_for(bundle.metadata.input)
    if not fed.can_stream:
        raise TargetError(f"{bundle.path}: takes {fed.items}, and the recogniser in JavaScript feeds audio alone")
    models = {model.precision: (model.file, bundle.read(model.file)) for model in chosen_models(bundle, precisions)}
    for name, content in models.values():
        problems = wrong_for_web(content, max_bytes)
        if problems:
            raise TargetError(f"{name} does not fit onnxruntime-web: {'; '.join(problems)}")
    measured = {"onnxruntime-web": web_runtime().version}
    script = {SCRIPT_FILE: _packaged(SCRIPT_FILE).encode()}
    return bundle_files(bundle, NAME, models, script, measured, decoder=False)  # the script decodes greedily


def verify(folder: Path) -> list[Check]:
    """Check what is particular to a web bundle; ``verify_bundle`` checks the rest.

    Args:
        folder: the bundle, a folder or ``.zip``.

    Raises:
        BundleError: there is no bundle, or its ``bundle.json`` cannot be read.
    """
    bundle = Bundle.open(folder)
    return [_check_script(bundle), *_check_models(bundle)]


def wrong_for_web(content: bytes, max_bytes: int = MAX_BYTES) -> list[str]:
    """Say what keeps onnxruntime-web from running an ONNX file; an empty list where nothing does."""
    if len(content) > max_bytes:
        return [f"{len(content)} bytes, at most {max_bytes} are allowed; quantize it or raise the limit"]
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # noqa: BLE001 - the parser's errors have no common base
        return [f"not an ONNX file ({error})"]
    return [*_wrong_opset(model), *_outside(model.graph), *_unknown(model)]


def _wrong_opset(model: ModelProto) -> Iterator[str]:
    newest = web_runtime().max_opset
    for entry in model.opset_import:
        if (entry.domain or "ai.onnx") == "ai.onnx" and not MIN_OPSET <= entry.version <= newest:
            yield f"opset {entry.version}, it reads {MIN_OPSET} to {newest}"


def _outside(graph: GraphProto) -> Iterator[str]:
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer):
        yield "weights lie outside the file"


def _unknown(model: ModelProto) -> Iterator[str]:
    known = web_runtime().operators
    local = {(function.domain, function.name) for function in model.functions}
    found = {*_operators(model.graph)} - local
    unknown = sorted(f"{domain}.{name}" for domain, name in found if (domain, name) not in known)
    if unknown:
        yield f"operators that its WebAssembly build is not known to have: {', '.join(unknown)}"


def _operators(graph: GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield (node.domain or "ai.onnx", node.op_type)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _operators(inner)


def _packaged(file: str) -> str:
    return resources.files("kdcompress_export").joinpath("web", file).read_text(encoding="utf-8")


def _check_script(bundle: Bundle) -> Check:
    try:
        content = bundle.read(SCRIPT_FILE)
    except KdcompressError as error:
        return Check(SCRIPT_FILE, passed=False, detail=str(error), values={})
    same = content.decode("utf-8", errors="replace") == _packaged(SCRIPT_FILE)
    detail = "as exported; " + ("that of this version" if same else "of another version of kdcompress")
    return Check(SCRIPT_FILE, passed=True, detail=detail, values={"bytes": len(content)})


def _check_models(bundle: Bundle) -> Iterator[Check]:
    version = web_runtime().version
    for model in bundle.metadata.models:
        name = f"{model.file} fits onnxruntime-web"
        try:
            content = bundle.read(model.file)
        except KdcompressError as error:
            yield Check(name, passed=False, detail=str(error), values={})
            continue
        problems = wrong_for_web(content)
        detail = "; ".join(problems) or f"opset, size and operators are those that {version} runs"
        yield Check(name, passed=not problems, detail=detail, values={"bytes": len(content)})
