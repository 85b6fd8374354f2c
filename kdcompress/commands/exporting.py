"""From a trained network to files that are proven: ``export``, ``verify``, ``bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import CHECK_FAILED, BundleArgument
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from kdcompress_export import ExportOptions
    from kdcompress_export.quantization.repairs import Repair
    from kdcompress_runtime.bundle import BundleMetadata

app = typer.Typer()


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder, or a name ending in .zip.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN|BUNDLE", help="Finished run of a student or of a full-context network; or a bundle."
        ),
    ] = None,
    hf: Annotated[
        Path | None, typer.Option("--hf", metavar="DIR", help="Local folder of a Hugging Face *ForCTC model instead.")
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="CTC model that another toolkit wrote, instead.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="NAME=VALUE", help="With --onnx: what the file does not say; repeatable."),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="onnxruntime (default), sherpa-onnx, mobile, web or rapidocr; repeatable."),
    ] = None,
    quantize: Annotated[
        str, typer.Option(metavar="HOW", help="auto searches and decides; none; or the name of a scheme.")
    ] = "auto",
    budget: Annotated[
        str | None, typer.Option(help='For example "size<=3MB,wer<=+0.3,p95<=2ms"; exit code 3 when nothing meets it.')
    ] = None,
    cpu: Annotated[
        str | None, typer.Option(help="Whose schemes to try: avx2, avx512_vnni or arm64; this machine's by default.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Manifest whose items set the int8 ranges; the recipe's train when left out.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Manifest on which error rates are proven; the recipe's dev when left out.")
    ] = None,
    dev_limit: Annotated[int | None, typer.Option(help="At most this many dev items.")] = None,
    repair: Annotated[
        list[str] | None,
        typer.Option(help="Also try: bias-correction or smoothing; repeatable."),
    ] = None,
    tune: Annotated[
        Path | None, typer.Option(help="Manifest, apart from dev, on which a blank penalty is tuned as a candidate.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps what a search has done, so that it can go on.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the model, kept in the bundle.")] = "unspecified",
) -> None:
    """Export with proof: the smallest, fastest file that is still the same model, for one target or several."""
    from kdcompress.tables import print_exported
    from kdcompress_export import BudgetNotMetError, ExportOptions, SearchOptions

    given = [one for one in (source, hf, onnx) if one is not None]
    if len(given) != 1:
        raise typer.BadParameter("name one model: a run, a bundle, --hf DIR or --onnx FILE")
    if fields and onnx is None:
        raise typer.BadParameter("--field goes with --onnx")
    options = ExportOptions(
        calibration=calibration,
        dev=dev,
        tune=tune,
        quantization=SearchOptions(
            quantize=quantize,
            cpu=cpu,
            budget=budget,
            dev_limit=dev_limit,
            repairs=_repairs(repair or []),
            work=work,
        ),
        targets=tuple(targets or ("onnxruntime",)),
        licence=licence,
    )
    try:
        metadata = _export(source, hf, onnx, fields or [], output, options)
    except BudgetNotMetError as problem:
        console.error(str(problem))
        raise typer.Exit(CHECK_FAILED) from problem
    print_exported(output, metadata, options.targets)


def _export(
    source: Path | None, hf: Path | None, onnx: Path | None, fields: list[str], output: Path, options: ExportOptions
) -> BundleMetadata:
    """Take the road that was asked for."""
    from kdcompress_export import OnnxDescription, export_bundle, export_hugging_face, export_onnx, export_run
    from kdcompress_runtime.bundle import METADATA_FILE

    if source is not None and (source.suffix == ".zip" or (source / METADATA_FILE).is_file()):
        return export_bundle(source, output, options.targets, say=console.info)
    with console.progress_bar("export") as update:

        def progress(what: str, done: int, total: int) -> None:
            update(done, total, what)

        if hf is not None:
            return export_hugging_face(hf, output, options, say=console.info, on_progress=progress)
        if onnx is not None:
            description = OnnxDescription.from_fields(_fields(fields))
            return export_onnx(onnx, output, description, options, say=console.info, on_progress=progress)
        if source is None:
            raise OptionsError("name a run, a bundle, --hf DIR or --onnx FILE")
        return export_run(source, output, options, say=console.info, on_progress=progress)


def _repairs(names: list[str]) -> tuple[Repair, ...]:
    """Look repairs up by name; without any, nothing is imported."""
    if not names:
        return ()
    from kdcompress_export.quantization.known_repairs import find_repairs

    return find_repairs(names)


def _fields(values: list[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` pairs."""
    pairs = [value.partition("=") for value in values]
    for (name, equals, _), value in zip(pairs, values, strict=True):
        if not equals or not name:
            raise OptionsError(f"--field {value!r} is not NAME=VALUE, for example --field sample_rate=16000")
    return {name: text for name, _, text in pairs}


@app.command()
def verify(
    bundle: BundleArgument,
    manifest: Annotated[Path | None, typer.Option(help="Measure error rates on this manifest, too.")] = None,
) -> None:
    """Repeat the proof of a bundle on this machine; exit code 3 when a check fails."""
    from kdcompress_export import verify_output

    report = verify_output(bundle, manifest=manifest)
    rows = [("pass" if check.passed else "FAIL", check.name, check.detail) for check in report.checks]
    console.print_table(str(bundle), ("", "check", "found"), rows, left=True)
    if not report.passed:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def bench(
    bundle: BundleArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure speed on this machine: one thread, precisions interleaved, medians."""
    from dataclasses import asdict

    from kdcompress.tables import print_bench
    from kdcompress_export import bench_bundle

    report = asdict(bench_bundle(bundle))
    if as_json:
        console.stdout().print(json.dumps(report), markup=False)
    else:
        print_bench(report)
