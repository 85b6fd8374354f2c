#!/usr/bin/env python3
"""Cold start: what the import costs, how long a bundle takes to load, and when the first token is there.

Usage: python benchmarks/bench_cold.py --bundle BUNDLE --manifest MANIFEST.jsonl [--lm LM.kdlm] [--rounds 25]

Every start is a fresh interpreter; variants take turns. The disk's cache is warm and bytecode is compiled (a first
round is not counted), so this is the start of an installed program, not of a machine.

- import: ``import kdcompress_runtime`` after ``import numpy, onnxruntime`` in the same process (budget: 30 ms), and
  as a check the same between processes: all of ``ours`` up to there less all of ``bare``, which imports those two.
- load: ``Recognizer.from_dir``, hashes checked, with the language model where one is given.
- first token: the recording is fed in chunks of the bundle, as fast as they are taken, until there is text.
- cold start to first token (budget: 200 ms): import + load + first token; numpy and onnxruntime, which any such
  program imports, and the interpreter are reported beside it and not counted, and ``everything`` counts them, too.

Rows and the table go to benchmarks/results/stream; the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench_stream import keep_recordings, one_thread, prepare, write
from exit_codes import with_exit_code

from kdcompress_runtime import Bundle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
IMPORT_BUDGET_MS, START_BUDGET_MS = 30.0, 200.0
STEPS = ("interpreter", "import_numpy_and_engine", "import", "load", "first_token")
COUNTED = ("import", "load", "first_token")


def variants(bundle: Path, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Name and settings of everything that is started."""
    metadata = Bundle.open(bundle).metadata
    folder = prepare(bundle, [metadata.chunk_frames], args.work)[metadata.chunk_frames]
    stored = args.work / f"{bundle.name}-audio.npz"
    keep_recordings(args.manifest, metadata, 1, stored)
    audio = args.work / f"{bundle.name}-first.npy"
    with np.load(stored) as recordings:
        np.save(audio, np.pad(recordings["00000"], (0, metadata.input.sample_rate or 16000)))
    told = json.loads((folder / "sherpa-onnx.json").read_text(encoding="utf-8"))
    common = {
        "audio": str(audio),
        "rate": metadata.input.sample_rate,
        "size": metadata.chunk_frames * metadata.input.units_per_frame,
    }
    found: dict[str, dict[str, Any]] = {"bare": {"variant": "bare"}}
    beam: dict[str, Any] = {"kind": "beam"}
    for model in metadata.models:
        one = {**common, "variant": "ours", "path": str(bundle), "precision": model.precision, "lm": None}
        found[f"ours {model.precision} greedy"] = {**one, "decoder": {}}
        if model.precision == metadata.default_precision:
            found[f"ours {model.precision} beam"] = {**one, "decoder": beam}
            if args.lm is not None:
                found[f"ours {model.precision} beam + LM"] = {**one, "decoder": beam, "lm": str(args.lm)}
        theirs = {
            "path": str(folder / told["models"][model.precision]["streaming"]),
            "tokens": str(folder / "tokens.txt"),
        }
        found[f"sherpa {model.precision} greedy"] = {
            **common,
            **theirs,
            "variant": "sherpa",
            "feature_dim": told["feature_dim"],
        }
    return found


def compiled(work: Path) -> dict[str, str]:
    """The environment of a program that was installed: its bytecode is kept, as pip keeps it."""
    environment = {**one_thread(), "PYTHONPYCACHEPREFIX": str((work / "bytecode").resolve())}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def start(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, float]:
    """Start one process; milliseconds of each step."""
    began = time.clock_gettime(time.CLOCK_MONOTONIC) if hasattr(time, "clock_gettime") else time.monotonic()
    command = [sys.executable, str(HERE / "cold_worker.py"), str(began), json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"cold_worker.py ended with {done.returncode}; its message stands above")
    told = json.loads(done.stdout.splitlines()[-1])
    return {step: 1000 * told[step] for step in STEPS if step in told}


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians in ms, by variant; sums are made start by start."""
    found = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        chosen = [row for row in rows if row["name"] == name]
        line = {step: float(np.median([row[step] for row in chosen])) for step in STEPS if step in chosen[0]}
        if "first_token" in line:
            for key, steps in (("cold_start", COUNTED), ("everything", STEPS)):
                sums = np.array([sum(row[step] for step in steps) for row in chosen])
                line |= {key: float(np.median(sums)), f"{key}_p95": float(np.percentile(sums, 95))}
        found[name] = line
    return found


def conclude(lines: Mapping[str, Mapping[str, float]], default: str) -> dict[str, Any]:
    """The ratio (our cold start / theirs, interpreter and engine counted), its parts, and the budgets."""
    ours, theirs = lines[f"ours {default} greedy"], lines[f"sherpa {default} greedy"]
    until = ("interpreter", "import_numpy_and_engine", "import")
    between = sum(ours[step] for step in until) - sum(lines["bare"][step] for step in until[:2])
    starts = {name: line["cold_start"] for name, line in lines.items() if name.startswith("ours")}
    return {
        "ratio": ours["everything"] / theirs["everything"],
        "ours_ms": ours["everything"],
        "sherpa_ms": theirs["everything"],
        "import_ms": ours["import"],
        "import_between_processes_ms": between,
        "cold_start_to_first_token_ms": starts,
        "within_budget": {
            "import": ours["import"] <= IMPORT_BUDGET_MS,
            "cold_start": max(starts.values()) < START_BUDGET_MS,
        },
    }


def markdown(lines: Mapping[str, Mapping[str, float]], rounds: int) -> str:
    """One row a variant."""
    columns = (*STEPS, "cold_start", "cold_start_p95", "everything")
    table = [
        f"Cold start, ms, medians of {rounds} fresh processes each, taking turns.\n",
        "| variant | interpreter | numpy, engine | import | load | first token | **these three** | p95 | everything |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for name, line in lines.items():
        cells = [f"{line[column]:.1f}" if column in line else "" for column in columns]
        table.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(table) + "\n"


@with_exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    """Start everything in turns, write rows and table, print JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True, help="its first recording of 2 s and more is fed")
    parser.add_argument("--lm", type=Path, help="language model for a beam; left out: none")
    parser.add_argument("--rounds", type=int, default=25, help="starts of each variant")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-stream"))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stream")
    args = parser.parse_args(arguments)
    plan, environment = variants(args.bundle, args), compiled(args.work)
    rows = []
    for index in range(args.rounds + 1):
        for name, settings in plan.items():
            times = start(settings, environment)
            if index:
                rows.append({"name": name, "round": index, **times})
    lines = summarise(rows)
    ended = conclude(lines, Bundle.open(args.bundle).metadata.default_precision)
    name = f"cold-{args.bundle.name.removesuffix('-bundle')}"
    table = markdown(lines, args.rounds)
    write(args.output / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(args.output / f"{name}.md", table)
    write(args.output / f"{name}.json", json.dumps({**ended, "variants": lines}, indent=1) + "\n")
    print(table)
    print(json.dumps(ended))


if __name__ == "__main__":
    sys.exit(main())
