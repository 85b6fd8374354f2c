"""From a trained network to files that are proven: ``export``, ``verify``, ``bench``."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import CHECK_FAILED, BundleArgument

app = typer.Typer()


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Finished run of a student.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder, or a name ending in .zip.")],
    calibration: Annotated[
        Path | None, typer.Option(help="Manifest whose audio sets the int8 ranges; the recipe's train when left out.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Manifest on which error rates are proven; the recipe's dev when left out.")
    ] = None,
    dev_limit: Annotated[int | None, typer.Option(help="At most this many dev items.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the model, kept in the bundle.")] = "unspecified",
) -> None:
    """Export a student to a bundle: float32 and int8, each proven against what it came from."""
    from kdcompress.tables import print_exported
    from kdcompress_export import ExportOptions, export_run

    options = ExportOptions(calibration=calibration, dev=dev, dev_limit=dev_limit, licence=licence)
    metadata = export_run(run, output, options, console.info)
    print_exported(output, metadata)


@app.command()
def verify(
    bundle: BundleArgument,
    manifest: Annotated[Path | None, typer.Option(help="Measure error rates on this manifest, too.")] = None,
) -> None:
    """Repeat the proof of a bundle on this machine; exit code 3 when a check fails."""
    from kdcompress_export import verify_bundle

    report = verify_bundle(bundle, manifest=manifest)
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
