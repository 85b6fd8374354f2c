"""``rapidocr``: a folder whose model the RapidOCR package takes as its text recogniser.

``model.onnx`` takes and answers what RapidOCR's own recogniser does (``rapidocr_graph``) and holds the characters;
``keys.txt`` holds them for its other engines; ``rapidocr.yaml`` are the parameters; ``rapidocr.json`` says what was
proven. RapidOCR decodes greedily, so a tuned decoder stays behind.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_export.errors import ParityError, TargetError
from kdcompress_export.inputs import inputs_for, inputs_of
from kdcompress_export.prove import FLOAT, MIN_AGREEMENT
from kdcompress_export.targets.rapidocr_document import (
    CHARACTERS_KEY,
    CONFIG_FILE,
    DOCUMENT,
    FORMAT_VERSION,
    KEYS_FILE,
    MODEL_FILE,
    NAME,
    as_fed,
    check_bundle,
    class_order,
    config,
    keys,
    read_document,
)
from kdcompress_export.targets.retarget import TARGET_KEY, chosen_models
from kdcompress_export.verify import Check
from kdcompress_runtime.archive import read_file
from kdcompress_runtime.bundle import InputSpec, sha256
from kdcompress_runtime.errors import BundleError
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import Bundle

__all__ = ["DOCUMENT", "NAME", "files", "verify"]

ATOL = {FLOAT: 1e-4}
"""Largest difference of a probability; smaller precisions may be fused otherwise inside a loop (``SMALL_ATOL``)."""
SMALL_ATOL = 0.05
_WIDTHS = (1.0, 0.4, 3.1, 12.0)
"""Of the lines that are compared, in heights; they share a batch, so three of them are padded."""


def files(bundle: Bundle, *, precisions: Sequence[str] | None = None) -> dict[str, bytes]:
    """Make the files of the folder, ``rapidocr.json`` first.

    Args:
        bundle: a finished bundle that takes images.
        precisions: the one model to take; the default one when left out.

    Raises:
        BundleError: a file is missing or damaged, or a precision is not there.
        TargetError: RapidOCR cannot run such a model; the message says why.
        ParityError: the graph does not compute what the bundle computes.
    """
    check_bundle(bundle)
    model = chosen_models(bundle, precisions)[0]
    characters = keys(bundle.vocabulary)
    content = _graph(bundle, model.file, characters)
    proof = _prove(content, CtcModel.from_bundle(bundle, model.precision), model.precision)
    contents = {
        MODEL_FILE: content,
        KEYS_FILE: "".join(f"{character}\n" for character in characters).encode(),
        CONFIG_FILE: config(bundle.metadata.input).encode(),
    }
    document = {
        TARGET_KEY: NAME,
        "format_version": FORMAT_VERSION,
        "name": bundle.metadata.name,
        "precision": model.precision,
        "input": asdict(bundle.metadata.input),
        "proof": proof,
        "made_from": {model.file: bundle.metadata.files[model.file]},
        "provenance": {**bundle.metadata.provenance, TARGET_KEY: NAME},
        "files": {name: sha256(one) for name, one in contents.items()},
    }
    return {DOCUMENT: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(), **contents}


def verify(folder: Path) -> list[Check]:
    """Repeat the proof on this machine: hashes, characters, answers, a line alone against the same beside others.

    Needs neither torch nor onnx nor RapidOCR nor the bundle.

    Args:
        folder: folder or ``.zip``.

    Raises:
        BundleError: there is no such folder, or its ``rapidocr.json`` cannot be read.
    """
    document = read_document(folder)
    contents: dict[str, bytes] = {}
    hashes = _check_hashes(folder, document["files"], contents)
    if not hashes.passed:
        return [hashes]
    try:
        session = _session(contents[MODEL_FILE])
        lines = _lines(InputSpec(**document["input"]))
        fed = [as_fed(lines, InputSpec(**document["input"]))]
        fed += [as_fed([line], InputSpec(**document["input"])) for line in lines]
        together, *alone = (session.run(None, {"x": one})[0] for one in fed)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base
        return [hashes, Check("graph", passed=False, detail=str(error).partition("\n")[0], values={})]
    characters = _check_characters(session, contents[KEYS_FILE].decode())
    return [hashes, characters, _check_padding(together, alone, document), _check_labels(together, document["proof"])]


def _graph(bundle: Bundle, file: str, characters: Sequence[str]) -> bytes:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from kdcompress_export.targets.rapidocr_graph import recogniser_graph

    try:
        model = onnx.load_from_string(bundle.read(file))
    except DecodeError as error:
        raise TargetError(f"{bundle.path}/{file} is no ONNX file; give a bundle for onnxruntime") from error
    made = recogniser_graph(model, bundle.metadata, class_order(bundle.vocabulary))
    onnx.helper.set_model_props(made, {CHARACTERS_KEY: "\n".join(characters)})
    content: bytes = made.SerializeToString()
    return content


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _lines(spec: InputSpec) -> list[NDArray[np.uint8]]:
    """Made-up lines of several widths, the same on every machine."""
    made, height = inputs_for(spec), spec.height or 1
    return [made.synthetic(max(1, round(width * height)), seed) for seed, width in enumerate(_WIDTHS)]


def _prove(content: bytes, model: CtcModel, precision: str) -> dict[str, Any]:
    """Compare a padded batch with what the bundle says of each line; return differences and labels.

    Raises:
        ParityError: they differ.
    """
    spec, order = inputs_of(model).spec, class_order(model.vocabulary)
    lines = _lines(spec)
    together = _session(content).run(None, {"x": as_fed(lines, spec)})[0]
    worst = 0.0
    for row, line in zip(together, lines, strict=True):
        expected = np.exp(model.step(line[None], {})[0][0])[:, order]
        blanks = row[len(expected) :]
        inside = float(np.abs(row[: len(expected)] - expected).max())
        worst = max(worst, inside, float(np.abs(1 - blanks[:, 0]).max(initial=0.0)))
    atol = ATOL.get(precision, SMALL_ATOL)
    if not worst <= atol:
        raise ParityError(
            f"the graph for RapidOCR differs from the bundle's by {worst:.2g} of a probability; report this"
        )
    labels = " ".join(map(str, together.argmax(axis=2).reshape(-1)))
    return {"max_abs_diff": worst, "atol": atol, "lines": len(lines), "probe_labels": labels}


def _check_hashes(folder: Path, recorded: Mapping[str, str], contents: dict[str, bytes]) -> Check:
    """Read all files into ``contents`` and compare them with their hashes."""
    try:
        contents |= {name: read_file(folder, name) for name in recorded}
    except BundleError as error:
        return Check("hashes", passed=False, detail=str(error), values={})
    wrong = [name for name, content in contents.items() if sha256(content) != recorded[name]]
    size = sum(map(len, contents.values()))
    detail = f"{', '.join(wrong)} changed since export" if wrong else f"{len(contents)} files, {size} bytes"
    return Check("hashes", passed=not wrong, detail=detail, values={"bytes": size})


def _check_characters(session: onnxruntime.InferenceSession, listed: str) -> Check:
    """The characters inside the model must be those of the list, as many as it answers with."""
    inside = session.get_modelmeta().custom_metadata_map.get(CHARACTERS_KEY, "").splitlines()
    classes = session.get_outputs()[0].shape[-1]
    same = inside == listed.splitlines() and classes in {len(inside) + 1, len(inside) + 2}
    detail = f"{len(inside)} characters, {classes} classes"
    return Check("characters", passed=same, detail=detail, values={"characters": len(inside)})


def _check_padding(
    together: NDArray[np.float32], alone: Sequence[NDArray[np.float32]], document: Mapping[str, Any]
) -> Check:
    """A line must be read beside longer ones as it is alone."""
    pairs = zip(together, alone, strict=True)
    worst = max(float(np.abs(row[: one.shape[1]] - one[0]).max()) for row, one in pairs)
    atol = ATOL.get(document.get("precision", ""), SMALL_ATOL)
    return Check(
        "padding changes nothing",
        passed=worst <= atol,
        detail=f"largest difference of a probability {worst:.2g}, allowed {atol:g}",
        values={"max_abs_diff": worst, "atol": atol},
    )


def _check_labels(together: NDArray[np.float32], proof: Mapping[str, Any]) -> Check:
    """Whether this machine's onnxruntime chooses the labels that it chose at export."""
    expected = np.array(str(proof.get("probe_labels", "")).split())
    found = together.argmax(axis=2).reshape(-1).astype(str)
    same = float((found == expected).mean()) if found.shape == expected.shape else 0.0
    return Check(
        "answers as at export",
        passed=same >= MIN_AGREEMENT,
        detail=f"same label in {100 * same:.2f} % of {len(found)} frames of made-up lines",
        values={"argmax_agreement": same},
    )
