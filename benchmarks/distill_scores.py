"""Rows, tables and plots of ``bench_distill.py``."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from kdcompress.files import replacing, write_text
from kdcompress_evaluation.bootstrap import bootstrap_rate, paired_difference

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

BASELINE = "labels only"
FRAME_MS = 40
"""Of the recipes used."""


@dataclass(frozen=True)
class Line:
    """One method at one look-ahead over all seeds; error rates in percent of the test words."""

    method: str
    lookahead_ms: int
    wer: list[float]
    mean: float
    spread: float
    """Standard deviation over the seeds."""
    interval: tuple[float, float]
    """95 % over the test utterances, errors of all seeds added up."""
    against_labels: tuple[float, float, float] | None
    """Difference to labels only at the same look-ahead, and its paired 95 % interval."""
    later_ms: float | None
    """Median time by which a token comes after the conventional teacher's, over utterances that both got right."""


def score_runs(folders: Sequence[Path], manifest: Path) -> None:
    """Recognise the test manifest with each run that has not done so, greedily, in torch; rows beside the weights."""
    waiting = [folder for folder in folders if not (folder / "test.jsonl").is_file()]
    with ProcessPoolExecutor(max_workers=2) as pool:
        list(pool.map(_score, waiting, [manifest] * len(waiting)))


def _score(folder: Path, manifest: Path) -> None:
    import torch

    from kdcompress.data.task import TASKS
    from kdcompress.run import load_run

    torch.set_num_threads(1)
    run = load_run(folder)
    task, network = TASKS[run.recipe.task], run.network
    items = task.items(manifest, run.recipe, run.vocabulary, network.units_per_frame)
    by_text = {}
    rows = []
    for batch in task.evaluation_batches(items, run.recipe):
        lens = network.frame_lens(batch.input_lens)
        with torch.no_grad():
            best = network(network.features(batch.inputs), lens, batch.labels, batch.label_lens).argmax(dim=2)
        for ids, length, text in zip(best.tolist(), lens.tolist(), batch.texts, strict=True):
            spikes = [
                t for t in range(length) if ids[t] != run.vocabulary.blank_id and (t == 0 or ids[t] != ids[t - 1])
            ]
            by_text.setdefault(text, []).append((run.vocabulary.text(ids[t] for t in spikes), spikes))
    # batches are sorted by length: texts find their way back to the items in that order
    for item in sorted(items, key=lambda item: -item.units):
        hypothesis, spikes = by_text[item.entry.text].pop(0)
        extra = {"snr_db": item.entry.extra.get("snr_db"), "frames": spikes}
        rows.append({"id": item.entry.id, "ref": item.entry.text, "hyp": hypothesis, **extra})
    write_text(
        folder / "test.jsonl", "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["id"]))
    )


@cache
def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Rows of one run, in the order of their ids."""
    return [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]


def errors_of(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Word errors and reference words of each utterance."""
    counts = [jiwer.process_words(row["ref"], row["hyp"]) for row in rows_of(folder)]
    wrong = [item.substitutions + item.deletions + item.insertions for item in counts]
    words = [item.substitutions + item.deletions + item.hits for item in counts]
    return np.array(wrong), np.array(words)


def later_ms(folders: Sequence[Path], teacher: Path) -> float | None:
    """See ``Line.later_ms``."""
    reference = {row["id"]: row for row in rows_of(teacher)}
    found: list[int] = []
    for folder in folders:
        for row in rows_of(folder):
            other = reference[row["id"]]
            if row["hyp"] == row["ref"] == other["hyp"] and len(row["frames"]) == len(other["frames"]):
                found += [mine - its for mine, its in zip(row["frames"], other["frames"], strict=True)]
    return FRAME_MS * float(np.median(found)) if found else None


def lines_of(args: argparse.Namespace, runs: Sequence[tuple[str, dict[str, Any]]]) -> list[Line]:
    """Add up every method at every look-ahead over the seeds."""
    students, teacher = args.output / "students", args.output / "teachers" / "conventional"
    folders: dict[tuple[int, str], list[Path]] = {}
    for name, labels in runs:
        folders.setdefault((labels["lookahead"], labels["method"]), []).append(students / name)
    lines = []
    for (lookahead, method), group in folders.items():
        counted = [errors_of(folder) for folder in group]
        rates = [100 * float(wrong.sum() / words.sum()) for wrong, words in counted]
        wrong, words = sum(item[0] for item in counted), sum(item[1] for item in counted)
        against = None
        if method != BASELINE:
            base = sum(errors_of(folder)[0] for folder in folders[lookahead, BASELINE])
            found = paired_difference(list(wrong), list(base), list(words))
            against = (100 * (found.value or 0), 100 * (found.low or 0), 100 * (found.high or 0))
        estimate = bootstrap_rate(list(wrong), list(words))
        lines.append(
            Line(
                method=method,
                lookahead_ms=lookahead * FRAME_MS,
                wer=[round(rate, 2) for rate in rates],
                mean=float(np.mean(rates)),
                spread=float(np.std(rates, ddof=1)) if len(rates) > 1 else 0.0,
                interval=(100 * (estimate.low or 0), 100 * (estimate.high or 0)),
                against_labels=against,
                later_ms=later_ms(group, teacher) if (teacher / "test.jsonl").is_file() else None,
            )
        )
    return lines


def table(lines: Sequence[Line], steps: int, batch: int) -> str:
    """Markdown: one line a method and look-ahead."""
    head = (
        "| trained from | look-ahead | WER % by seed | mean ± sd | minus labels only (paired 95 %) | relative | later |"
    )
    body = []
    for line in lines:
        base = next(x.mean for x in lines if x.method == BASELINE and x.lookahead_ms == line.lookahead_ms)
        minus, relative = "-", "-"
        if line.against_labels:
            minus = "{:+.2f} ({:+.2f} to {:+.2f})".format(*line.against_labels)
            relative = f"{100 * (line.mean / base - 1):+.0f} %"
        seeds = " / ".join(f"{rate:.2f}" for rate in line.wer)
        body.append(
            f"| {line.method} | {line.lookahead_ms} ms | {seeds} | {line.mean:.2f} ± {line.spread:.2f} "
            f"| {minus} | {relative} | {'-' if line.later_ms is None else f'{line.later_ms:.0f} ms'} |"
        )
    note = f"{steps} updates of {batch} strings, greedy decoding, test set. Later: than the conventional teacher."
    return "\n".join([note, "", head, "|" + "---|" * 7, *body]) + "\n"


def save_part(args: argparse.Namespace, part: str, runs: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Keep rows, table, numbers and a plot of one part."""
    teacher = args.output / "teachers" / "conventional"
    if (teacher / "model.safetensors").is_file():
        score_runs([teacher], args.output / "data" / "test.jsonl")
    lines = lines_of(args, runs)
    steps = args.long_steps if part == "long" else args.student_steps
    write_text(args.save / f"{part}.md", table(lines, steps, args.batch_size))
    write_text(args.save / f"{part}.json", json.dumps([asdict(line) for line in lines], indent=2) + "\n")
    kept = [{"run": name, **labels, **row} for name, labels in runs for row in rows_of(args.output / "students" / name)]
    with replacing(args.save / f"{part}.rows.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in kept).encode(), mtime=0))
    with replacing(args.save / f"{part}.svg") as temporary:
        plot(lines, temporary, part)
    print(table(lines, steps, args.batch_size))


def plot(lines: Sequence[Line], file: Path, part: str) -> None:
    """Methods down, word error rate across: the mean, the seeds, and the interval."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ahead = sorted({line.lookahead_ms for line in lines})
    figure, axes = plt.subplots(
        1, len(ahead), figsize=(4.8 * len(ahead) + 2.4, 0.28 * len(lines) / len(ahead) + 1.6), squeeze=False
    )
    for axis, milliseconds in zip(axes[0], ahead, strict=True):
        shown = sorted((x for x in lines if x.lookahead_ms == milliseconds), key=lambda line: -line.mean)
        for place, line in enumerate(shown):
            colour = "#555555" if line.method == BASELINE else "#1f6fb4"
            axis.plot(line.interval, [place, place], color=colour, linewidth=2, alpha=0.4)
            axis.plot(line.wer, [place] * len(line.wer), "o", color=colour, markersize=3, alpha=0.6)
            axis.plot([line.mean], [place], "D", color=colour, markersize=6)
        axis.set_yticks(range(len(shown)), [line.method for line in shown])
        axis.set_xlim(left=0)
        axis.grid(axis="x", alpha=0.3)
        axis.set_xlabel("WER %, test (diamond: mean; dots: seeds; bar: 95 % interval)")
        axis.set_title(f"{part}, look-ahead {milliseconds} ms")
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(figure)
