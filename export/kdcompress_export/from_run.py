"""Finished run -> source: the student, or the full-context teacher, converted and compared with torch."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kdcompress.run import load_run
from kdcompress.students.base import Student
from kdcompress.token_frontend import TokensConfig
from kdcompress_export.convert import convert, input_spec
from kdcompress_export.entries import choose_entries
from kdcompress_export.errors import ExportError
from kdcompress_export.inputs import inputs_for
from kdcompress_export.parity import DEFAULT_ATOL, check_parity
from kdcompress_export.planar import with_2d_convolutions
from kdcompress_export.prove import FLOAT
from kdcompress_export.signature import geometry
from kdcompress_export.source import Source
from kdcompress_export.whole import WholeInputs, check_whole_parity, convert_whole, whole_inputs
from kdcompress_runtime.bundle import BundleMetadata
from kdcompress_runtime.input_kinds import INPUT_KINDS
from kdcompress_runtime.manifest import manifest_fingerprint
from kdcompress_runtime.source_text import SourceTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress.run import TrainedRun
    from kdcompress_export.inputs import Units
    from kdcompress_runtime.model import CtcModel

_PARITY_INPUTS = 2


def source_from_run(
    run: Path,
    *,
    calibration: Path | None = None,
    dev: Path | None = None,
    atol: float = DEFAULT_ATOL,
    say: Callable[[str], None] = lambda _: None,
) -> Source:
    """Convert the student of a finished run, or its full-context teacher, and prove the graph equal to torch.

    Args:
        run: folder of the run; relative paths in its recipe start at the current folder.
        calibration: manifest to calibrate on; the recipe's ``data.train`` when left out.
        dev: manifest to measure error rates on; the recipe's ``data.dev`` when left out.
        atol: allowed difference of log-probabilities between the graph and torch.
        say: called with one line at every stage.

    Raises:
        RunError: ``run`` is no finished run.
        ExportError: it holds an Oracle Teacher, or a network whose inputs no bundle takes.
        ParityError: the graph differs from torch, or from itself in pieces, by more than ``atol``.
        GraphError: the graph is not what was asked for.
        ManifestError, AudioError, ImageError, SourceTextError: data cannot be read.
    """
    say(f"Reading {run}")
    trained = load_run(run)
    student = _as_student(trained)
    calibration = calibration or trained.recipe.data.train
    dev = dev or trained.recipe.data.dev
    metadata = describe(trained, student)
    say("Converting to ONNX")
    if isinstance(student, WholeInputs):
        plain = convert_whole(student, len(trained.vocabulary), metadata)
    else:
        plain = convert(student, len(trained.vocabulary), geometry(metadata, FLOAT))
    content = with_2d_convolutions(plain)
    say("Comparing float32 with torch")
    source = Source(
        content,
        metadata,
        trained.vocabulary,
        {},
        _provenance(trained),
        calibration,
        dev,
        plain,
        source_table=_source_table(trained),
    )
    recordings = list(source.inputs.read_all(choose_entries(dev or calibration, _PARITY_INPUTS)))
    return replace(source, parity=_parity(student, source.load(), atol, recordings))


def _as_student(run: TrainedRun) -> Student:
    """Return the network of a run as what is exported.

    Raises:
        ExportError: an Oracle Teacher; precomputed features; a student that streams what comes whole.
    """
    network, where = run.network, run.folder.path
    kind = network.frontend.input_spec(network.subsampling_factor).kind
    if kind not in INPUT_KINDS:
        raise ExportError(
            f"{where}: is of task {run.recipe.task}, whose inputs no bundle takes: a bundle takes recordings, images "
            "or sentences. Export a run of task speech, scene_text or translation"
        )
    if not isinstance(network, Student):
        return whole_inputs(run)
    if not inputs_for(input_spec(network)).can_stream:
        raise ExportError(
            f"{where}: holds a student that streams (model.kind {run.recipe.model.kind}), and inputs of task "
            f"{run.recipe.task} come whole; train one of kind full_context"
        )
    return network


def _source_table(run: TrainedRun) -> SourceTable | None:
    """How sentences become ids; None where inputs are no sentences."""
    frontend = run.recipe.frontend
    return SourceTable(frontend.table()) if isinstance(frontend, TokensConfig) else None


def _parity(student: Student, model: CtcModel, atol: float, recordings: Sequence[Units]) -> dict[str, Any]:
    """JSON object of the comparison with torch."""
    if isinstance(student, WholeInputs):
        return check_whole_parity(student.network, model, atol=atol, recordings=recordings)
    report = check_parity(student, model, atol=atol, recordings=recordings)
    return {"origin": "torch", "atol": atol, "max_abs_diff": report.max_abs_diff, "comparisons": len(report.cases)}


def describe(run: TrainedRun, student: Student) -> BundleMetadata:
    """Metadata of a student, or of a network that takes whole inputs, without files and measurements."""
    source = input_spec(student)
    return BundleMetadata(
        name=run.recipe.name,
        task=run.recipe.task,
        input=source,
        states=student.state_specs(),
        frame_shift_ms=inputs_for(source).frame_shift_ms,
        subsampling_factor=student.subsampling_factor,
        lookahead_frames=student.lookahead_frames,
        chunk_frames=getattr(run.recipe.model, "chunk_frames", 8),
        models=(),
        default_precision=FLOAT,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        blank_id=run.vocabulary.blank_id,
        streaming=not isinstance(student, WholeInputs),
        frontend={
            **run.recipe.frontend.model_dump(mode="json", exclude={"symbols"}),  # they are a file of the bundle
            "late_features": student.frontend.late_features,
        },
    )


def _provenance(run: TrainedRun) -> dict[str, Any]:
    recipe = run.recipe
    train = recipe.data.train
    data = {"manifest": str(train), "fingerprint": manifest_fingerprint(train)} if train.is_file() else None
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "teachers": [str(path) for path in recipe.distill.teachers] if recipe.distill else [],
        "data": {"train": data} if data else {},
        "run": run.summary,
        "versions": {"torch": version("torch")},
    }
