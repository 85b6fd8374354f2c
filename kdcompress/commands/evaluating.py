"""Which one to ship: ``eval`` for the report, ``compare`` for two."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import (
    CHECK_FAILED,
    FAILED,
    AlphaOption,
    BeamOption,
    BetaOption,
    BlankOption,
    DecoderOption,
    LmOption,
)
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from kdcompress_evaluation import Decoding, Report, Summary

app = typer.Typer()

ManifestOption = Annotated[
    list[str] | None, typer.Option("--manifest", metavar="[NAME=]FILE", help="Test manifest; repeatable.")
]
PrecisionsOption = Annotated[str, typer.Option("--precision", help="default, all, float32 or int8.")]
BudgetOption = Annotated[
    str,
    typer.Option(
        "--budget",
        metavar="BOUNDS",
        help='Bounds to hold, such as "size<=3MB,dwer<=0.5,p95<=20ms,rss<=150MB"; exit code 3 when no candidate does.',
    ),
]
SpeedOption = Annotated[bool, typer.Option("--speed/--no-speed", help="Measure speed, memory and cold start.")]
NormaliserOption = Annotated[
    str | None,
    typer.Option(
        "--normaliser",
        help="Rule by which texts are made comparable: plain (speech), nocase (text lines), case, alnum; left out, "
        "that of the task.",
    ),
]


@app.command("eval")
def evaluate_command(
    systems: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Bundles, Hugging Face exports, sherpa-onnx models, or .jsonl files with the texts of other systems. "
            "With --rows: further reports to merge in.",
        ),
    ] = None,
    manifest: ManifestOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="REPORT", help="Folder of the report.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", metavar="REPORT", help="Recognise nothing: derive this report again.")
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="Variant that the others are compared with; one for each task.")
    ] = None,
    budget: BudgetOption = "",
    candidate: Annotated[
        list[str] | None,
        typer.Option("--candidate", help="Variant that may ship; repeatable; else all but the baseline."),
    ] = None,
    anchor: Annotated[
        list[Path] | None, typer.Option("--anchor", metavar="BUNDLE", help="Shown for comparison, never to ship.")
    ] = None,
    slice_by: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="FIELD", help="Field of the manifest to slice by; repeatable."),
    ] = None,
    resample: Annotated[
        str | None,
        typer.Option(
            "--resample", metavar="FIELD", help="Field of the manifest whose inputs hang together; speaker if left out."
        ),
    ] = None,
    precision: PrecisionsOption = "all",
    normaliser: NormaliserOption = None,
    device_note: Annotated[str, typer.Option("--device-note", help="Words about the machine, for the report.")] = "",
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Recognise only every N-th utterance; report later.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that recognise at once.")] = 1,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, help="Seconds an utterance may take; 20 times its length, or 60."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try utterances again that crashed or ran out of time.")
    ] = False,
    streaming: Annotated[bool, typer.Option(help="Stream the utterances, too.")] = True,
    speed: SpeedOption = True,
    paced: Annotated[
        float, typer.Option("--paced", min=0, help="Seconds of audio to pace in real time, a variant.")
    ] = 12.0,
    decoder: DecoderOption = None,
    beam_width: BeamOption = None,
    lm: LmOption = None,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    blank_penalty: BlankOption = None,
) -> None:
    """Report accuracy against size and latency, and whether it may ship: HTML, Markdown, JSON, CSV and the raw rows."""
    from kdcompress_evaluation import EvalOptions, Rederive, evaluate_tasks, recognise_shard, rederive_tasks

    command = shlex.join(["kdcompress", *sys.argv[1:]])
    if rows is not None:
        if manifest or shard or anchor:
            raise OptionsError("--rows derives from what was recognised; leave out --manifest, --shard and --anchor")
        changes = Rederive(
            baseline=tuple(baseline or ()),
            budget=budget,
            candidates=tuple(candidate or ()),
            slices=tuple(slice_by or ()),
            resample_by=resample or "",
            normaliser=normaliser,
            device_note=device_note,
        )
        target = output or rows
        _finish(rederive_tasks([rows, *(systems or [])], target, changes), target)
        return
    if not manifest or output is None:
        raise OptionsError("name at least one --manifest NAME=FILE and the folder of the report, -o REPORT")
    options = EvalOptions(
        baseline=tuple(baseline or ()),
        precisions=precision,
        decoding=_decoding(decoder, beam_width, lm, alpha, beta, blank_penalty),
        normaliser=normaliser or "",
        budget=budget,
        candidates=tuple(candidate or ()),
        anchors=tuple(anchor or ()),
        slices=tuple(slice_by or ()),
        resample_by=resample or EvalOptions.resample_by,
        jobs=jobs,
        timeout_seconds=timeout,
        retry=retry,
        stream=streaming,
        speed_utterances=EvalOptions.speed_utterances if speed else 0,
        paced_seconds=paced,
        command=command,
        device_note=device_note,
    )
    with console.progress_bar("eval") as update:

        def progress(stage: str, done: int, total: int) -> None:
            update(done, total, stage)

        if shard is not None:
            part = _shard(shard)
            found = recognise_shard(
                systems or [], _manifests(manifest), output, part, options=options, on_progress=progress
            )
            console.info(f"shard {shard}: {found} rows in {output / 'rows'}; eval without --shard makes the report")
            return
        report = evaluate_tasks(systems or [], _manifests(manifest), output, options, progress)
    _finish(report, output)


@app.command("compare")
def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help="Bundle; or REPORT:VARIANT, or REPORT (what it chose).")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same; what is asked is how B differs from A.")],
    manifest: ManifestOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="REPORT", help="Keep the whole report, too.")
    ] = None,
    budget: BudgetOption = "",
    precision: PrecisionsOption = "default",
    normaliser: NormaliserOption = None,
    speed: SpeedOption = True,
) -> None:
    """Compare two bundles on manifests, or two variants of reports that are there, utterance by utterance."""
    from kdcompress_evaluation import EvalOptions, compare
    from kdcompress_evaluation.compare_text import render_comparison

    options = EvalOptions(
        precisions=precision,
        normaliser=normaliser or "",
        budget=budget,
        speed_utterances=EvalOptions.speed_utterances if speed else 0,
        command=shlex.join(["kdcompress", *sys.argv[1:]]),
    )
    with console.progress_bar("compare") as update:
        summary = compare(
            first,
            second,
            _manifests(manifest or []),
            output,
            options=options,
            on_progress=lambda stage, done, total: update(done, total, stage),
        )
    ours, theirs = (variant.info.name for variant in summary.variants)
    console.stdout().print(render_comparison(summary, ours, theirs), markup=False)
    _leave(summary)


def _finish(report: Report, output: Path) -> None:
    """Say what came out, where it is, and leave with the exit code that it deserves."""
    for summary in report.tasks:
        task = f"{summary.run.task}: " if len(report.tasks) > 1 else ""
        console.stdout().print(f"{task}{summary.headline}", markup=False)
        if summary.verdict is not None:
            console.stdout().print(f"{task}{summary.verdict.sentence}", markup=False)
        if summary.failure_count:
            many = f"{summary.failure_count} utterance(s)"
            console.info(f"{task}not recognised: {many}; their words count as errors, see the report")
    console.stdout().print(str(output / "report.html"), markup=False)
    _leave(*report.tasks)


def _leave(*summaries: Summary) -> None:
    broken = [one for summary in summaries for one in summary.broken]
    for one in broken:
        console.error(f"{one.name}: {one.reason}")
    verdicts = [summary.verdict for summary in summaries if summary.verdict is not None]
    if any(verdict.ships is None for verdict in verdicts):
        raise typer.Exit(CHECK_FAILED)
    if broken and not verdicts:
        raise typer.Exit(FAILED)


def _decoding(
    decoder: str | None, beam_width: int | None, lm: Path | None, alpha: float | None, beta: float | None,
    blank_penalty: float | None,
) -> Decoding:  # fmt: skip
    from kdcompress.decoding import DecodingRequest
    from kdcompress_evaluation import Decoding

    request = DecodingRequest(
        kind=decoder,
        options={"beam_width": beam_width, "alpha": alpha, "beta": beta, "blank_penalty": blank_penalty},
        lm=lm,
    )
    return Decoding(request.decoder_options(), lm)


def _shard(text: str) -> tuple[int, int]:
    """``2/8`` as (2, 8)."""
    index, slash, count = text.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
        return int(index), int(count)
    raise OptionsError(f"--shard {text!r}: write I/N with I from 1 to N, as in 2/8")


def _manifests(values: list[str]) -> dict[str, Path]:
    """``NAME=FILE``, or a file that is named after itself."""
    named: dict[str, Path] = {}
    for value in values:
        name, equals, file = value.partition("=")
        path = Path(file if equals else value)
        name = name if equals else path.stem
        if name in named:
            raise OptionsError(f"two manifests are called {name!r}; name them: --manifest NAME=FILE")
        named[name] = path
    return named
