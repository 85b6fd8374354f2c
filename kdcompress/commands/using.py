"""What a bundle is for: ``transcribe``, and ``eval`` to decide which one to ship."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import (
    FAILED,
    AlphaOption,
    BeamOption,
    BetaOption,
    BlankOption,
    BundleArgument,
    DecoderOption,
    LexiconOption,
    LmOption,
    PrecisionOption,
)
from kdcompress_runtime.errors import OptionsError

app = typer.Typer()


@app.command()
def transcribe(
    bundle: BundleArgument,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files.")],
    stream: Annotated[bool, typer.Option("--stream", help="Print partial results as they come.")] = False,
    endpoint: Annotated[bool, typer.Option("--endpoint", help="Cut at silences: a line for each utterance.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Times and confidence of each word, too.")] = False,
    nbest: Annotated[int, typer.Option("--nbest", min=1, help="Hypotheses of each whole file, best first.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects, one a line.")] = False,
    precision: PrecisionOption = None,
    decoder: DecoderOption = None,
    beam_width: BeamOption = None,
    lm: LmOption = None,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    blank_penalty: BlankOption = None,
    lexicon: LexiconOption = None,
    hotword: Annotated[
        list[str] | None, typer.Option("--hotword", metavar="PHRASE[=NATS]", help="Listen for it; repeatable.")
    ] = None,
    hotwords: Annotated[
        Path | None, typer.Option("--hotwords", metavar="FILE", help="The same, one a line of a file.")
    ] = None,
) -> None:
    """Recognise audio files; a file that cannot be read is reported and the others go on."""
    from kdcompress.decoding import DecodingRequest, parse_hotwords
    from kdcompress.transcribe import TranscribeOptions, transcribe_file
    from kdcompress_runtime.endpoint import EndpointRules
    from kdcompress_runtime.errors import AudioError

    if nbest > 1 and (stream or endpoint):
        raise OptionsError("--nbest goes with whole files; leave out --stream and --endpoint")
    request = DecodingRequest(
        kind=decoder,
        options={"beam_width": beam_width, "alpha": alpha, "beta": beta, "blank_penalty": blank_penalty},
        lm=lm,
        lexicon=lexicon,
        hotwords=parse_hotwords(hotword or [], hotwords),
    )
    recognizer = request.open(bundle, precision=precision)
    options = TranscribeOptions(
        stream=stream,
        endpoint=EndpointRules() if endpoint else None,
        as_json=as_json,
        words=words,
        nbest=nbest,
        named=len(files) > 1,
        hotwords=request.hotwords,
    )
    failed = 0
    for file in files:
        try:
            transcribe_file(recognizer, file, options)
        except AudioError as problem:
            console.error(str(problem))
            failed += 1
    if failed:
        raise typer.Exit(FAILED)


@app.command("eval")
def evaluate_command(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundles to compare.")],
    manifest: Annotated[
        list[str], typer.Option("--manifest", metavar="[NAME=]FILE", help="Test manifest; repeatable.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="REPORT", help="Folder of the report.")],
    baseline: Annotated[str | None, typer.Option(help="Variant that the others are compared with.")] = None,
    precision: Annotated[str, typer.Option(help="default, all, float32 or int8.")] = "all",
    decoder: DecoderOption = None,
    beam_width: BeamOption = None,
    lm: LmOption = None,
    alpha: AlphaOption = None,
    beta: BetaOption = None,
    blank_penalty: BlankOption = None,
) -> None:
    """Report accuracy against size and latency: report.html, report.md, report.json and the raw rows."""
    from kdcompress.decoding import DecodingRequest
    from kdcompress_evaluation import Decoding, EvalOptions, evaluate

    request = DecodingRequest(
        kind=decoder,
        options={"beam_width": beam_width, "alpha": alpha, "beta": beta, "blank_penalty": blank_penalty},
        lm=lm,
    )
    options = EvalOptions(
        baseline=baseline,
        precisions=precision,
        decoding=Decoding(request.decoder_options(), lm),
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
