"""Students of several methods and seeds on a test set: rows, and a table with paired intervals. For any task.

``bench_text.py`` and ``bench_translation.py`` share it. Runs are recognised as bundles would be, item by item without
padding, greedily; metrics and bootstrap are those of ``kdcompress eval``.
"""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from lm_scores import decoded, hear

from kdcompress.files import replacing, write_text
from kdcompress_evaluation.bootstrap import choose_speakers, group_sums, interval, resampled_sums
from kdcompress_evaluation.machine import describe_machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.metrics import Metric
    from kdcompress_runtime.recognizer import Recognizer

SCORED = "scored.jsonl"
RESAMPLES = 2000


class Line(NamedTuple):
    """One method over all seeds."""

    method: str
    values: dict[str, list[float]]
    """Of each metric, by seed; rates in percent, scores from 0 to 100."""
    differences: dict[str, tuple[float, float, float]]
    """To the baseline, with the 95 % interval."""


def score_runs(folders: Sequence[Path], test: Path, group: str | None = None) -> None:
    """Recognise the test set with each run that has not done so; rows beside the weights.

    Args:
        folders: of the runs.
        test: manifest.
        group: field of its lines whose items are resampled together (a receipt); none: each item by itself.
    """
    waiting = [folder for folder in folders if not (folder / SCORED).is_file()]
    with ProcessPoolExecutor(max_workers=2) as pool:
        list(pool.map(_score, waiting, [test] * len(waiting), [group] * len(waiting)))


def _score(folder: Path, test: Path, group: str | None) -> None:
    import torch

    from kdcompress.run import load_run
    from kdcompress_runtime.manifest import read_manifest

    torch.set_num_threads(1)
    run = load_run(folder)
    heard = hear(run, test)
    told = {entry.id: entry.extra.get(group) if group else None for entry in read_manifest(test)}
    texts = decoded(run, heard)
    rows = [
        {"id": name, "group": told[name], "ref": ref, "hyp": hyp}
        for name, ref, hyp in zip(heard.ids, heard.texts, texts, strict=True)
    ]
    write_rows(folder / SCORED, rows)


def score_bundle(recognizer: Recognizer, folder: Path, test: Path, group: str | None = None) -> None:
    """Keep the rows of a bundle in ``folder``, one input at a time, as it decodes by itself; once."""
    from kdcompress_runtime.manifest import read_manifest

    if (folder / SCORED).is_file():
        return
    rows = [
        {
            "id": entry.id,
            "group": entry.extra.get(group) if group else None,
            "ref": entry.text,
            "hyp": recognizer.recognize(entry.input).text,
        }
        for entry in read_manifest(test)
    ]
    write_rows(folder / SCORED, rows)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows in the order of their ids."""
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run."""
    return [json.loads(line) for line in (folder / SCORED).read_text(encoding="utf-8").splitlines()]


def lines_of(runs: Mapping[str, Sequence[Path]], baseline: str, metrics: Sequence[Metric]) -> list[Line]:
    """Add up every method over its runs, one for each seed."""
    tables = {method: [read_rows(folder) for folder in folders] for method, folders in runs.items()}
    return [
        Line(
            method,
            {metric.info.name: [_value(metric, table) for table in found] for metric in metrics},
            {}
            if method == baseline
            else {metric.info.name: _difference(metric, found, tables[baseline]) for metric in metrics},
        )
        for method, found in tables.items()
    ]


def statistics_of(metric: Metric, rows: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Sufficient statistics of a run, rows of one group added up."""
    counted = metric.statistics([row["ref"] for row in rows], [row["hyp"] for row in rows])
    groups = choose_speakers([row["group"] for row in rows])
    return counted if groups is None else group_sums(counted, groups)


def _value(metric: Metric, rows: Sequence[dict[str, Any]]) -> float:
    return 100 * float(metric.value(statistics_of(metric, rows).sum(axis=0)))


def _difference(
    metric: Metric, found: Sequence[Sequence[dict[str, Any]]], base: Sequence[Sequence[dict[str, Any]]]
) -> tuple[float, float, float]:
    estimate = mean_difference(
        metric, [statistics_of(metric, rows) for rows in found], [statistics_of(metric, rows) for rows in base]
    )
    return (100 * (estimate.value or 0), 100 * (estimate.low or 0), 100 * (estimate.high or 0))


def mean_difference(
    metric: Metric, found: Sequence[NDArray[np.float64]], base: Sequence[NDArray[np.float64]]
) -> Estimate:
    """Mean of a metric over some runs minus that over others, every draw of items taken for all of them."""

    def mean(tables: Sequence[NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
        plain = np.mean([metric.value(table.sum(axis=0)) for table in tables])
        drawn = [metric.value(resampled_sums(table, resamples=RESAMPLES, seed=[0])) for table in tables]
        return float(plain), np.mean(drawn, axis=0)

    (ours, our_draws), (theirs, their_draws) = mean(found), mean(base)
    return interval(ours - theirs, our_draws - their_draws, len(base[0]))


def cpu_name() -> str:
    """What the machine's processor is called."""
    return describe_machine().cpu


def table(lines: Sequence[Line], baseline: str, metrics: Sequence[Metric], note: str) -> str:
    """Markdown: one line a method, with what each gains over the baseline."""
    base = next(line for line in lines if line.method == baseline)
    head = ["learns from"]
    for metric in metrics:
        head += [metric.info.short, f"minus {baseline}", "relative"]
    body = []
    for line in lines:
        cells = [line.method]
        for metric in metrics:
            name = metric.info.name
            values, found = line.values[name], line.differences.get(name)
            spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
            cells.append(f"{np.mean(values):.2f} ± {spread:.2f}")
            cells.append("{:+.2f} ({:+.2f} to {:+.2f})".format(*found) if found else "-")
            share = 100 * (np.mean(values) / max(1e-9, float(np.mean(base.values[name]))) - 1)
            cells.append(f"{share:+.1f} %" if found else "-")
        body.append(f"| {' | '.join(cells)} |")
    return "\n".join([note, "", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body]) + "\n"


def save(  # noqa: PLR0917 (positions read well here)
    folder: Path, part: str, runs: Mapping[str, Sequence[Path]], baseline: str, metrics: Sequence[Metric], note: str
) -> str:
    """Keep rows, numbers and the table of a part; return the table."""
    lines = lines_of(runs, baseline, metrics)
    text = table(lines, baseline, metrics, note)
    write_text(folder / f"{part}.md", text)
    write_text(folder / f"{part}.json", json.dumps([line._asdict() for line in lines], indent=2) + "\n")
    kept = [
        {"method": method, "run": path.name, **row} for method, paths in runs.items() for path in paths
        for row in read_rows(path)
    ]  # fmt: skip
    with replacing(folder / f"{part}.rows.jsonl.gz") as temporary:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
        temporary.write_bytes(gzip.compress(content.encode(), mtime=0))
    return text
