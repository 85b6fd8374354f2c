"""The commands. Every heavy import is inside its command, so ``--help`` is instant.

Exit codes: 0 done, 1 an error that the message explains, 2 wrong usage, 3 a check failed, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdcompress import __version__, console
from kdcompress_runtime.errors import KdcompressError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress.recipe import Recipe
    from kdcompress_runtime.decoders import DecoderOptions

FAILED, CHECK_FAILED, INTERRUPTED = 1, 3, 130

app = typer.Typer(
    name="kdcompress",
    help="Distil CTC models, export them with proof, stream them on a CPU, report honestly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
prepare_app = typer.Typer(help="Turn a corpus into manifests.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="YAML file, or the name of a packaged recipe.")]
RunOutput = Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override, for example train.steps=100.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Override the recipe's seed.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder or .zip of `kdcompress export`.")]
DecoderOption = Annotated[str, typer.Option("--decoder", help="greedy, beam or pyctcdecode.")]
BeamOption = Annotated[int, typer.Option("--beam-width", help="Prefixes kept, for beam and pyctcdecode.")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="float32 or int8; the bundle's default when left out.")
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; errors become one sentence on stderr."""
    # threads that wait for each other by spinning make small models many times slower on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(args=None if argv is None else list(argv))
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
        if code == INTERRUPTED:
            console.info("interrupted; repeat the command, it goes on where it stopped")
        return code
    except BrokenPipeError:
        # whoever read our output has gone; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KdcompressError as problem:
        console.error(str(problem))
        return FAILED
    except ModuleNotFoundError as problem:
        console.error(
            f"{problem.name} is not installed; install what this command needs: pip install 'kdcompress[all]'"
        )
        return FAILED
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        console.error(f"{where}{problem.strerror or problem}; free space or correct the path, then repeat the command")
        return FAILED
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        console.stdout().print(f"kdcompress {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distil CTC models, export them with proof, stream them on a CPU, report honestly."""


@prepare_app.command("digits")
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


@prepare_app.command("sentences")
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


@app.command()
def train(recipe: RecipeArgument, output: RunOutput, settings: SetOption = None, seed: SeedOption = None) -> None:
    """Train a teacher (or a student from labels only)."""
    _fit(_recipe(recipe, settings, seed), output)


@app.command()
def distill(
    recipe: RecipeArgument,
    output: RunOutput,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Run of a teacher; repeatable; overrides distill.teachers.")
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
    _fit(loaded, output)


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


def _fit(recipe: Recipe, output: Path) -> None:
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
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Finished run of a student.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BUNDLE", help="Folder, or a name ending in .zip.")],
    calibration: Annotated[
        Path | None, typer.Option(help="Manifest whose audio sets the int8 ranges; the recipe's train when left out.")
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Manifest on which error rates are proven; the recipe's dev when left out.")
    ] = None,
    dev_limit: Annotated[int | None, typer.Option(help="At most this many dev items.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the model, kept in the bundle.")] = "unspecified",
) -> None:
    """Export a student to a bundle: float32 and int8, each proven against what it came from."""
    from kdcompress.tables import print_exported
    from kdcompress_export import ExportOptions, export_run

    options = ExportOptions(calibration=calibration, dev=dev, dev_limit=dev_limit, licence=licence)
    metadata = export_run(run, output, options, console.info)
    print_exported(output, metadata)


@app.command()
def verify(
    bundle: BundleArgument,
    manifest: Annotated[Path | None, typer.Option(help="Measure error rates on this manifest, too.")] = None,
) -> None:
    """Repeat the proof of a bundle on this machine; exit code 3 when a check fails."""
    from kdcompress_export import verify_bundle

    report = verify_bundle(bundle, manifest=manifest)
    rows = [("pass" if check.passed else "FAIL", check.name, check.detail) for check in report.checks]
    console.print_table(str(bundle), ("", "check", "found"), rows, left=True)
    if not report.passed:
        raise typer.Exit(CHECK_FAILED)


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


@app.command()
def bench(
    bundle: BundleArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure speed on this machine: one thread, precisions interleaved, medians."""
    from dataclasses import asdict

    from kdcompress.tables import print_bench
    from kdcompress_export import bench_bundle

    report = asdict(bench_bundle(bundle))
    if as_json:
        console.stdout().print(json.dumps(report), markup=False)
    else:
        print_bench(report)


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
