"""Ways down for a trained student: ``quantize-aware`` teaches it to bear int8, ``prune`` cuts it smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdcompress import console
from kdcompress.commands.options import RunOutput, SeedOption
from kdcompress.commands.training import fit_with_progress

app = typer.Typer()

StudentArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Finished run of a student.")]
StepsOption = Annotated[int, typer.Option("--steps", help="Updates.")]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="Peak; a share of the run's when left out.")]


@app.command("quantize-aware")
def quantize_aware_command(
    run: StudentArgument,
    output: RunOutput,
    steps: StepsOption = 300,
    learning_rate: RateOption = None,
    scheme: Annotated[
        Literal["static", "dynamic"] | None, typer.Option(help="What to train for; by the kind of student if left out.")
    ] = None,
    range_share: Annotated[
        float, typer.Option(help="Share of the values a range holds; 0.9998 for percentile and entropy calibration.")
    ] = 1.0,
    seed: SeedOption = None,
) -> None:
    """Let a float32 student teach its int8 self; what comes out is a run to export like any other."""
    from kdcompress.follow_up import quantization_aware_recipe

    recipe = quantization_aware_recipe(
        run, steps=steps, learning_rate=learning_rate, seed=seed, scheme=scheme, range_share=range_share
    )
    fit_with_progress(recipe, output)


@app.command()
def prune(
    run: StudentArgument,
    output: RunOutput,
    keep_channels: Annotated[float, typer.Option(help="Share of the channels inside the blocks.")] = 1.0,
    keep_blocks: Annotated[int | None, typer.Option(help="Blocks to keep; all when left out.")] = None,
    keep_width: Annotated[float, typer.Option(help="Share of the channels between the blocks.")] = 1.0,
    steps: StepsOption = 300,
    learning_rate: RateOption = None,
    seed: SeedOption = None,
) -> None:
    """Cut the least important channels and blocks out of a student, then let it teach what is left."""
    from kdcompress.follow_up import prune_recipe
    from kdcompress.pruning.prune import PruneOptions, prune_run, pruned_folder

    options = PruneOptions(keep_channels=keep_channels, keep_blocks=keep_blocks, keep_width=keep_width)
    pruned = prune_run(run, pruned_folder(output), options, console.info)
    recipe = prune_recipe(run, pruned, steps=steps, learning_rate=learning_rate, seed=seed)
    fit_with_progress(recipe, output)
