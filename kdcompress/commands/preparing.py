"""``kdcompress prepare``: a corpus becomes manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdcompress import console

app = typer.Typer(help="Turn a corpus into manifests.", no_args_is_help=True)


@app.command("digits")
def prepare_digits_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for manifests and audio.")],
    source: Annotated[Path, typer.Option(help="The packed Free Spoken Digit Dataset.")] = Path("data/fsdd"),
    seed: Annotated[int, typer.Option(help="Which strings are made.")] = 1,
    noise: Annotated[Path | None, typer.Option(help="Manifest of noises to mix into dev and test.")] = None,
) -> None:
    """Join spoken digits into strings of 3 to 7: train, dev and test manifests at 8 kHz."""
    from kdcompress.data.digits import prepare_digits
    from kdcompress.data.noisy_sets import NoiseConfig

    with console.progress_bar("digits") as update:
        manifests = prepare_digits(
            source,
            output,
            seed=seed,
            noise=NoiseConfig(noise) if noise else None,
            on_progress=lambda split, done, total: update(done, total, split),
        )
    for path in manifests.values():
        console.stdout().print(str(path))


@app.command("sentences")
def prepare_sentences_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for manifests and audio.")],
    source: Annotated[Path, typer.Option(help="Folder with train, dev and test .jsonl, such as speechocean762.")],
    units: Annotated[
        Literal["characters", "phones"], typer.Option(help="References as words, or as phones through lexicon.txt.")
    ] = "characters",
    noise: Annotated[
        Path | None, typer.Option(help="Manifest of noises to mix into dev and test, at 5, 10 and 15 dB.")
    ] = None,
    sample_rate: Annotated[int, typer.Option(help="Hz of the audio written.")] = 16000,
    on_unusable: Annotated[
        Literal["error", "skip"], typer.Option(help="Whether an unusable text is an error or left out, and counted.")
    ] = "error",
) -> None:
    """Make a corpus of sentences ready for training: texts normalised, audio decoded once."""
    from kdcompress.data.noisy_sets import NoiseConfig
    from kdcompress.data.sentences import SNR_DB, prepare_sentences

    with console.progress_bar("sentences") as update:
        manifests = prepare_sentences(
            source,
            output,
            units=units,
            sample_rate=sample_rate,
            noise=NoiseConfig(noise, SNR_DB, SNR_DB) if noise else None,
            on_unusable=on_unusable,
            on_progress=lambda split, done, total: update(done, total, split),
        )
    for path in manifests.values():
        console.stdout().print(str(path))
