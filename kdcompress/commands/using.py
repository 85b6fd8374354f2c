"""What a bundle is for: ``transcribe``, and ``eval`` to decide which one to ship."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import FAILED, BeamOption, BundleArgument, DecoderOption, PrecisionOption
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from kdcompress_runtime.decoders import DecoderOptions

app = typer.Typer()


@app.command()
def transcribe(
    bundle: BundleArgument,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files.")],
    stream: Annotated[bool, typer.Option("--stream", help="Print partial results as they come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
    precision: PrecisionOption = None,
    decoder: DecoderOption = "greedy",
    beam_width: BeamOption = 16,
) -> None:
    """Recognise audio files; a file that cannot be read is reported and the others go on."""
    from kdcompress.transcribe import transcribe_file
    from kdcompress_runtime import Recognizer
    from kdcompress_runtime.errors import AudioError

    options = _decoder(decoder, beam_width)
    recognizer = Recognizer.from_dir(bundle, precision=precision, decoder=options)
    failed = 0
    for file in files:
        try:
            transcribe_file(recognizer, file, stream=stream, as_json=as_json, named=len(files) > 1)
        except AudioError as problem:
            console.error(str(problem))
            failed += 1
    if failed:
        raise typer.Exit(FAILED)


def _decoder(kind: str, beam_width: int) -> DecoderOptions:
    from kdcompress_runtime.decoders import DecoderOptions

    return DecoderOptions(kind=kind, beam_width=beam_width)


@app.command("eval")
def evaluate_command(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles to compare.")],
    manifest: Annotated[
        list[str], typer.Option("--manifest", metavar="[NAME=]FILE", help="Test manifest; repeatable.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="REPORT", help="Folder of the report.")],
    baseline: Annotated[str | None, typer.Option(help="Variant that the others are compared with.")] = None,
    precision: Annotated[str, typer.Option(help="default, all, float32 or int8.")] = "all",
    decoder: DecoderOption = "greedy",
    beam_width: BeamOption = 16,
) -> None:
    """Report accuracy against size and latency: report.html, report.md, report.json and the raw rows."""
    from kdcompress_evaluation import EvalOptions, evaluate

    options = EvalOptions(
        baseline=baseline,
        precisions=precision,
        decoder=_decoder(decoder, beam_width),
        command=shlex.join(["kdcompress", *sys.argv[1:]]),
    )
    with console.progress_bar("eval") as update:
        summary = evaluate(
            bundles, _manifests(manifest), output, options, lambda stage, done, total: update(done, total, stage)
        )
    console.stdout().print(summary.headline, markup=False)
    if summary.failure_count:
        console.info(
            f"not recognised: {summary.failure_count} utterance(s); their words count as errors, see the report"
        )
    console.stdout().print(str(output / "report.html"), markup=False)


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
