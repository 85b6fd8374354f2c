"""Options and arguments that several commands share, and the exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FAILED, CHECK_FAILED, INTERRUPTED = 1, 3, 130

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="YAML file, or the name of a packaged recipe.")]
RunOutput = Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override, for example train.steps=100.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Override the recipe's seed.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder or .zip of `kdcompress export`.")]
DecoderOption = Annotated[
    str | None,
    typer.Option("--decoder", help="greedy, beam or pyctcdecode; as the bundle was tuned when left out, or greedy."),
]
BeamOption = Annotated[int | None, typer.Option("--beam-width", help="Prefixes kept; implies --decoder beam.")]
LmOption = Annotated[
    Path | None, typer.Option("--lm", metavar="FILE", help="Language model (ARPA, .kdlm, KenLM); implies beam.")
]
AlphaOption = Annotated[float | None, typer.Option("--alpha", help="Weight of the language model.")]
BetaOption = Annotated[float | None, typer.Option("--beta", help="Nats for each word (or token) beside it.")]
BlankOption = Annotated[float | None, typer.Option("--blank-penalty", help="Nats taken from the blank.")]
LexiconOption = Annotated[
    Path | None, typer.Option("--lexicon", metavar="FILE", help="The only words there may be; implies beam.")
]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="float32 or int8; the bundle's default when left out.")
]
