"""Finished run -> proven bundle: convert, compare, quantize, compare again, measure, write."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kdcompress.run import load_student
from kdcompress.students.base import Student
from kdcompress_export.bundle_writer import check_replaceable, write_bundle
from kdcompress_export.recordings import check_disjoint, choose_entries, read_recordings
from kdcompress_export.convert import convert, input_spec
from kdcompress_export.errors import ExportError
from kdcompress_export.parity import DEFAULT_ATOL, check_parity
from kdcompress_export.prove import FLOAT, INT8, Choice, compare_precisions, worst_split
from kdcompress_export.quantization.static import METHODS, CalibrationName, QuantizeOptions, quantize
from kdcompress_export.signature import METADATA_KEY, geometry
from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, BundleMetadata, ModelFile, sha256
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import manifest_fingerprint
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcompress.run import TrainedRun
    from kdcompress_export.error_rates import ErrorRates
    from kdcompress_export.quantization.static import QuantizedModel
    from kdcompress_export.streams import Samples

MODEL_FILES = {FLOAT: "model.onnx", INT8: "model.int8.onnx"}
_PROOF_RECORDINGS = 8
_PARITY_RECORDINGS = 2


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Raises:
        OptionsError: a value is outside its range.
    """

    calibration: Path | None = None
    """Manifest to calibrate int8 on; the recipe's ``data.train`` when left out."""
    dev: Path | None = None
    """Manifest to measure error rates on; the recipe's ``data.dev`` when left out; none: not measured."""
    subset_size: int = 64
    """Recordings to calibrate on."""
    dev_limit: int | None = None
    """Most items of the dev manifest; all when left out."""
    atol: float = DEFAULT_ATOL
    """Allowed difference of log-probabilities between float32 and torch."""
    precisions: tuple[str, ...] = (FLOAT, INT8)
    """Files to write; float32 is always among them."""
    calibration_method: CalibrationName = "minmax"
    """How int8 ranges are found."""
    reduce_range: bool = False
    """7-bit weights, for x86 without VNNI."""
    overwrite: bool = True
    """Replace a bundle that is there."""
    licence: str = "unspecified"
    """Licence of the model, for the bundle's provenance."""

    def __post_init__(self) -> None:
        if FLOAT not in self.precisions or not set(self.precisions) <= set(MODEL_FILES):
            raise OptionsError(f"precisions must be {FLOAT}, or {FLOAT} and {INT8}; found {self.precisions}")
        if self.calibration_method not in METHODS:
            raise OptionsError(f"calibration_method must be one of {', '.join(METHODS)}")
        if self.subset_size < 1 or (self.dev_limit is not None and self.dev_limit < 1):
            raise OptionsError("subset_size and dev_limit must be at least 1")
        if not self.atol > 0:
            raise OptionsError(f"atol must be above 0, found {self.atol}")


@dataclass(frozen=True)
class _Plan:
    """Everything that is decided before the work starts."""

    run: TrainedRun
    student: Student
    metadata: BundleMetadata
    options: ExportOptions
    calibration: Path
    dev: Path | None
    say: Callable[[str], None]

    def load(self, content: bytes, precision: str) -> CtcModel:
        """Load one of the files as an app would."""
        return CtcModel(content, self.metadata, self.run.vocabulary, source=MODEL_FILES[precision])

    def recordings(self, count: int) -> list[Samples]:
        """Real audio: of dev where there is one, else of the calibration manifest."""
        entries = choose_entries(self.dev or self.calibration, count)
        return list(read_recordings(entries, self.metadata.input.sample_rate or 16000))


def export_run(
    run: Path,
    output: Path,
    options: ExportOptions | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> BundleMetadata:
    """Export the student of a finished run as a bundle, with proof.

    Args:
        run: folder of the run; relative paths in its recipe start at the current folder.
        output: folder, or file ending in ``.zip``, to write; a bundle that is there is replaced.
        options: see there.
        on_progress: called with one line at every stage.

    Returns:
        The content of ``bundle.json``.

    Raises:
        RunError: ``run`` is no finished run of a student.
        ParityError: float32 differs from torch, or from itself in pieces, by more than ``options.atol``.
        GraphError, QuantizationError: a file is not what was asked for.
        ExportError: the output cannot be replaced; dev and calibration share items.
        ManifestError, AudioError: data cannot be read.
    """
    plan = _make_plan(run, output, options or ExportOptions(), on_progress or (lambda _: None))
    contents, measured, choice = _build(plan)
    plan.say(f"Writing {output}")
    tokens = plan.run.vocabulary.dumps().encode()
    metadata = replace(
        plan.metadata,
        models=tuple(ModelFile(name, MODEL_FILES[name]) for name in contents),
        default_precision=choice.precision,
        measured=measured,
        provenance=_provenance(plan),
        files={
            TOKENS_FILE: sha256(tokens),
            **{MODEL_FILES[name]: sha256(content) for name, content in contents.items()},
        },
    )
    files = {MODEL_FILES[name]: content for name, content in contents.items()}
    documents = {METADATA_FILE: metadata.dumps().encode(), TOKENS_FILE: tokens}
    write_bundle(output, {**documents, **files}, overwrite=plan.options.overwrite)
    return metadata


def _make_plan(run: Path, output: Path, options: ExportOptions, say: Callable[[str], None]) -> _Plan:
    """Read the run and refuse early what cannot end well."""
    check_replaceable(output, overwrite=options.overwrite)
    say(f"Reading {run}")
    trained = load_student(run)
    student = trained.network
    if not isinstance(student, Student):
        raise ExportError(f"{run} holds no student")
    calibration = options.calibration or trained.recipe.data.train
    dev = options.dev or trained.recipe.data.dev
    if dev is not None:
        check_disjoint(calibration, dev)
    return _Plan(trained, student, describe(trained, student), options, calibration, dev, say)


def describe(run: TrainedRun, student: Student) -> BundleMetadata:
    """Metadata of a student without files and measurements."""
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
        frontend={**run.recipe.frontend.model_dump(mode="json"), "late_features": student.frontend.late_features},
    )


def _build(plan: _Plan) -> tuple[dict[str, bytes], dict[str, Any], Choice]:
    """Make the files and the proof."""
    plan.say("Converting to ONNX")
    content = convert(plan.student, len(plan.run.vocabulary), geometry(plan.metadata, FLOAT))
    model = plan.load(content, FLOAT)
    plan.say("Comparing float32 with torch")
    recordings = plan.recordings(_PROOF_RECORDINGS)
    report = check_parity(plan.student, model, atol=plan.options.atol, recordings=recordings[:_PARITY_RECORDINGS])
    measured: dict[str, Any] = {
        "parity": {"atol": report.atol, "max_abs_diff": report.max_abs_diff, "comparisons": len(report.cases)},
        "size_bytes": {FLOAT: len(content)},
    }
    contents, models = {FLOAT: content}, {FLOAT: model}
    quantized = None
    if INT8 in plan.options.precisions:
        quantized = _quantize(plan, content, model)
        contents[INT8], models[INT8] = quantized.content, plan.load(quantized.content, INT8)
        measured["size_bytes"][INT8] = len(quantized.content)
        measured["size_ratio"] = len(quantized.content) / len(content)
    rates = _error_rates(plan, models)
    measured["error_rates"] = rates.summary() if rates else "not measured: no dev manifest was given"
    choice = Choice(FLOAT, "int8 was not asked for")
    if quantized is not None:
        plan.say("Comparing int8 with float32")
        compared, choice = compare_precisions(models, recordings, rates)
        calibrated = {"manifest": str(plan.calibration), "method": plan.options.calibration_method}
        measured[INT8] = {
            "quantized_nodes": quantized.nodes,
            "calibration": {**calibrated, "frames": quantized.calibration_frames},
            **compared,
        }
    measured["float32_splits"] = asdict(worst_split(model, recordings[:_PARITY_RECORDINGS]))
    measured["default"] = asdict(choice)
    return contents, measured, choice


def _quantize(plan: _Plan, content: bytes, model: CtcModel) -> QuantizedModel:
    entries = choose_entries(plan.calibration, plan.options.subset_size)
    plan.say(f"Quantizing to int8, calibrated on {len(entries)} recordings of {plan.calibration}")
    options = QuantizeOptions(plan.options.calibration_method, plan.options.reduce_range)
    recordings = read_recordings(entries, plan.metadata.input.sample_rate or 16000)
    properties = {METADATA_KEY: json.dumps(geometry(plan.metadata, INT8))}
    return quantize(content, model, recordings, options, properties)


def _error_rates(plan: _Plan, models: dict[str, CtcModel]) -> ErrorRates | None:
    if plan.dev is None:
        plan.say("Error rates are not measured: the recipe names no dev manifest and none was given")
        return None
    from kdcompress_export.error_rates import measure_error_rates

    plan.say(f"Measuring error rates on {plan.dev}")
    return measure_error_rates(models, plan.dev, plan.options.dev_limit)


def _provenance(plan: _Plan) -> dict[str, Any]:
    recipe = plan.run.recipe
    manifests = {"train": recipe.data.train, "calibration": plan.calibration, "dev": plan.dev}
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "teachers": [str(path) for path in recipe.distill.teachers] if recipe.distill else [],
        "data": {
            name: {"manifest": str(path), "fingerprint": manifest_fingerprint(path)}
            for name, path in manifests.items()
            if path is not None and path.is_file()
        },
        "run": plan.run.summary,
        "licence": plan.options.licence,
        "versions": {name: version(name) for name in ("kdcompress", "torch", "onnx", "onnxruntime", "numpy")},
    }
