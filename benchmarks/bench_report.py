"""``kdcompress eval`` on many utterances: cost, memory, and what a kill costs.

Parts:

- ``scale``: manifests of growing size from the same recordings; seconds an utterance, peak memory of the command, of
  the process that runs the model, and of deriving the report again from the rows
- ``kill``: the largest of them, killed (kill -9) at random moments and repeated until it is done; rows that were there
  must stay, and the end must equal an undisturbed run

Usage: python benchmarks/bench_report.py --bundle BUNDLE --manifest TEST.jsonl [--sizes 1250 2500 5000 10000]

Tables go to ``--save``. Recordings are repeated under new ids, so error rates mean nothing here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from exit_codes import with_exit_code

from kdcompress.files import write_text
from kdcompress_evaluation.rows import iterate_rows
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_POLL = 0.05
_NAME = "many"


@with_exit_code
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the parts that were asked for and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=("scale", "kill"), default=["scale", "kill"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1250, 2500, 5000, 10000])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--kill-after", type=float, nargs=2, default=[5.0, 15.0], help="seconds, at random between")
    parser.add_argument("--max-duration", type=float, default=2.5, help="seconds; longer recordings are left out")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-report"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/report"))
    args = parser.parse_args(argv)
    found = {}
    if "scale" in args.parts:
        found["scale"] = [scale(args, size) for size in args.sizes]
    if "kill" in args.parts:
        found["kill"] = kill(args, max(args.sizes), random.Random(0))  # noqa: S311 - moments, not secrets
    for name, rows in found.items():
        write_text(args.save / f"{name}.json", json.dumps(rows, indent=1) + "\n")
        write_text(args.save / f"{name}.md", table(rows))
        print(table(rows))


def scale(args: argparse.Namespace, size: int) -> dict[str, Any]:
    """Evaluate ``size`` utterances, then derive the report again."""
    manifest = repeat(args, size)
    report = args.work / f"scale-{size}"
    whole = watch(command(args, manifest, report))
    again = watch(["eval", "--rows", str(report)])
    return {
        "utterances": size,
        "seconds": round(whole["seconds"], 1),
        "ms an utterance": round(1000 * whole["seconds"] / size, 2),
        "peak MB, command": round(whole["peak"] / 1e6, 1),
        "peak MB, model's process": round(whole["peak_children"] / 1e6, 1),
        "seconds to derive": round(again["seconds"], 1),
        "peak MB, deriving": round(again["peak"] / 1e6, 1),
    }


def kill(args: argparse.Namespace, size: int, chance: random.Random) -> list[dict[str, Any]]:
    """Kill the evaluation again and again; what was there must stay."""
    manifest = repeat(args, size)
    report, reference = args.work / f"kill-{size}", args.work / f"scale-{size}"
    if not (reference / "report.json").is_file():
        watch(command(args, manifest, reference))
    rows: list[dict[str, Any]] = []
    for number in range(args.kills):
        before = texts(report)
        process = start(command(args, manifest, report))
        time.sleep(chance.uniform(*args.kill_after))
        stop(process)
        after = texts(report)
        lost = sum(after.get(key) != text for key, text in before.items())
        rows.append({"kill": number + 1, "rows before": len(before), "rows after": len(after), "rows lost": lost})
    watch(command(args, manifest, report))
    same = texts(report) == texts(reference)
    verdict = "none: equal to an undisturbed run" if same else "NOT EQUAL to an undisturbed run"
    done = len(texts(report))
    rows.append({"kill": "to the end", "rows before": rows[-1]["rows after"], "rows after": done, "rows lost": verdict})
    return rows


def repeat(args: argparse.Namespace, size: int) -> Path:
    """Write a manifest of ``size`` lines that takes the recordings of another one in turn."""
    entries = [e for e in read_manifest(args.manifest) if (e.duration or 0) <= args.max_duration]
    lines = (entries[i % len(entries)] for i in range(size))
    path: Path = args.work / f"{size}.jsonl"
    write_text(path, "".join(json.dumps({
        "id": f"{number}-{entry.id}", "audio_filepath": str(Path(entry.input).resolve()), "text": entry.text,
        "duration": entry.duration, "speaker": f"{entry.speaker}",
    }) + "\n" for number, entry in enumerate(lines)))  # fmt: skip
    return path


def command(args: argparse.Namespace, manifest: Path, report: Path) -> list[str]:
    """The evaluation: texts and streams, no timing."""
    words = ["eval", str(args.bundle), "--manifest", f"{_NAME}={manifest}", "-o", str(report)]
    return [*words, "--precision", args.precision, "--no-speed"]


def start(words: Sequence[str]) -> psutil.Popen:
    """Start a command of kdcompress in a session of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return psutil.Popen(
        [sys.executable, "-m", "kdcompress", *words], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def stop(process: psutil.Popen) -> None:
    """Kill the command; the process of the model must notice by itself."""
    children = process.children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    if alive:
        message = f"the model's process outlives a killed command: {alive}"
        raise RuntimeError(message)


def watch(words: Sequence[str]) -> dict[str, float]:
    """Run a command to its end; seconds, and peak resident bytes of itself and of its children."""
    begin, process = time.perf_counter(), start(words)
    peak = peak_children = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            peak_children = max(
                [peak_children, *(child.memory_info().rss for child in process.children(recursive=True))]
            )
        except psutil.NoSuchProcess:
            pass
        time.sleep(_POLL)
    if process.returncode:
        message = f"kdcompress {' '.join(words)} ended with exit code {process.returncode}"
        raise RuntimeError(message)
    return {"seconds": time.perf_counter() - begin, "peak": peak, "peak_children": peak_children}


def texts(report: Path) -> dict[int, str]:
    """What was recognised so far, by position in the manifest."""
    return {row.index: row.hypothesis for name in variants(report) for row in iterate_rows(report, name, _NAME)}


def variants(report: Path) -> Iterator[str]:
    """Variants of a report that was begun."""
    run = report / "rows" / "run.json"
    if run.is_file():
        yield from (variant["name"] for variant in json.loads(run.read_text(encoding="utf-8"))["variants"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    head = list(rows[0])
    lines = [head, ["---:"] * len(head), *([str(row[key]) for key in head] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
