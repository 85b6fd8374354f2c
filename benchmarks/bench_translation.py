"""English to Swedish in one step: CTC students from labels, from sentences of an autoregressive teacher, from CTC teachers.

Everyday sentences (Tatoeba, 17,423 pairs to train on). Students of one recipe at equal updates on the same batches,
three seeds; one set of teachers. Parts:

- ``students``: labels only, sentences of the autoregressive teacher (Kim and Rush, arXiv 1606.07947), posteriors of a
  conventional and of an Oracle Teacher, and both kinds together: chrF and BLEU of the test set
- ``leak``: does the Oracle Teacher read the source, or copy the target?
- ``speed``: sentences a second of the best student's bundle and of the autoregressive teacher, in turns, one thread

Usage: python benchmarks/bench_translation.py --pairs FOLDER --teacher FOLDER [--parts ...] [--seeds 1 2 3]

The pairs are not part of the repository; ``marian.py`` makes the autoregressive teacher. Interrupt it at will; it goes
on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml
from exit_codes import with_exit_code
from task_scores import save, score_runs

from kdcompress.errors import DataNotFoundError
from kdcompress.files import write_text
from kdcompress.steps import Step, path_setting, run_steps, training_step
from kdcompress_evaluation.metrics import metrics_for
from kdcompress_evaluation.scoring import NORMALISERS

PARTS = ("students", "leak", "speed")
BASELINE = "labels only"
SEQUENCES = "sequences"
"""Store of the autoregressive teacher's sentences."""

METHODS: dict[str, tuple[tuple[str, ...], list[dict[str, object]]]] = {
    BASELINE: ((), [{"kind": "ctc"}]),
    "sentences of the autoregressive teacher": ((SEQUENCES,), [{"kind": "nbest", "size": 1}]),
    "sentences and labels": (
        (SEQUENCES,),
        [{"kind": "ctc", "weight": 0.5}, {"kind": "nbest", "size": 1, "weight": 0.5}],
    ),
    "conventional": (("conventional",), [{"kind": "ctc", "weight": 0.5}, {"kind": "frame_kl", "weight": 0.5}]),
    "oracle": (("oracle",), [{"kind": "ctc", "weight": 0.5}, {"kind": "frame_kl", "weight": 0.5}]),
}
"""Teachers and losses."""


@with_exit_code
def main(argv: list[str] | None = None) -> None:
    """Train teachers, store sentences, train students, and do the parts."""
    args = parse(argv)
    run_steps([*teachers(args), store(args)], args.output / "logs", args.workers)
    run_steps([sweep(args, seed) for seed in args.seeds], args.output / "logs", args.workers)
    for part in args.parts:
        {"students": students, "leak": leak, "speed": speed}[part](args)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=Path("../shared/data/tatoeba_en_sv"))
    parser.add_argument("--teacher", type=Path, default=Path("runs/translation/marian"))
    parser.add_argument("--output", type=Path, default=Path("runs/bench-translation"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/translation"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--updates", type=int, default=2000, help="of students")
    parser.add_argument("--teacher-updates", type=int, default=2500)
    parser.add_argument("--oracle-updates", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--subwords", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    wanted = [*(args.pairs / f"{split}.jsonl" for split in ("train", "dev", "test")), args.teacher / "config.json"]
    for file in wanted:
        if not file.is_file():
            message = f"{file}: not here; name pairs and teacher with --pairs and --teacher (see --help)"
            print(f"error: {DataNotFoundError(message)}", file=sys.stderr)
            raise SystemExit(1)
    return args
