"""Any road in -> proven bundle: search for the smallest file that is still the same model, retarget it, write it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.entries import check_disjoint
from kdcompress_export.prove import FLOAT
from kdcompress_export.quantization.options import SearchOptions
from kdcompress_export.quantization.search import search
from kdcompress_export.targets.table import ONNXRUNTIME, check_outputs, check_targets, write_targets
from kdcompress_runtime.bundle import METADATA_FILE, Bundle, BundleMetadata, ModelFile, sha256
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kdcompress_export.importers.description import OnnxDescription
    from kdcompress_export.quantization.options import SearchResult
    from kdcompress_export.source import Source

    Say = Callable[[str], None]
    Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Raises:
        OptionsError: a value is outside its range, or a target is unknown.
    """

    calibration: Path | None = None
    """Manifest to calibrate int8 on; for a run the recipe's ``data.train`` when left out."""
    dev: Path | None = None
    """Manifest to measure error rates on; for a run the recipe's ``data.dev`` when left out; none: not measured."""
    tune: Path | None = None
    """Manifest on which a blank penalty for the smaller file is tuned, as one more candidate; disjoint from dev."""
    quantization: SearchOptions = field(default_factory=SearchOptions)
    """What to try and what to demand."""
    targets: tuple[str, ...] = (ONNXRUNTIME,)
    """Where the model shall run; one alone is written to the output, several to folders inside it."""
    atol: float | None = None
    """Allowed difference of log-probabilities between float32 and its origin; that of the road when left out."""
    overwrite: bool = True
    """Replace a bundle that is there."""
    licence: str = "unspecified"
    """Licence of the model, for the bundle's provenance."""

    def __post_init__(self) -> None:
        if self.atol is not None and not self.atol > 0:
            raise OptionsError(f"atol must be above 0, found {self.atol}")
        check_targets(self.targets)


def export_run(
    run: Path,
    output: Path,
    options: ExportOptions | None = None,
    *,
    say: Say = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> BundleMetadata:
    """Export the student of a finished run, or its full-context teacher, which takes whole recordings.

    Args:
        run: folder of the run; relative paths in its recipe start at the current folder.
        output: folder, or file ending in ``.zip``, to write; a bundle that is there is replaced.
        options: see there.
        say: called with one line at every stage.
        on_progress: called with what is being done, how much of it is done and how much there is.

    Returns:
        The content of ``bundle.json``.

    Raises:
        RunError: ``run`` is no finished run.
        ParityError: float32 differs from torch, or from itself in pieces, by more than ``options.atol``.
        GraphError, QuantizationError: a file is not what was asked for.
        BudgetNotMetError: nothing meets the budget; nothing is written.
        ExportError: the run holds an Oracle Teacher; the output cannot be replaced; dev and calibration share items.
        ManifestError, AudioError: data cannot be read.
    """
    options = options or ExportOptions()
    check_outputs(output, options.targets, overwrite=options.overwrite)
    from kdcompress_export.from_run import source_from_run

    return export_source(
        source_from_run(run, **_road(options), say=say), output, options, say=say, on_progress=on_progress
    )


def export_hugging_face(
    folder: Path,
    output: Path,
    options: ExportOptions | None = None,
    *,
    say: Say = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> BundleMetadata:
    """Export a Hugging Face ``*ForCTC`` model from a local folder, through optimum.

    Arguments, result and errors: see ``export_run``; ``ForeignModelError`` where the folder holds no such model.
    """
    options = options or ExportOptions()
    check_outputs(output, options.targets, overwrite=options.overwrite)
    from kdcompress_export.importers.hugging_face import import_hugging_face

    return export_source(
        import_hugging_face(folder, **_road(options), say=say), output, options, say=say, on_progress=on_progress
    )


def export_onnx(
    file: Path,
    output: Path,
    description: OnnxDescription,
    options: ExportOptions | None = None,
    *,
    say: Say = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> BundleMetadata:
    """Export a CTC model that another toolkit wrote as ONNX.

    Arguments, result and errors: see ``export_run``; ``MissingFieldsError`` names what the file does not say.
    """
    options = options or ExportOptions()
    check_outputs(output, options.targets, overwrite=options.overwrite)
    from kdcompress_export.importers.onnx_file import import_onnx

    return export_source(
        import_onnx(file, description, **_road(options), say=say), output, options, say=say, on_progress=on_progress
    )


def export_bundle(
    bundle: Path, output: Path, targets: tuple[str, ...], *, overwrite: bool = True, say: Say = lambda _: None
) -> BundleMetadata:
    """Make a finished bundle ready for other targets; its models and its proof stay as they are.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        TargetError: a target cannot run the model.
        ExportError: the output cannot be replaced.
    """
    check_targets(targets)
    if ONNXRUNTIME in targets:
        raise OptionsError(f"{bundle} is a bundle for {ONNXRUNTIME} already; name other targets")
    check_outputs(output, targets, overwrite=overwrite)
    opened = Bundle.open(bundle)
    write_targets(opened, output, targets, overwrite=overwrite, say=say)
    return opened.metadata


def export_source(
    source: Source,
    output: Path,
    options: ExportOptions | None = None,
    *,
    say: Say = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> BundleMetadata:
    """Search, prove, retarget and write; arguments, result and errors as for ``export_run``."""
    options = options or ExportOptions()
    check_outputs(output, options.targets, overwrite=options.overwrite)
    found = search(source, _with_tuning(source, options), say, on_progress)
    found.require_budget()
    metadata, contents = _bundle(source, found, options)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "bundle")
        write_bundle(whole, contents)
        write_targets(Bundle.open(whole), output, options.targets, overwrite=options.overwrite, say=say)
    return metadata


def model_file(precision: str) -> str:
    """Name of a model inside a bundle."""
    return "model.onnx" if precision == FLOAT else f"model.{precision}.onnx"


def _with_tuning(source: Source, options: ExportOptions) -> SearchOptions:
    """Return the search's options; a blank penalty is tuned on recordings that prove nothing."""
    if options.tune is None:
        return options.quantization
    for manifest in (source.calibration, source.dev):
        if manifest is not None:
            check_disjoint(manifest, options.tune)
    from kdcompress_export.quantization.repair_blank import blank_repair

    repairs = (*options.quantization.repairs, blank_repair(options.tune))
    return replace(options.quantization, repairs=repairs)


def _road(options: ExportOptions) -> dict[str, Any]:
    """What every road into the exporter is told."""
    tolerance = {} if options.atol is None else {"atol": options.atol}
    return {"calibration": options.calibration, "dev": options.dev, **tolerance}


def _bundle(source: Source, found: SearchResult, options: ExportOptions) -> tuple[BundleMetadata, Mapping[str, bytes]]:
    """Put the files and ``bundle.json`` together."""
    models = {model_file(precision): content for precision, content in found.contents.items()}
    files = {**source.files, **models}
    metadata = replace(
        source.metadata,
        models=tuple(ModelFile(precision, model_file(precision)) for precision in found.contents),
        default_precision=found.choice.precision,
        measured={"parity": source.parity, **found.measured},
        provenance=_provenance(source, options),
        files={name: sha256(content) for name, content in files.items()},
    )
    return metadata, {METADATA_FILE: metadata.dumps().encode(), **files}


def _provenance(source: Source, options: ExportOptions) -> dict[str, Any]:
    manifests = {"calibration": source.calibration, "dev": source.dev}
    data = {
        name: {"manifest": str(path), "fingerprint": manifest_fingerprint(path)}
        for name, path in manifests.items()
        if path is not None and path.is_file()
    }
    versions = {name: version(name) for name in ("kdcompress", "onnx", "onnxruntime", "numpy")}
    return {
        **source.provenance,
        "data": {**source.provenance.get("data", {}), **data},
        "licence": options.licence,
        "versions": {**source.provenance.get("versions", {}), **versions},
    }
