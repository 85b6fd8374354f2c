"""Does it help when the float32 student teaches its int8 self? Errors on a test set, several seeds, paired."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdcompress.distill import fit
from kdcompress.follow_up import quantization_aware_recipe
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_export.error_rates import measure_error_rates
from kdcompress_export.prove import FLOAT
from kdcompress_runtime import Bundle, CtcModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

BEFORE = "before"


def aware_lines(
    run: Path,
    test: Path,
    work: Path,
    *,
    scheme: str,
    steps: int,
    seeds: Sequence[int],
    learning_rate: float | None,
    range_share: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Quantize a run as it is and after ``steps`` updates of each seed; recognise the test set with all of them."""
    mode = "dynamic" if scheme == "dynamic" else "static"
    runs = {BEFORE: run}
    for seed in seeds:
        tuned = work / f"seed{seed}"
        recipe = quantization_aware_recipe(
            run, steps=steps, seed=seed, scheme=mode, learning_rate=learning_rate, range_share=range_share
        )
        say(f"seed {seed}: {steps} updates")
        fit(recipe, tuned, lambda *_: None)
        runs[f"seed {seed}"] = tuned
    models = {}
    for name, folder in runs.items():
        bundle = work / f"{folder.name}-bundle"
        if not (bundle / "bundle.json").is_file():
            options = SearchOptions(quantize=scheme, mixed=False, dev_limit=50)
            export_run(folder, bundle, ExportOptions(quantization=options), say=say)
        opened = Bundle.open(bundle)
        for file in opened.metadata.models:
            models[f"{name} {file.precision}"] = CtcModel.from_bundle(opened, file.precision)
    say(f"Recognising {test}")
    rates = measure_error_rates(models, test)
    base = f"{BEFORE} {FLOAT}"
    plain = next(name for name in models if name.startswith(BEFORE) and name != base)
    return {
        "run": str(run),
        "scheme": scheme,
        "steps": steps,
        "learning_rate": learning_rate,
        "range_share": range_share,
        **rates.summary(),
        "minus float32 before": {name: asdict(rates.paired(name, base)) for name in models},
        "minus int8 before": {name: asdict(rates.paired(name, plain)) for name in models},
        "word_errors": {name: found.words for name, found in rates.errors.items()},
        "reference_words": rates.references.words,
    }


def aware_markdown(found: dict[str, Any]) -> str:
    """The lines as a table, and the mean over seeds."""
    rows = [
        f"{found['utterances']} utterances, {found['words']} words; {found['scheme']}, {found['steps']} updates.\n",
        "| model | WER % | minus float32 before (95 %) | minus int8 before (95 %) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, rate in found["rates"].items():
        cells = [_interval(found[f"minus {precision} before"][name]) for precision in ("float32", "int8")]
        rows.append(f"| {name} | {rate['wer']:.2f} | {' | '.join(cells)} |")
    seeds: dict[str, list[float]] = {}
    for name, rate in found["rates"].items():
        if not name.startswith(BEFORE):
            seeds.setdefault(name.rpartition(" ")[2], []).append(rate["wer"])
    for precision, values in seeds.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append(
            f"| **after, {precision}, {len(values)} seeds** | {statistics.mean(values):.2f} ± {spread:.2f} | | |"
        )
    return "\n".join(rows) + "\n"


def _interval(one: dict[str, float]) -> str:
    return f"{one['points']:+.2f} ({one['low']:+.2f} to {one['high']:+.2f})"
