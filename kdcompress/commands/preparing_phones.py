"""``kdcompress prepare phones``: a manifest of words becomes one of phones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdcompress import console

if TYPE_CHECKING:
    from kdcompress.units.phone_manifest import PhonesReport

SHOWN = 5


def prepare_phones_command(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest whose references are words.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="Manifest to write.")],
    lexicon: Annotated[Path, typer.Option(help="Lines such as `CAT K AE1 T`; stress is removed.")],
    g2p: Annotated[
        Literal["lexicon", "espeak", "none"],
        typer.Option(help="Who says words that it lacks: a model learned from it, espeak-ng (English), or nobody."),
    ] = "lexicon",
    text: Annotated[
        Literal["normalised", "lower", "keep"],
        typer.Option(help="Texts as a-z, apostrophe and blank alone, in small letters, or as they are."),
    ] = "normalised",
    guesses: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was guessed as a lexicon, to mend and add.")
    ] = None,
) -> None:
    """Turn the references of a manifest into phones; train a student of them with data.units words."""
    from kdcompress.files import write_text
    from kdcompress.units.lexicon_file import open_pronouncer
    from kdcompress.units.phone_manifest import write_phone_manifest

    report = write_phone_manifest(manifest, output, open_pronouncer(lexicon, g2p), text)
    if guesses is not None:
        lines = (f"{word}\t{' '.join(phones)}\n" for word, phones in report.guessed.items())
        write_text(guesses, "".join(lines))
    _print_report(report, lexicon)


def register(app: typer.Typer) -> None:
    """Add the command to ``kdcompress prepare``."""
    app.command("phones")(prepare_phones_command)


def _print_report(report: PhonesReport, lexicon: Path) -> None:
    lines = [f"{report.items:,} items, {report.words:,} words, {report.phones:,} phones"]
    if report.missing:
        share, different = report.missing / report.words, len(report.guessed)
        lines.append(f"not in {lexicon}: {report.missing:,} words ({share:.1%}), {different:,} different, all guessed")
    else:
        lines.append(f"every word is in {lexicon}")
    lines += [f"  {word}: {' '.join(phones)}" for word, phones in list(report.guessed.items())[:SHOWN]]
    for line in lines:
        console.info(line)
    console.stdout().print(str(report.output), markup=False)
