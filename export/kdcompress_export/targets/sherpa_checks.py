"""The checks of a sherpa-onnx folder. Runtime only: no torch, no onnx, no bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import TargetError
from kdcompress_export.prove import FLOAT, MIN_AGREEMENT, split_atol
from kdcompress_export.targets.retarget import TARGET_KEY
from kdcompress_export.targets.sherpa_document import DOCUMENT, FORMAT_VERSION, NAME, file_names
from kdcompress_export.targets.sherpa_proof import agreement, probe_features, run_differences, run_graphs
from kdcompress_export.targets.sherpa_sessions import OfflineGraph, StreamingGraph
from kdcompress_export.verify import Check
from kdcompress_runtime.archive import is_plain_name, read_file
from kdcompress_runtime.bundle import TOKENS_FILE, sha256
from kdcompress_runtime.errors import BundleError, BundleVersionError
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kdcompress_export.targets.sherpa_proof import LogProbs

    Graphs = tuple[OfflineGraph, StreamingGraph]

_SLACK = 0.02
"""Another CPU rounds otherwise."""


def check_folder(folder: Path) -> list[Check]:
    """Run all checks; where hashes or graphs fail, what depends on them is not run.

    Raises:
        BundleError: there is no folder, or its ``sherpa-onnx.json`` cannot be read.
    """
    document = read_document(folder)
    contents: dict[str, bytes] = {}
    hashes = _check_hashes(folder, document["files"], contents)
    if not hashes.passed:
        return [hashes]
    checks, graphs = [hashes], dict[str, "Graphs"]()
    size = len(Vocabulary.loads(contents[TOKENS_FILE].decode(), f"{folder}/{TOKENS_FILE}"))
    for precision in document["models"]:
        check, loaded = _check_graphs(contents, precision, document, size)
        checks.append(check)
        if loaded is not None:
            graphs[precision] = loaded
    if not all(check.passed for check in checks):
        return checks
    features = probe_features(document["sample_rate"], document["feature_dim"])
    answers: dict[str, LogProbs] = {}
    for precision, (offline, streaming) in graphs.items():
        runs = run_graphs(offline, streaming, features)
        answers[precision] = runs.offline
        checks.append(_check_runs(precision, *run_differences(runs)))
    smaller = answers.keys() - {FLOAT} if FLOAT in answers else set()
    return checks + [_check_agreement(precision, answers, document["proof"]) for precision in sorted(smaller)]


def read_document(folder: Path) -> dict[str, Any]:
    """Read ``sherpa-onnx.json`` and check its outline.

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
    files, models = document.get("files"), document.get("models")
    numbers = [document.get("sample_rate"), document.get("feature_dim")]
    if (
        not isinstance(files, dict)
        or not isinstance(models, dict)
        or not isinstance(document.get("proof"), dict)
        or not all(isinstance(number, int) and number > 0 for number in numbers)
        or any(models[name] != file_names(name) for name in models)
        or not {TOKENS_FILE, *(file for pair in models.values() for file in pair.values())} <= files.keys()
    ):
        raise BundleError(f"{path}: a field is missing or malformed; export again")
    if not all(isinstance(name, str) and is_plain_name(name) for name in files):
        raise BundleError(f"{path}: a file name leaves the folder; do not use it")
    return document


def _check_hashes(folder: Path, files: Mapping[str, str], contents: dict[str, bytes]) -> Check:
    """Read all files into ``contents`` and compare them with their hashes."""
    wrong = []
    for name, expected in files.items():
        try:
            contents[name] = read_file(folder, name)
        except BundleError as error:
            wrong.append(str(error))
            continue
        if sha256(contents[name]) != expected:
            wrong.append(f"{name} was changed or damaged since it was exported")
    if wrong:
        return Check("hashes", passed=False, detail="; ".join(wrong), values={})
    size = sum(len(content) for content in contents.values())
    return Check("hashes", passed=True, detail=f"{len(files)} files, {size} bytes", values={"bytes": size})


def _check_graphs(
    contents: Mapping[str, bytes], precision: str, document: Mapping[str, Any], num_tokens: int
) -> tuple[Check, Graphs | None]:
    """Load both graphs and compare them with what sherpa-onnx makes of their metadata."""
    name, names = f"metadata {precision}", file_names(precision)
    try:
        offline = OfflineGraph(contents[names["offline"]])
        streaming = StreamingGraph(contents[names["streaming"]])
    except TargetError as error:
        return Check(name, passed=False, detail=str(error), values={}), None
    sizes = {(graph.num_tokens, graph.feature_dim) for graph in (offline, streaming)}
    if sizes != {(num_tokens, document["feature_dim"])}:
        detail = f"tokens and bins are {sorted(sizes)}, not {num_tokens} and {document['feature_dim']}"
        return Check(name, passed=False, detail=detail, values={}), None
    detail = "complete; names, dtypes and dimensions as sherpa-onnx makes and reads them"
    return Check(name, passed=True, detail=detail, values={}), (offline, streaming)


def _check_runs(precision: str, streaming: float, batch: float) -> Check:
    atol = split_atol(precision)
    return Check(
        f"streaming equals offline {precision}",
        passed=max(streaming, batch) <= atol,
        detail=f"largest difference {streaming:.2g} nats, of batches {batch:.2g}, allowed {atol:g}",
        values={"streaming": streaming, "batch": batch, "atol": atol},
    )


def _check_agreement(precision: str, answers: Mapping[str, LogProbs], proof: Mapping[str, Any]) -> Check:
    found = agreement(answers[FLOAT], answers[precision])
    recorded = proof.get(precision, {}).get("against_float32", {})
    least = recorded.get("argmax_agreement", MIN_AGREEMENT) - _SLACK
    most = 1.5 * recorded.get("mean_abs_diff", 1.0) + _SLACK
    return Check(
        f"{precision} agrees with float32 on noise",
        passed=found.argmax_agreement >= least and found.mean_abs_diff <= most,
        detail=(
            f"same label in {100 * found.argmax_agreement:.2f} % of {found.frames} frames (at least "
            f"{100 * least:.2f}); mean difference {found.mean_abs_diff:.3g} nats (at most {most:.3g})"
        ),
        values={"argmax_agreement": found.argmax_agreement, "mean_abs_diff": found.mean_abs_diff},
    )
