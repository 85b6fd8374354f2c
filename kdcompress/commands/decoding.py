"""What stands between a bundle and its best text: language models (``lm``), and ``tune-decoder``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import BundleArgument, PrecisionOption
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from kdcompress_runtime.vocabulary import Vocabulary

app = typer.Typer()
lm_app = typer.Typer(help="Make, import and judge n-gram language models.", no_args_is_help=True)

TextsArgument = Annotated[
    list[Path], typer.Argument(metavar="TEXT...", help="UTF-8 texts, one sentence a line, or manifests (.jsonl).")
]
UnitOption = Annotated[
    str | None, typer.Option("--unit", help="What it predicts: word, or token of the acoustic model.")
]
TokensOption = Annotated[
    Path | None, typer.Option("--bundle", metavar="BUNDLE", help="Acoustic model whose tokens spell the text.")
]
_MOST_UNSPELLED = 5


@lm_app.command()
def estimate(
    texts: TextsArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="LM", help=".arpa, .arpa.gz or .kdlm (packed).")],
    order: Annotated[int, typer.Option(help="Length of the longest n-grams, 1 to 6.")] = 3,
    unit: Annotated[str, typer.Option(help="word, or token of the bundle's vocabulary.")] = "word",
    bundle: TokensOption = None,
    prune: Annotated[
        list[int] | None, typer.Option(metavar="COUNT", help="Drop n-grams seen no more often; once a length.")
    ] = None,
    most_words: Annotated[int | None, typer.Option(help="Keep so many words, the most frequent.")] = None,
    fallback: Annotated[bool, typer.Option(help="Usual discounts where a small text gives none.")] = False,
) -> None:
    """Estimate a modified Kneser-Ney model from texts; the same numbers as KenLM's lmplz."""
    from kdcompress.lm import FALLBACK, LmOptions
    from kdcompress.lm import estimate as run

    options = LmOptions(
        order=order,
        unit=unit,
        vocabulary=_vocabulary(bundle),
        prune=tuple(prune or (0,)),
        most_words=most_words,
        discount_fallback=FALLBACK if fallback else None,
    )
    with console.progress_bar("lm") as update:
        report = run(texts, output, options, lambda stage, done, total: update(done, total, stage))
    lengths = ", ".join(f"{count:,} of {length}" for length, count in enumerate(report.ngrams, start=1))
    console.stdout().print(
        f"{report.output}: {report.units:,} {report.unit}s in {report.sentences:,} sentences; n-grams: {lengths}; "
        f"{report.size / 1e6:.2f} MB",
        markup=False,
    )
    if report.fallbacks:
        console.info(f"usual discounts taken for n-grams of length {', '.join(map(str, report.fallbacks))}")
    if report.unspelled:
        worst = ", ".join(list(report.unspelled)[:_MOST_UNSPELLED])
        console.info(
            f"{len(report.unspelled)} words cannot be spelt with the bundle's tokens ({worst}...); "
            f"{report.skipped} sentences were left out"
        )


@lm_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="ARPA", help="ARPA file of any toolkit, gzipped or not.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="LM", help="Packed model, .kdlm.")],
    unit: UnitOption = None,
) -> None:
    """Pack an ARPA model, so that it opens at once."""
    from kdcompress.lm import convert

    model = convert(source, output, unit)
    console.stdout().print(
        f"{output}: {len(model.words):,} {model.unit}s, n-grams up to {model.order}, "
        f"{output.stat().st_size / 1e6:.2f} MB",
        markup=False,
    )


@lm_app.command()
def evaluate(
    lm: Annotated[Path, typer.Argument(metavar="LM", help="ARPA, .kdlm or KenLM's binary.")],
    texts: TextsArgument,
    bundle: TokensOption = None,
) -> None:
    """Print the perplexity of texts, and how many of their words the model does not know."""
    from kdcompress.lm import evaluate as run

    score = run(lm, texts, _vocabulary(bundle))
    console.stdout().print(
        f"perplexity {score.perplexity:.1f} ({score.perplexity_known:.1f} without unknown words), "
        f"unknown {100 * score.oov_rate:.2f} % of {score.words:,}, {score.sentences:,} sentences",
        markup=False,
    )


@app.command("tune-decoder")
def tune_decoder(
    bundle: BundleArgument,
    manifest: Annotated[Path, typer.Option("--manifest", metavar="DEV", help="Recordings to tune on; never test.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="TUNED", help="Tuned bundle; in place when left out.")
    ] = None,
    lm: Annotated[
        Path | None, typer.Option("--lm", metavar="FILE", help="Language model, ARPA or .kdlm; goes into the bundle.")
    ] = None,
    unit: UnitOption = None,
    lexicon: Annotated[
        Path | None, typer.Option("--lexicon", metavar="FILE", help="The only words there may be; into the bundle.")
    ] = None,
    decoder: Annotated[str, typer.Option("--decoder", help="auto, greedy or beam.")] = "auto",
    trials: Annotated[int, typer.Option(help="Most settings that are tried.")] = 60,
    limit: Annotated[int | None, typer.Option(help="Use so many recordings only.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Try no further settings after this time.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", metavar="FOLDER", help="Keep what was computed; the same call goes on.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write everything as JSON.")] = None,
    precision: PrecisionOption = None,
) -> None:
    """Find the best decoder on dev (weights, beam, blank penalty), calibrate confidences, keep both in the bundle."""
    from kdcompress.files import write_text
    from kdcompress_export.decoder_tuning import COLUMNS, TuneOptions
    from kdcompress_export.decoder_tuning import tune_decoder as run

    options = TuneOptions(
        lm=lm,
        unit=unit,
        lexicon=lexicon,
        precision=precision,
        kind=decoder,
        trials=trials,
        limit=limit,
        seconds=seconds,
        work=work,
    )
    with console.progress_bar("tune") as update:
        found = run(bundle, manifest, output, options, lambda stage, done, total: update(done, total, stage))
    if report is not None:
        write_text(report, json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n")
    console.print_columns(COLUMNS, found.table())
    for note in found.notes():
        console.stdout().print(note, markup=False)
    console.stdout().print(found.output, markup=False)


def _vocabulary(bundle: Path | None) -> Vocabulary | None:
    """Tokens of a bundle, or of a ``tokens.txt``."""
    from kdcompress_runtime.bundle import Bundle
    from kdcompress_runtime.vocabulary import Vocabulary

    if bundle is None:
        return None
    if bundle.suffix != ".txt":
        return Bundle.open(bundle).vocabulary
    try:
        return Vocabulary.loads(bundle.read_text(encoding="utf-8"), str(bundle))
    except OSError as error:
        raise OptionsError(f"{bundle}: cannot read the tokens ({error.strerror})") from error
