#!/usr/bin/env python3
"""Export with proof, shown: parity of every family and target, the search's table, quantization-aware distillation.

Usage:
    python benchmarks/bench_export.py --parts parity                       # tiny students, embedded digits
    python benchmarks/bench_export.py --parts search --run RUN [--run RUN] # the best file of finished runs
    python benchmarks/bench_export.py --parts aware --run RUN --test TEST.jsonl [--scheme NAME]
    python benchmarks/bench_export.py --parts sherpa --run BUNDLE --test TEST.jsonl [--count 100]

Results go to benchmarks/results/export. What is there already in the work folder is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exit_codes import with_exit_code
from export_aware import aware_lines, aware_markdown
from export_parity import dumps, markdown, parity_lines
from export_sherpa import sherpa_json, sherpa_lines, sherpa_markdown

from kdcompress.data.digits import prepare_digits
from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe
from kdcompress_export import ExportOptions, SearchOptions, export_run
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.entries import choose_entries
from kdcompress_export.inputs import inputs_for
from kdcompress_export.quantization.known_repairs import REPAIRS
from kdcompress_export.quantization.rows import Row
from kdcompress_export.quantization.table import markdown as search_markdown
from kdcompress_export.targets import mobile, web
from kdcompress_export.targets import sherpa as sherpa_target
from kdcompress_export.targets.table import SPEECH_TARGETS
from kdcompress_runtime import Bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILIES = {
    "separable_conv": ("digits-labels", (), "static-u8s8-minmax-all"),
    "cnn": ("digits-labels", ("model={kind: cnn}",), "static-u8s8-minmax-all"),
    "chunked_conformer": ("digits-conformer", (), "dynamic"),
}
"""Recipe, overrides and scheme of each student family."""
_RECORDINGS = 6


def parity(work: Path, output: Path, steps: int) -> None:
    """Train one small student a family, export it to every target, compare."""
    data = work / "data"
    if not (data / "test.jsonl").is_file():
        prepare_digits(Path("data/fsdd"), data)
    lines = []
    for family, (recipe, overrides, scheme) in FAMILIES.items():
        run, outputs = work / family, work / f"{family}-exported"
        settings = [f"data.{split}={json.dumps(str(data / f'{split}.jsonl'))}" for split in ("train", "dev")]
        settings += [f"train.steps={steps}", f"train.eval_every={steps}"]
        fit(load_recipe(recipe, [*overrides, *settings]), run, lambda *_: None)
        if not (outputs / SPEECH_TARGETS[-1]).is_dir():
            options = ExportOptions(quantization=SearchOptions(quantize=scheme, dev_limit=60), targets=SPEECH_TARGETS)
            export_run(run, outputs, options, say=_say)
            bundle = Bundle.open(outputs / "onnxruntime")
            precisions = [file.precision for file in bundle.metadata.models]
            for target in (mobile, web):  # with every precision, not the default alone
                write_bundle(outputs / target.NAME, target.files(bundle, precisions=precisions))
        entries = choose_entries(data / "test.jsonl", _RECORDINGS)
        recordings = list(inputs_for(Bundle.open(outputs / "onnxruntime").metadata.input).read_all(entries))
        lines += list(parity_lines(family, run, outputs, recordings))
        _say(f"{family}: compared")
    _write(output / "parity.json", dumps(lines))
    _write(output / "parity.md", markdown(lines))


def search(runs: Sequence[Path], work: Path, output: Path, repairs: Sequence[str]) -> None:
    """Export runs with the automatic search and keep the tables."""
    for run in runs:
        bundle = work / f"{run.name}-bundle"
        options = SearchOptions(
            work=work / f"{run.name}-search", sensitivity=True, repairs=tuple(REPAIRS[name] for name in repairs)
        )
        found = export_run(run, bundle, ExportOptions(quantization=options), say=_say)
        searched = found.measured["search"]
        rows = [Row.from_json(row) for row in searched["rows"]]
        table = search_markdown(rows, searched["chosen"])
        said = f"Default: {found.default_precision}: {found.measured['default']['reason']}.\n"
        _write(
            output / f"search-{run.name}.md",
            f"{found.name}, {found.parameters:,} parameters, {searched['cpu']}.\n\n{table}\n{said}",
        )
        _write(output / f"search-{run.name}.json", json.dumps(found.measured, indent=1) + "\n")


def aware(runs: Sequence[Path], work: Path, output: Path, options: argparse.Namespace) -> None:
    """Does quantization-aware distillation help? Three seeds, test set, paired intervals."""
    kept = {"scheme": options.scheme, "steps": options.steps, "seeds": options.seeds}
    for run in runs:
        name = "-".join([run.name, *([options.name] if options.name else [])])
        found: dict[str, Any] = aware_lines(
            run,
            options.test,
            work / f"{name}-aware",
            **kept,
            learning_rate=options.learning_rate,
            range_share=options.range_share,
            say=_say,
        )
        _write(output / f"aware-{name}.json", json.dumps(found, indent=1) + "\n")
        _write(output / f"aware-{name}.md", aware_markdown(found))


def sherpa(bundles: Sequence[Path], work: Path, output: Path, options: argparse.Namespace) -> None:
    """The sherpa-onnx wheel against our runtime on recordings as they are."""
    for bundle in bundles:
        folder = work / f"{bundle.name}-sherpa-onnx"
        write_bundle(folder, sherpa_target.files(Bundle.open(bundle)))
        lines = list(sherpa_lines(bundle, folder, options.test, options.count))
        name = f"sherpa-{options.name or bundle.name}"
        _write(output / f"{name}.json", sherpa_json(lines))
        _write(output / f"{name}.md", sherpa_markdown(Bundle.open(bundle).metadata.name, lines))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
    print(content)


@with_exit_code
def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["parity", "search", "aware", "sherpa"], default=["parity"])
    parser.add_argument(
        "--run",
        dest="runs",
        type=Path,
        action="append",
        default=[],
        help="finished run, or bundle for sherpa; repeatable",
    )
    parser.add_argument("--test", type=Path, help="manifest that nothing was tuned on, for aware, sherpa")
    parser.add_argument("--count", type=int, default=100, help="recordings, for sherpa")
    parser.add_argument("--scheme", default="static-u8s8-minmax-all", help="for aware")
    parser.add_argument("--learning-rate", type=float, help="for aware; a tenth of the run's when left out")
    parser.add_argument("--range-share", type=float, default=1.0, help="for aware; below 1 clips outliers")
    parser.add_argument("--name", default="", help="for aware and sherpa: goes into the names of the results")
    parser.add_argument("--repair", dest="repairs", action="append", default=[], choices=REPAIRS, help="for search")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=100, help="updates, of the tiny students or for aware")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-export"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/export"))
    parser.add_argument("--fresh", action="store_true", help="forget what is in the work folder of parity")
    options = parser.parse_args()
    if {"search", "aware", "sherpa"} & set(options.parts) and not options.runs:
        parser.error("search, aware and sherpa need --run")
    if {"aware", "sherpa"} & set(options.parts) and options.test is None:
        parser.error("aware and sherpa need --test")
    if "parity" in options.parts:
        if options.fresh:
            shutil.rmtree(options.work / "parity", ignore_errors=True)
        parity(options.work / "parity", options.output, options.steps)
    if "search" in options.parts:
        search(options.runs, options.work, options.output, options.repairs)
    if "aware" in options.parts:
        aware(options.runs, options.work, options.output, options)
    if "sherpa" in options.parts:
        sherpa(options.runs, options.work, options.output, options)


if __name__ == "__main__":
    sys.exit(main())
