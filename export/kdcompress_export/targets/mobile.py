"""``mobile``: a bundle whose models are in ONNX Runtime format, for apps with a small build of onnxruntime.

Fusing, constant folding and layout are done here and stored, so that a phone loads faster and needs no ONNX parser;
``required_operators_and_types.config`` says what a reduced build must hold. Needs no onnx and no torch (onnxruntime's
tools import torch where it is installed).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_export.agreement import compare_models
from kdcompress_export.errors import ParityError
from kdcompress_export.inputs import inputs_of
from kdcompress_export.prove import MIN_AGREEMENT, split_atol
from kdcompress_export.streams import run_pieces
from kdcompress_export.targets.ort_format import ORT_IDENTIFIER, convert, required_operators
from kdcompress_export.targets.retarget import bundle_files, chosen_models
from kdcompress_export.verify import Check
from kdcompress_runtime.bundle import Bundle
from kdcompress_runtime.errors import KdcompressError
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NAME = "mobile"
CONFIG_FILE = "required_operators_and_types.config"


def files(bundle: Bundle, *, precisions: Sequence[str] | None = None) -> dict[str, bytes]:
    """Make the files of the mobile bundle.

    Args:
        bundle: a finished bundle.
        precisions: models to keep; the default one when left out.

    Raises:
        BundleError: a file is missing or damaged, or a precision is not there.
        TargetError: onnxruntime cannot convert a model.
        ParityError: a converted model does not compute what the ONNX file computes.
    """
    models: dict[str, tuple[str, bytes]] = {}
    proof: dict[str, Any] = {}
    for model in chosen_models(bundle, precisions):
        content = bundle.read(model.file)
        name = str(PurePosixPath(model.file).with_suffix(".ort"))
        models[model.precision] = (name, convert(content, model.file))
        proof[model.precision] = _compare(bundle, model.precision, content, models[model.precision][1])
    config = required_operators(dict(models.values())).encode()
    measured = {"onnxruntime": onnxruntime.__version__, "against_onnx": proof}
    return bundle_files(bundle, NAME, models, {CONFIG_FILE: config}, measured, decoder=True)


def verify(folder: Path) -> list[Check]:
    """Check what is particular to a mobile bundle; ``verify_bundle`` checks the rest.

    Args:
        folder: the bundle, a folder or ``.zip``.

    Raises:
        BundleError: there is no bundle, or its ``bundle.json`` cannot be read.
    """
    bundle = Bundle.open(folder)
    return [*_check_format(bundle), _check_config(bundle), *_check_labels(bundle)]


def _compare(bundle: Bundle, precision: str, content: bytes, converted: bytes) -> dict[str, Any]:
    """Run both on noise; return the differences and the labels that the ONNX file chose."""
    metadata, atol = bundle.metadata, split_atol(precision)
    given = (metadata, bundle.vocabulary)
    reference = CtcModel(content, *given, source=f"{precision}.onnx", source_table=bundle.source_table)
    candidate = CtcModel(converted, *given, source=f"{precision}.ort", source_table=bundle.source_table)
    found = compare_models(reference, candidate, inputs_of(reference).probe())
    if found.max_abs_diff > atol:
        raise ParityError(
            f"the {precision} model in ONNX Runtime format differs from the ONNX file by {found.max_abs_diff:.2g} "
            f"nats, allowed are {atol:g}; ship the onnxruntime target instead and report this"
        )
    return {
        "max_abs_diff": found.max_abs_diff,
        "argmax_agreement": found.argmax_agreement,
        "onnx_size_bytes": len(content),
        "probe_labels": " ".join(map(str, _probe_labels(reference))),
    }


def _probe_labels(model: CtcModel) -> list[int]:
    probe = inputs_of(model).probe()
    return [int(label) for samples in probe for label in run_pieces(model, samples).argmax(axis=1)]


def _check_format(bundle: Bundle) -> Iterator[Check]:
    for model in bundle.metadata.models:
        name = f"ONNX Runtime format {model.precision}"
        try:
            content = bundle.read(model.file)
        except KdcompressError as error:
            yield Check(name, passed=False, detail=str(error), values={})
            continue
        passed = content[4:8] == ORT_IDENTIFIER
        detail = f"{model.file}, {len(content)} bytes" if passed else f"{model.file} is in another format"
        yield Check(name, passed=passed, detail=detail, values={"bytes": len(content)})


def _check_config(bundle: Bundle) -> Check:
    """The list must be the one that these very files need."""
    name = "required operators"
    try:
        models = {model.file: bundle.read(model.file) for model in bundle.metadata.models}
        expected = _operators(required_operators(models))
        found = _operators(bundle.read(CONFIG_FILE).decode("utf-8", errors="replace"))
    except KdcompressError as error:
        return Check(name, passed=False, detail=str(error), values={})
    missing = sorted(expected - found)
    detail = f"lists too little: {missing[0]}" if missing else f"{CONFIG_FILE} lists what the models need"
    return Check(name, passed=not missing, detail=detail, values={"lines": len(found)})


def _operators(config: str) -> set[str]:
    return {line for line in config.splitlines() if line and not line.startswith("#")}


def _check_labels(bundle: Bundle) -> Iterator[Check]:
    """Whether this machine's onnxruntime chooses the labels that the ONNX file chose at export."""
    recorded = bundle.metadata.measured.get(NAME, {}).get("against_onnx", {})
    for model in bundle.metadata.models:
        name = f"{model.file} answers as the ONNX file did"
        try:
            expected = np.array([int(label) for label in recorded[model.precision]["probe_labels"].split()])
            found = np.array(_probe_labels(CtcModel.from_bundle(bundle, model.precision)))
        except (KeyError, TypeError, ValueError, AttributeError):
            yield Check(name, passed=False, detail="bundle.json does not record what the ONNX file answered", values={})
            continue
        except KdcompressError as error:
            yield Check(name, passed=False, detail=str(error), values={})
            continue
        same = float((found == expected).mean()) if found.shape == expected.shape else 0.0
        yield Check(
            name,
            passed=same >= MIN_AGREEMENT,
            detail=f"same label in {100 * same:.2f} % of {len(expected)} frames of noise",
            values={"argmax_agreement": same},
        )
