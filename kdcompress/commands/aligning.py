"""``kdcompress align``: where in every item of a manifest the units of its reference are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from kdcompress import console

if TYPE_CHECKING:
    from kdcompress.aligning.align import AlignSummary, OnUnusable
    from kdcompress.aligning.compare import Comparison
    from kdcompress.aligning.segments import SegmentOptions
    from kdcompress.run import TrainedRun

app = typer.Typer()


@app.command()
def align(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A finished run that does not see the reference.")
    ] = None,
    manifest: Annotated[Path | None, typer.Argument(metavar="MANIFEST", help="Items to align, JSONL.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where alignment.jsonl goes.")
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How words are said, where texts are phones.")
    ] = None,
    text_grid: Annotated[bool, typer.Option("--text-grid", help="One Praat TextGrid an item, too.")] = False,
    on_unusable: Annotated[str, typer.Option(help="error, or skip items that cannot be aligned.")] = "error",
    blank_penalty: Annotated[float | None, typer.Option(help="Nats taken from the blank.")] = None,
    before: Annotated[float | None, typer.Option(help="Seconds a word begins before its first label.")] = None,
    after: Annotated[float | None, typer.Option(help="Seconds a word lasts after its last label.")] = None,
    trim: Annotated[bool, typer.Option("--trim/--no-trim", help="Let words end where it falls quiet.")] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Items that are heard together.")] = 16,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.jsonl B.jsonl", help="Only say how far two alignments are apart."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find where the units of every reference are, with any CTC run; repeat it after a kill."""
    if compare is not None:
        _compare(*compare, as_json=as_json)
        return
    if run is None or manifest is None or output is None:
        raise typer.BadParameter("give RUN, MANIFEST and --output FOLDER, or --compare A.jsonl B.jsonl")
    given = {"blank_penalty": blank_penalty, "before": before, "after": after, "trim": trim}
    found = _align(run, manifest, output, given, lexicon, on_unusable, batch_size)
    grids = _write_grids(output, found) if text_grid else None
    _tell(found, grids, as_json=as_json)


def _align(
    path: Path,
    manifest: Path,
    output: Path,
    given: dict[str, Any],
    lexicon: Path | None,
    on_unusable: str,
    batch_size: int,
) -> AlignSummary:
    from kdcompress.aligning.align import AlignOptions, align_manifest
    from kdcompress.data.lexicon import read_lexicon
    from kdcompress.run import load_run

    words = read_lexicon(lexicon) if lexicon else None
    run = load_run(path)
    options = AlignOptions(
        _segments(run, given, phones=words is not None), words, cast("OnUnusable", on_unusable), batch_size
    )
    with console.progress_bar("align") as update:
        return align_manifest(run, manifest, output, options, lambda done, total: update(done, total, "items"))


def _segments(run: TrainedRun, given: dict[str, Any], *, phones: bool) -> SegmentOptions:
    """What suits the run's tokens, but for what was given."""
    from dataclasses import replace

    from kdcompress.aligning.aligner import suiting

    units = "phones" if phones else run.recipe.data.units
    return replace(suiting(units), **{name: value for name, value in given.items() if value is not None})


def _write_grids(output: Path, found: AlignSummary) -> Path:
    from kdcompress.aligning.aligned import read_alignments
    from kdcompress.aligning.text_grid import write_text_grids

    folder = output / "text_grids"
    write_text_grids(folder, read_alignments(found.path))
    return folder


def _tell(found: AlignSummary, grids: Path | None, *, as_json: bool) -> None:
    if as_json:
        told = {
            "alignment": str(found.path),
            "text_grids": str(grids) if grids else None,
            "items": found.items,
            "units": found.units,
            "mean_score": found.mean_score if found.items else None,
            "skipped": [one._asdict() for one in found.skipped],
            "suspects": [one._asdict() for one in found.suspects],
        }
        console.stdout().print(json.dumps(told), markup=False)
        return
    for one in found.skipped:
        console.info(f"skipped: {one.problem}")
    for low in found.suspects:
        console.info(f"low score {low.score:.2f}: {low.id}; is its text what is said?")
    without = f", {len(found.skipped):,} skipped" if found.skipped else ""
    beside = f"; TextGrids in {grids}" if grids else ""
    console.stdout().print(
        f"{found.path}: {found.items:,} items, {found.units:,} units, mean score {found.mean_score:.3f} nats a frame"
        f"{without}{beside}",
        markup=False,
    )


def _compare(first: Path, second: Path, *, as_json: bool) -> None:
    from kdcompress.aligning.compare import compare_alignments

    found = compare_alignments(first, second)
    if as_json:
        console.stdout().print(json.dumps(found.to_json()), markup=False)
    else:
        _print_comparison(found)


def _print_comparison(found: Comparison) -> None:
    from kdcompress.aligning.aligned import SECONDS

    unit, factor = ("ms", 1000.0) if found.time == SECONDS else (found.time, 1.0)
    rows = [
        (
            name,
            f"{factor * edge.mean:+.1f}",
            f"{factor * edge.mean_absolute:.1f}",
            f"{factor * edge.median_absolute:.1f}",
            *(f"{100 * share:.1f} %" for share in edge.within),
        )
        for name, edge in (("starts", found.starts), ("ends", found.ends))
    ]
    limits = [f"within {factor * limit:.0f}" for limit in found.limits]
    alone = f"; {found.other_words:,} only in one" if found.other_words else ""
    columns = [unit, "mean", "mean absolute", "median absolute", *limits]
    console.print_table(f"{found.words:,} words of {found.items:,} items{alone}", columns, rows)
