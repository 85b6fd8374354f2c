"""From data to a trained network: ``train``, ``distill``, ``teacher-check``, ``sweep`` and the ``demo`` of it all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import CHECK_FAILED, RecipeArgument, RunOutput, SeedOption, SetOption

if TYPE_CHECKING:
    from kdcompress.recipe import Recipe

app = typer.Typer()


@app.command()
def train(recipe: RecipeArgument, output: RunOutput, settings: SetOption = None, seed: SeedOption = None) -> None:
    """Train a teacher, a student from labels only, or a language model."""
    from kdcompress.text_models.recipe import is_text_recipe

    if is_text_recipe(recipe):
        _train_language_model(recipe, output, settings, seed)
    else:
        fit_with_progress(_recipe(recipe, settings, seed), output)


def _train_language_model(recipe: str, output: Path, settings: list[str] | None, seed: int | None) -> None:
    from kdcompress.text_models.fit import fit_text_model
    from kdcompress.text_models.recipe import load_text_recipe

    loaded = load_text_recipe(recipe, [*(settings or []), *([f"seed={seed}"] if seed is not None else [])])
    with console.progress_bar(loaded.name) as update:
        summary = fit_text_model(
            loaded, output, lambda step, steps, scalars: update(step, steps, f"loss {scalars['loss']:.3f}")
        )
    dev = summary["dev"]
    parts = [
        f"{output}: {summary['kind']} of {summary['num_units']} {summary['units']}, {summary['seconds']:.0f} s",
        f"held-out perplexity {dev['perplexity']:.2f} a unit, {dev['bits_per_character']:.3f} bits a character",
    ]
    if "ngram" in summary:
        parts.append(f"{summary['ngram']['order']}-grams {summary['ngram']['bits_per_character']:.3f}")
    console.stdout().print("; ".join(parts), markup=False)


@app.command()
def distill(
    recipe: RecipeArgument,
    output: RunOutput,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Run, bundle, Hugging Face folder, .onnx or .py file, or store of labels; repeatable; overrides "
            "distill.teachers."
        ),
    ] = None,
    settings: SetOption = None,
    seed: SeedOption = None,
) -> None:
    """Train a student from one teacher or several."""
    from kdcompress.errors import RecipeError
    from kdcompress.steps import path_setting

    overrides = [*(settings or []), *([path_setting("distill.teachers", *teacher)] if teacher else [])]
    loaded = _recipe(recipe, overrides, seed)
    if loaded.distill is None:
        raise RecipeError(f"{recipe}: has no distill section; name a teacher with --teacher, or use `kdcompress train`")
    fit_with_progress(loaded, output)


@app.command("teacher-check")
def teacher_check_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Finished run of a teacher.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Held-out items to test on; the recipe's dev when left out.")
    ] = None,
    twin: Annotated[
        Path | None, typer.Option(metavar="RUN2", help="Run to compare the training time with, by dev loss.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Keep teacher-check.json and curve.svg here."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test whether a teacher listens or copies the reference; exit code 3 when it looks at padding."""
    from kdcompress.tables import print_teacher_check
    from kdcompress.teacher_check import check_run

    with console.progress_bar("teacher-check") as update:
        check = check_run(
            run, manifest=manifest, twin=twin, output=output, on_progress=lambda done, total: update(done, total, "")
        )
    if as_json:
        console.stdout().print(json.dumps(check.to_json()), markup=False)
    else:
        print_teacher_check(check)
    if not check.passed:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def sweep(
    variants: Annotated[Path, typer.Argument(metavar="SWEEP", help="YAML: a recipe, and lists of overrides by name.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the runs.")],
    settings: SetOption = None,
    seed: SeedOption = None,
) -> None:
    """Train variants of a recipe side by side: batches and teachers' answers are computed once for all."""
    from kdcompress.sweep import load_sweep, run_sweep

    recipes = load_sweep(variants, [*(settings or []), *([f"seed={seed}"] if seed is not None else [])])
    with console.progress_bar("sweep") as update:
        found = run_sweep(recipes, output, lambda done, total: update(done, total, f"{len(recipes)} variants"))
    for name, summary in found.items():
        rates = f"dev WER {summary['dev']['wer']:.2f} %" if "wer" in summary["dev"] else "done"
        console.stdout().print(f"{output / name}: {rates}", markup=False)


def _recipe(source: str, settings: list[str] | None, seed: int | None) -> Recipe:
    from kdcompress.recipe_file import load_recipe

    return load_recipe(source, [*(settings or []), *([f"seed={seed}"] if seed is not None else [])])


def fit_with_progress(recipe: Recipe, output: Path) -> None:
    """Train, with a bar, and say what came out."""
    from kdcompress.distill import fit

    with console.progress_bar(recipe.name) as update:
        summary = fit(recipe, output, lambda step, steps, scalars: update(step, steps, f"loss {scalars['loss']:.3f}"))
    parts = [f"{output}: {summary['kind']}, {summary['parameters']:,} parameters, {summary['seconds']:.0f} s"]
    if "wer" in summary["dev"]:
        parts.append(f"dev WER {summary['dev']['wer']:.2f} %")
    if "leak" in summary:
        parts.append(f"the teacher {summary['leak']['verdict']}")
    console.stdout().print("; ".join(parts), markup=False)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything the demo makes.")] = Path(
        "runs/demo"
    ),
    source: Annotated[Path, typer.Option(help="The packed Free Spoken Digit Dataset.")] = Path("data/fsdd"),
    settings: SetOption = None,
) -> None:
    """Run the main job on the embedded recordings: two teachers, three students, bundles, report."""
    from kdcompress.demo import run_demo

    run_demo(output, source, overrides=tuple(settings or ()))
