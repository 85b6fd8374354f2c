"""What a bundle is for: ``transcribe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Audio files, or images of text lines; to translate: .txt files with a sentence a line, - for "
            "standard input, or sentences.",
        ),
    ],
    stream: Annotated[bool, typer.Option("--stream", help="Print partial results as they come.")] = False,
    endpoint: Annotated[bool, typer.Option("--endpoint", help="Cut at silences: a line for each utterance.")] = False,
    words: Annotated[
        bool, typer.Option("--words", help="Place and confidence of each word, too: seconds, pixels, tokens.")
    ] = False,
    nbest: Annotated[int, typer.Option("--nbest", min=1, help="Hypotheses of each whole input, best first.")] = 1,
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
    """Recognise audio or lines of text, or translate; what cannot be read is reported and the others go on."""
    from kdcompress.decoding import DecodingRequest, parse_hotwords
    from kdcompress.transcribe import TranscribeOptions
    from kdcompress.transcribe import transcribe as transcribe_all
    from kdcompress_runtime.endpoint import EndpointRules

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
    if transcribe_all(recognizer, files, options):
        raise typer.Exit(FAILED)
