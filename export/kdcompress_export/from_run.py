"""Finished run -> source: the student, or the full-context teacher, converted and compared with torch."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kdcompress.run import load_run
from kdcompress.students.base import Student
from kdcompress_export.convert import convert, input_spec
from kdcompress_export.errors import ExportError
from kdcompress_export.parity import DEFAULT_ATOL, check_parity
from kdcompress_export.planar import with_2d_convolutions
from kdcompress_export.prove import FLOAT
from kdcompress_export.recordings import choose_entries, read_recordings
from kdcompress_export.signature import geometry
from kdcompress_export.source import Source
from kdcompress_export.whole import WholeRecordings, check_whole_parity, convert_whole, whole_recordings
from kdcompress_runtime.bundle import BundleMetadata
from kdcompress_runtime.manifest import manifest_fingerprint
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress.run import TrainedRun
    from kdcompress_export.streams import Samples

_PARITY_RECORDINGS = 2


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
        ExportError: it holds an Oracle Teacher, or a network whose inputs are no recordings.
        ParityError: the graph differs from torch, or from itself in pieces, by more than ``atol``.
        GraphError: the graph is not what was asked for.
        ManifestError, AudioError: data cannot be read.
    """
    say(f"Reading {run}")
    trained = load_run(run)
    if trained.recipe.frontend.sample_rate is None:
        raise ExportError(
            f"{run}: is of task {trained.recipe.task}, whose inputs no bundle takes yet: a bundle takes recordings. "
            "Export a run of task speech"
        )
    network = trained.network
    student = network if isinstance(network, Student) else whole_recordings(trained)
    calibration = calibration or trained.recipe.data.train
    dev = dev or trained.recipe.data.dev
    metadata = describe(trained, student)
    say("Converting to ONNX")
    if isinstance(student, WholeRecordings):
        plain = convert_whole(student, len(trained.vocabulary), metadata)
    else:
        plain = convert(student, len(trained.vocabulary), geometry(metadata, FLOAT))
    content = with_2d_convolutions(plain)
    say("Comparing float32 with torch")
    model = CtcModel(content, metadata, trained.vocabulary, source=FLOAT)
    entries = choose_entries(dev or calibration, _PARITY_RECORDINGS)
    recordings = list(read_recordings(entries, metadata.input.sample_rate or 16000))
    parity = _parity(student, model, atol, recordings)
    return Source(content, metadata, trained.vocabulary, parity, _provenance(trained), calibration, dev, plain)


def _parity(student: Student, model: CtcModel, atol: float, recordings: Sequence[Samples]) -> dict[str, Any]:
    """JSON object of the comparison with torch."""
    if isinstance(student, WholeRecordings):
        return check_whole_parity(student.network, model, atol=atol, recordings=recordings)
    report = check_parity(student, model, atol=atol, recordings=recordings)
    return {"origin": "torch", "atol": atol, "max_abs_diff": report.max_abs_diff, "comparisons": len(report.cases)}


def describe(run: TrainedRun, student: Student) -> BundleMetadata:
    """Metadata of a student, or of a teacher that takes whole recordings, without files and measurements."""
    source = input_spec(student)
    return BundleMetadata(
        name=run.recipe.name,
        task=run.recipe.task,
        input=source,
        states=student.state_specs(),
        frame_shift_ms=1000.0 * source.units_per_frame / (source.sample_rate or 1),
        subsampling_factor=student.subsampling_factor,
        lookahead_frames=student.lookahead_frames,
        chunk_frames=getattr(run.recipe.model, "chunk_frames", 8),
        models=(),
        default_precision=FLOAT,
        parameters=sum(parameter.numel() for parameter in student.parameters()),
        blank_id=run.vocabulary.blank_id,
        streaming=not isinstance(student, WholeRecordings),
        frontend={**run.recipe.frontend.model_dump(mode="json"), "late_features": student.frontend.late_features},
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
