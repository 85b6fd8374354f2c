"""Recognition of ``bench_lm.py``: greedy, and fused with n-grams whose weights were chosen on dev; rows and tables."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import jiwer
import numpy as np

from kdcompress.files import replacing, write_text
from kdcompress_evaluation.bootstrap import choose_speakers, paired_difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.run import TrainedRun
    from kdcompress_runtime.lm import LanguageModel

ALPHAS, BETAS = (0.2, 0.4, 0.6, 0.9), (0.0, 1.0, 2.0)
"""Weights of the language model, and nats a word, that are tried on dev."""
BEAM = 24
SCORED = "scored.jsonl"
RATES = ("wer", "cer", "fused_wer", "fused_cer")


class Heard(NamedTuple):
    """Items of a manifest as a run hears them."""

    ids: list[str]
    texts: list[str]
    speakers: list[str | None]
    log_probs: list[NDArray[np.float32]]


class Line(NamedTuple):
    """One method over all seeds, in percent of the test set."""

    method: str
    rates: dict[str, list[float]]
    """By name and seed."""
    differences: dict[str, tuple[float, float, float]]
    """To the baseline, with the 95 % interval, over the same speakers or utterances."""


def score_runs(folders: Sequence[Path], dev: Path, test: Path, lm: Path) -> None:
    """Recognise the test set with each run that has not done so; rows beside the weights."""
    waiting = [folder for folder in folders if not (folder / SCORED).is_file()]
    with ProcessPoolExecutor(max_workers=2) as pool:
        list(pool.map(_score, waiting, *([path] * len(waiting) for path in (dev, test, lm))))


def _score(folder: Path, dev: Path, test: Path, lm: Path) -> None:
    import torch

    from kdcompress.run import load_run
    from kdcompress_runtime.lm import open_lm

    torch.set_num_threads(1)
    run = load_run(folder)
    heard, model = hear(run, dev), open_lm(lm)
    grid = {}
    for alpha, beta in product(ALPHAS, BETAS):
        texts = decoded(run, heard, model, alpha, beta)
        grid[alpha, beta] = jiwer.wer(heard.texts, texts)
    alpha, beta = min(grid, key=grid.__getitem__)
    heard = hear(run, test)
    greedy, fused = decoded(run, heard), decoded(run, heard, model, alpha, beta)
    rows = [
        {"id": name, "speaker": speaker, "ref": text, "hyp": plain, "fused": with_lm, "alpha": alpha, "beta": beta}
        for name, speaker, text, plain, with_lm in zip(
            heard.ids, heard.speakers, heard.texts, greedy, fused, strict=True
        )
    ]
    write_text(folder / SCORED, "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["id"])))


def hear(run: TrainedRun, manifest: Path) -> Heard:
    """Log-probabilities of every item, without padding."""
    import torch

    from kdcompress.data.items import Item
    from kdcompress.data.task import TASKS
    from kdcompress_runtime.manifest import read_manifest

    task, network = TASKS[run.recipe.task], run.network
    rate = run.recipe.frontend.units_per_second
    # without labels: a test set may hold words that the training set does not
    items = [
        Item(entry, place, (), round((entry.duration or 0) * rate), 0)
        for place, entry in enumerate(read_manifest(manifest))
    ]
    by_place = {item.number: item.entry for item in items}
    found = Heard([], [], [], [])
    for batch in task.evaluation_batches(items, run.recipe):
        lens = network.frame_lens(batch.input_lens)
        with torch.no_grad():
            said = network(network.features(batch.inputs), lens, batch.labels, batch.label_lens)
        for place, row, length in zip(batch.items.tolist(), said.numpy(), lens.tolist(), strict=True):
            entry = by_place[place]
            found.ids.append(entry.id)
            found.texts.append(entry.text)
            found.speakers.append(entry.speaker)
            found.log_probs.append(np.ascontiguousarray(row[:length]))
    return found


def decoded(
    run: TrainedRun, heard: Heard, lm: LanguageModel | None = None, alpha: float = 0.0, beta: float = 0.0
) -> list[str]:
    """Texts: greedy, or by beam search with a language model."""
    from kdcompress_runtime.decoders import DecoderOptions, build_decoder

    fused = {"kind": "beam", "beam_width": BEAM, "alpha": alpha, "beta": beta}
    decoder = build_decoder(DecoderOptions(**(fused if lm else {"kind": "greedy"})), run.vocabulary, lm=lm)
    texts = []
    for frames in heard.log_probs:
        best = decoder.best(decoder.advance(decoder.init_state(), frames))
        texts.append(run.vocabulary.text(best.token_ids))
    return texts


@cache
def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run, in the order of their ids."""
    return [json.loads(line) for line in (folder / SCORED).read_text(encoding="utf-8").splitlines()]


@cache
def errors_of(folder: Path, rate: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Errors and reference words (or characters) of each utterance."""
    said = "fused" if rate.startswith("fused") else "hyp"
    process = jiwer.process_characters if rate.endswith("cer") else jiwer.process_words
    counts = [process(row["ref"], row[said]) for row in rows_of(folder)]
    wrong = [one.substitutions + one.deletions + one.insertions for one in counts]
    return np.array(wrong), np.array([one.substitutions + one.deletions + one.hits for one in counts])


def lines_of(runs: Mapping[str, Sequence[Path]], baseline: str) -> list[Line]:
    """Add up every method over its runs, one for each seed."""
    lines = []
    for method, folders in runs.items():
        rates: dict[str, list[float]] = {}
        differences = {}
        for rate in RATES:
            counted = [errors_of(folder, rate) for folder in folders]
            rates[rate] = [100 * float(wrong.sum() / words.sum()) for wrong, words in counted]
            if method != baseline:
                base = sum(errors_of(folder, rate)[0] for folder in runs[baseline])
                wrong, words = sum(one[0] for one in counted), sum(one[1] for one in counted)
                speakers = choose_speakers([row["speaker"] for row in rows_of(folders[0])])
                found = paired_difference(list(wrong), list(base), list(words), speakers=speakers)
                differences[rate] = tuple(100 * (value or 0) for value in (found.value, found.low, found.high))
        lines.append(Line(method, rates, differences))
    return lines


def table(lines: Sequence[Line], baseline: str, note: str) -> str:
    """Markdown: one line a method; greedy and fused, with what each gains over the baseline."""
    base = next(line for line in lines if line.method == baseline)
    head = "| learns from | WER | minus labels only | relative | CER | fused WER | minus labels only | relative |"
    body = []
    for line in lines:
        cells = [line.method]
        for rate in ("wer", "cer", "fused_wer"):
            values = line.rates[rate]
            cells.append(f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}")
            if rate != "cer":
                found = line.differences.get(rate)
                cells.append("{:+.2f} ({:+.2f} to {:+.2f})".format(*found) if found else "-")
                share = 100 * (np.mean(values) / np.mean(base.rates[rate]) - 1)
                cells.append(f"{share:+.1f} %" if found else "-")
        body.append(f"| {' | '.join(cells)} |")
    return "\n".join([note, "", head, "|" + "---|" * 8, *body]) + "\n"


def save(folder: Path, part: str, runs: Mapping[str, Sequence[Path]], baseline: str, note: str) -> str:
    """Keep rows, numbers and the table of a part; return the table."""
    lines = lines_of(runs, baseline)
    text = table(lines, baseline, note)
    write_text(folder / f"{part}.md", text)
    write_text(folder / f"{part}.json", json.dumps([line._asdict() for line in lines], indent=2) + "\n")
    kept = [
        {"method": method, "run": path.name, **row} for method, paths in runs.items() for path in paths
        for row in rows_of(path)
    ]  # fmt: skip
    with replacing(folder / f"{part}.rows.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in kept).encode(), mtime=0))
    return text
