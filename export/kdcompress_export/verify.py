"""The proof of a bundle, repeated on this machine. Needs the runtime alone: no torch, no onnx, no run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_export.agreement import compare_models
from kdcompress_export.entries import choose_entries
from kdcompress_export.inputs import inputs_of
from kdcompress_export.prove import (
    FLOAT,
    MAX_WORSE_POINTS,
    MIN_AGREEMENT,
    measure_speed,
    small_precisions,
    split_atol,
    worst_split,
)
from kdcompress_export.signature import METADATA_KEY, is_geometry
from kdcompress_export.timing import cpu_name
from kdcompress_runtime.bundle import Bundle, BundleMetadata
from kdcompress_runtime.errors import BundleCorruptError, BundleError, KdcompressError
from kdcompress_runtime.manifest import manifest_fingerprint
from kdcompress_runtime.model import CtcModel
from kdcompress_runtime.onnx_guard import is_ort_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kdcompress_export.error_rates import ErrorRates
    from kdcompress_export.inputs import Units

_ITEMS = 4
_NOISE = "noise"
_SLACK, _NOISE_SLACK = 0.05, 0.02
_MIN_SPEED_RATIO = 0.9
"""Export demands 1; a busy machine is forgiven a tenth."""
_RATE_SLACK_POINTS = 0.5
"""Another CPU may round otherwise; half a point of error rate is more than that."""


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    """What was checked."""
    passed: bool
    """Whether it held."""
    detail: str
    """One line with the numbers."""
    values: dict[str, float]
    """The numbers."""


@dataclass(frozen=True)
class VerifyReport:
    """All checks of a bundle."""

    bundle: str
    """Path."""
    cpu: str
    """Model name of this machine's CPU."""
    onnxruntime: str
    """Version."""
    fed: str
    """What the models were run on."""
    checks: tuple[Check, ...]
    """In the order they ran; where hashes or graphs fail, what depends on them is not run."""

    @property
    def passed(self) -> bool:
        """Whether every check held."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {**asdict(self), "passed": self.passed}


def verify_bundle(bundle: Path, *, manifest: Path | None = None) -> VerifyReport:
    """Check hashes, graphs, whole against pieces, small against float32, speed and, with a manifest, error rates.

    A model that takes whole inputs is not compared with pieces: there are none.

    Args:
        bundle: folder or ``.zip``.
        manifest: items to run; synthetic noise when left out, and no error rates. For export's own dev
            manifest, the items that export scored.

    Raises:
        BundleError: there is no bundle, or its ``bundle.json`` cannot be read.
        ManifestError, AudioError, ImageError, SourceTextError: the manifest cannot be read.
    """
    fed = "synthetic noise (no manifest was given)" if manifest is None else str(manifest)
    report = VerifyReport(str(bundle), cpu_name(), onnxruntime.__version__, fed, ())
    try:
        opened = Bundle.open(bundle)
    except BundleCorruptError as error:
        return replace(report, checks=(Check("hashes", passed=False, detail=str(error), values={}),))
    checks = [_check_hashes(opened)]
    if not checks[0].passed:
        return replace(report, checks=tuple(checks))
    models: dict[str, CtcModel] = {}
    for file in opened.metadata.models:
        check, model = _check_graph(opened, file.precision)
        checks.append(check)
        if model is not None:
            models[file.precision] = model
    if all(check.passed for check in checks):
        checks += _check_models(opened.metadata, models, manifest)
    return replace(report, checks=tuple(checks))


def _check_hashes(bundle: Bundle) -> Check:
    try:
        size = sum(len(bundle.read(name)) for name in bundle.metadata.files)
    except BundleError as error:
        return Check("hashes", passed=False, detail=str(error), values={})
    count = len(bundle.metadata.files)
    return Check("hashes", passed=True, detail=f"{count} files, {size} bytes", values={"bytes": size})


def _check_graph(bundle: Bundle, precision: str) -> tuple[Check, CtcModel | None]:
    """Load a model and compare graph and embedded geometry with ``bundle.json``.

    Files in onnxruntime's own format may have lost what was embedded; then the graph alone is compared.
    """
    name = f"graph {precision}"
    try:
        content = bundle.read(bundle.metadata.model_file(precision).file)
        model = CtcModel.from_bundle(bundle, precision)
    except KdcompressError as error:
        return Check(name, passed=False, detail=str(error), values={}), None
    embedded = model.embedded.get(METADATA_KEY)
    if embedded is None and is_ort_format(content):
        detail = "names, dtypes and dimensions as bundle.json says; the file holds no geometry"
        return Check(name, passed=True, detail=detail, values={}), model
    if embedded is None or not is_geometry(embedded, bundle.metadata, precision):
        detail = "the geometry inside the file is not that of bundle.json: this is another model"
        return Check(name, passed=False, detail=detail, values={}), None
    return Check(
        name, passed=True, detail="names, dtypes, dimensions and geometry as bundle.json says", values={}
    ), model


def _check_models(metadata: BundleMetadata, models: Mapping[str, CtcModel], manifest: Path | None) -> Iterator[Check]:
    fed = inputs_of(next(iter(models.values())))
    probe = fed.probe()
    recordings: list[Units] = []
    if manifest is not None:
        recordings = list(fed.read_all(choose_entries(manifest, _ITEMS)))
    for precision, model in models.items() if metadata.streaming else ():
        yield _check_splits(precision, model, recordings or probe)
    for small in small_precisions(models):
        yield _check_agreement(small, models, probe, _NOISE, _recorded(metadata, small, "probe"))
        if recordings:
            before = _recorded(metadata, small, "agreement")
            yield _check_agreement(small, models, recordings, fed.items, before)
        yield _check_speed(metadata, models, small)
    if manifest is not None:
        from kdcompress_export.error_rates import measure_error_rates

        recorded = metadata.measured.get("error_rates")
        same = isinstance(recorded, dict) and recorded.get("fingerprint") == manifest_fingerprint(manifest)
        limit = recorded.get("utterances") if same and isinstance(recorded, dict) else None
        yield from _check_error_rates(metadata, measure_error_rates(models, manifest, limit))


def _recorded(metadata: BundleMetadata, small: str, key: str) -> dict[str, float]:
    """Numbers that export recorded, where it did; ``measured`` is an open field and may hold anything."""
    found = metadata.measured.get(small)
    row = found.get(key) if isinstance(found, dict) else None
    return {name: value for name, value in row.items() if isinstance(value, float)} if isinstance(row, dict) else {}


def _check_splits(precision: str, model: CtcModel, recordings: list[Units]) -> Check:
    found, atol = worst_split(model, recordings), split_atol(precision)
    texts = "texts equal" if found.texts_equal else "texts DIFFER"
    return Check(
        f"whole equals pieces {precision}",
        passed=found.max_abs_diff <= atol and found.texts_equal,
        detail=f"largest difference {found.max_abs_diff:.2g} nats, allowed {atol:g}; {texts}",
        values={"max_abs_diff": found.max_abs_diff, "atol": atol},
    )


def _check_agreement(
    small: str, models: Mapping[str, CtcModel], recordings: list[Units], what: str, recorded: Mapping[str, float]
) -> Check:
    """Compare with what export found on the same inputs (noise) or on such as these."""
    name, slack = f"{small} agrees with float32 on {what}", _NOISE_SLACK if what == _NOISE else _SLACK
    try:
        found = compare_models(models[FLOAT], models[small], recordings)
    except KdcompressError as error:
        return Check(name, passed=False, detail=str(error), values={})
    least = recorded.get("argmax_agreement", MIN_AGREEMENT) - slack
    most = 1.5 * recorded.get("mean_abs_diff", 1.0) + slack
    return Check(
        name,
        passed=found.argmax_agreement >= least and found.mean_abs_diff <= most,
        detail=(
            f"same label in {100 * found.argmax_agreement:.2f} % of {found.frames} frames (at least "
            f"{100 * least:.2f}); mean difference {found.mean_abs_diff:.3g} nats (at most {most:.3g})"
        ),
        values={"argmax_agreement": found.argmax_agreement, "mean_abs_diff": found.mean_abs_diff},
    )


def _check_speed(metadata: BundleMetadata, models: Mapping[str, CtcModel], small: str) -> Check:
    """The small precision must be the faster one wherever it is the default."""
    speed = measure_speed({FLOAT: models[FLOAT], small: models[small]}, small)
    chosen = metadata.default_precision == small
    values = {"whole_ratio": speed.whole_ratio}
    if speed.chunk_ratio is not None:
        values["chunk_ratio"] = speed.chunk_ratio
    return Check(
        f"{small} is faster" if chosen else f"{small} speed ({metadata.default_precision} is the default)",
        passed=speed.least_ratio >= _MIN_SPEED_RATIO or not chosen,
        detail=f"{speed.sentence}, one thread",
        values=values,
    )


def _check_error_rates(metadata: BundleMetadata, found: ErrorRates) -> Iterator[Check]:
    """Compare with the bundle's own rates where the items are the same, and the precisions with each other."""
    from kdcompress_export.error_rates import RATE_NAMES

    recorded = metadata.measured.get("error_rates")
    rows = recorded if isinstance(recorded, dict) else {}
    same = rows.get("fingerprint") == found.fingerprint and rows.get("utterances") == found.utterances
    for precision, rate in found.rates.items():
        before = rows.get("rates", {}).get(precision, {}).get(RATE_NAMES[found.counted].lower()) if same else None
        now = rate.of(found.counted)
        note = "the bundle records none for these items" if before is None else f"recorded {before:.2f} %"
        yield Check(
            f"{found.counted[:-1]} error rate {precision}",
            passed=before is None or abs(now - before) <= _RATE_SLACK_POINTS,
            detail=f"{now:.2f} % of {found.total} {found.counted} ({note})",
            values={"wer": rate.wer, "cer": rate.cer},
        )
    for small in small_precisions(found.rates):
        paired = found.paired(small, FLOAT)
        worse = paired.points > MAX_WORSE_POINTS[paired.counted] and paired.low > 0
        yield Check(
            f"{small} makes no more errors than float32",
            passed=not worse or metadata.default_precision != small,
            detail=paired.sentence,
            values={"points": paired.points, "low": paired.low, "high": paired.high},
        )
