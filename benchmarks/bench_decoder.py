#!/usr/bin/env python3
"""Our beam search, in C and in Python, against pyctcdecode and flashlight-text: speed and error rate, one thread.

Usage: python benchmarks/bench_decoder.py --bundle characters=BUNDLE [--bundle subwords=BUNDLE] --manifest TEST.jsonl
       --lm WORDS.arpa [--dev DEV.jsonl] [--beams 16 64 100] [--hotwords 0 100] [--utterances 200] [--rounds 3]

Every model computes its log-probabilities once, and all engines decode the same arrays: with and without the word
language model (the same ARPA file), with and without hotwords, at each beam. With ``--dev`` every engine gets the
alpha and beta of ``--alphas`` and ``--betas`` that are best for it there, at beam 64; else the first of each. Beams
and tokens are pruned alike, as far as an engine lets one: see ``decoder_engines.py``. Engines take turns at each
utterance; the time of an utterance is the median CPU time over the rounds. Utterances are spread evenly over the
manifest. Hotwords are the rarest words of the references. Chunks of 320 ms are what a stream costs ours: advance,
and the text so far; the others keep no state.

Timed is decoding alone, from log-probabilities to text. Rows and tables go to benchmarks/results/decoder; the last
line of the output is one JSON object: ours / pyctcdecode in utterances a second at beam 64 with the language model,
its parts, and the difference of the error rates with its interval.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from decoder_engines import ENGINES, Task
from decoder_tables import lines_of, markdown, summary
from exit_codes import with_exit_code

from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.scoring import NORMALISERS, score
from kdcompress_runtime import Bundle, Recognizer, Vocabulary, read_audio, read_manifest
from kdcompress_runtime.decoders.native import library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.base import Decoder

CHUNK_MS = 320
TUNING_BEAM = 64
OUTPUT = Path(__file__).parent / "results" / "decoder"


@dataclass(frozen=True)
class Utterance:
    """What engines get, and what they should answer."""

    id: str
    text: str
    log_probs: NDArray[np.float32]
    """(T, C)."""


@dataclass(frozen=True)
class Row:
    """One utterance, decoded by one engine in one configuration."""

    bundle: str
    beam: int
    lm: bool
    hotwords: int
    engine: str
    alpha: float
    beta: float
    id: str
    words: int
    errors: int
    seconds: float
    """CPU time, median over the rounds."""
    frame_ms: float
    text: str
    chunk_us: tuple[int, ...]
    """CPU microseconds of each chunk, streamed; ours alone."""


def utterances_of(recognizer: Recognizer, manifest: Path, count: int) -> list[Utterance]:
    """Log-probabilities of ``count`` recordings of a manifest, spread evenly over it."""
    found, entries = [], list(read_manifest(manifest))
    places = np.linspace(0, len(entries), min(count, len(entries)), endpoint=False).astype(int)
    for entry in (entries[place] for place in places):
        log_probs = recognizer.log_probs(*read_audio(entry.input))
        found.append(Utterance(entry.id, entry.text, log_probs))
    return found


def rare_words(texts: Iterable[str], count: int) -> tuple[str, ...]:
    """The ``count`` words that are rarest in ``texts``, or all where there are fewer."""
    counts = Counter(word for text in texts for word in text.split())
    return tuple(sorted(counts, key=lambda word: (counts[word], word))[:count])


def errors_of(references: Sequence[str], texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Words of each reference, and word errors of each text."""
    found = score(references, texts, NORMALISERS["plain"])
    return [one.words.reference for one in found], [one.words.errors for one in found]


def best_weights(name: str, task: Task, dev: Sequence[Utterance], args: argparse.Namespace) -> tuple[float, float]:
    """Alpha and beta with the fewest word errors on dev; the first ones, where there is no dev or only one choice."""
    choices = list(product(args.alphas, args.betas))
    if not dev or len(choices) == 1:
        return choices[0]
    errors = []
    for alpha, beta in choices:
        engine = ENGINES[name](replace(task, alpha=alpha, beta=beta))
        texts = [engine.decode(utterance.log_probs) if engine else "" for utterance in dev]
        errors.append(sum(errors_of([utterance.text for utterance in dev], texts)[1]))
    return choices[int(np.argmin(errors))]


def measure(
    tasks: Mapping[str, Task], utterances: Sequence[Utterance], labels: dict[str, Any], rounds: int
) -> list[Row]:
    """Decode all utterances with all engines that can, each with its task, taking turns."""
    engines = {name: engine for name, task in tasks.items() if (engine := ENGINES[name](task)) is not None}
    rows = []
    for utterance in utterances:
        times: dict[str, list[float]] = {name: [] for name in engines}
        texts = {}
        for _ in range(rounds):
            for name, engine in engines.items():
                start = time.thread_time()
                texts[name] = engine.decode(utterance.log_probs)
                times[name].append(time.thread_time() - start)
        for name, engine in engines.items():
            (words,), (errors,) = errors_of([utterance.text], [texts[name]])
            row = Row(
                **labels,
                engine=name,
                id=utterance.id,
                alpha=tasks[name].alpha,
                beta=tasks[name].beta,
                words=words,
                errors=errors,
                seconds=float(np.median(times[name])),
                text=texts[name],
                chunk_us=streamed(engine.stream, utterance, labels["frame_ms"]),
            )
            rows.append(row)
    return rows


def streamed(decoder: Decoder[Any] | None, utterance: Utterance, frame_ms: float) -> tuple[int, ...]:
    """CPU microseconds of each chunk of 320 ms: advance the state, fetch the text so far."""
    if decoder is None:
        return ()
    step = max(1, round(CHUNK_MS / frame_ms))
    state, times = decoder.init_state(), []
    for begin in range(0, len(utterance.log_probs) - step + 1, step):
        start = time.thread_time_ns()
        state = decoder.advance(state, utterance.log_probs[begin : begin + step])
        decoder.best(state, final=False)
        times.append(round((time.thread_time_ns() - start) / 1000))
    return tuple(times)


def bench_bundle(name: str, path: Path, args: argparse.Namespace) -> list[Row]:
    """All configurations of one model."""
    recognizer = Recognizer.from_dir(path)
    vocabulary = Vocabulary.loads(Bundle.open(path).read("tokens.txt").decode())
    utterances = utterances_of(recognizer, args.manifest, args.utterances)
    dev = utterances_of(recognizer, args.dev, args.utterances) if args.dev else []
    plain = Task(vocabulary, TUNING_BEAM, args.lm, (), args.alphas[0], args.betas[0], args.hotword_weight)
    weights = {engine: best_weights(engine, plain, dev, args) for engine in args.engines if engine != "python"}
    if "python" in args.engines:  # it searches as the compiled core does, which is sooner done
        weights["python"] = best_weights("native" if library.is_there() else "python", plain, dev, args)
    print(f"{name}: alpha and beta by engine: {weights}", file=sys.stderr)
    rows = []
    for beam, lm, hotwords in product(args.beams, (None, args.lm), args.hotwords):
        words = rare_words((utterance.text for utterance in utterances), hotwords)
        task = replace(plain, beam=beam, lm=lm, hotwords=words)
        tasks = {engine: replace(task, alpha=weights[engine][0], beta=weights[engine][1]) for engine in args.engines}
        labels = {
            "bundle": name,
            "beam": beam,
            "lm": lm is not None,
            "hotwords": len(words),
            "frame_ms": recognizer.metadata.frame_shift_ms,
        }
        rows += measure(tasks, utterances, labels, args.rounds)
        print(f"{name}: beam {beam}, {'with' if lm else 'without'} LM, {len(words)} hotwords", file=sys.stderr)
    return rows


def save(output: Path, rows: Sequence[Row], lines: Sequence[dict[str, Any]], table: str) -> None:
    """Write rows, lines and table, each moved into place when it is whole."""
    output.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    about = {"machine": asdict(describe_machine()), "lines": lines}
    for name, data in (
        ("rows.jsonl.gz", gzip.compress(content.encode(), mtime=0)),
        ("lines.json", (json.dumps(about, indent=1) + "\n").encode()),
        ("table.md", table.encode()),
    ):
        beside = output / f"{name}.tmp"
        beside.write_bytes(data)
        beside.replace(output / name)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", required=True, help="name=path, repeatable")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--lm", type=Path, required=True, help="ARPA file of a word model")
    parser.add_argument("--beams", type=int, nargs="+", default=[16, 64, 100])
    parser.add_argument("--hotwords", type=int, nargs="+", default=[0, 100], help="how many, the rarest first")
    parser.add_argument("--hotword-weight", type=float, default=0.5, help="nats a letter")
    parser.add_argument("--dev", type=Path, help="manifest on which alpha and beta are chosen")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.5, 0.3, 0.8])
    parser.add_argument("--betas", type=float, nargs="+", default=[1.5, 0.0, 3.0])
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=list(ENGINES))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args(arguments)
    if any("=" not in bundle for bundle in args.bundle):
        parser.error("--bundle is name=path")
    return args


@with_exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write rows and tables, and print JSON as the last line."""
    args = parse(arguments)
    rows = []
    for bundle in args.bundle:
        name, _, path = bundle.partition("=")
        rows += bench_bundle(name, Path(path), args)
    lines = lines_of(rows)
    table = markdown(lines)
    save(args.output, rows, lines, table)
    print(table)
    print(json.dumps(summary(rows, lines)))


if __name__ == "__main__":
    raise SystemExit(main())
