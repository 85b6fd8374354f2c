"""Rows of ``bench_stream.py`` to numbers and tables."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PERCENTILES = (50, 95, 99)
_RESAMPLES = 2000
_KEY = ("bundle", "precision", "chunk_ms", "mode")


def configurations(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line for each bundle, precision, chunk and mode: both engines, and ours / theirs at the median."""
    keys = list(dict.fromkeys(tuple(row[name] for name in _KEY) for row in rows))
    lines = []
    for key in keys:
        chosen = [row for row in rows if tuple(row[name] for name in _KEY) == key]
        sides = {engine: [row for row in chosen if row["engine"] == engine] for engine in ("ours", "sherpa")}
        line: dict[str, Any] = dict(zip(_KEY, key, strict=True))
        line |= {engine: _engine(side, line["chunk_ms"]) for engine, side in sides.items()}
        line["ratio"] = _ratio(sides, "wall_us")
        line["cpu_ratio"] = _ratio(sides, "cpu_us")
        line["same_tokens"] = _same_tokens(sides)
        lines.append(line)
    return lines


def _engine(rows: Sequence[Mapping[str, Any]], chunk_ms: int) -> dict[str, float]:
    """All turns of one engine together."""
    wall = np.concatenate([row["wall_us"] for row in rows]) / 1000
    cpu = np.concatenate([row["cpu_us"] for row in rows]) / 1000
    audio = len(wall) * chunk_ms / 1000
    seconds = sum(row["seconds"] for row in rows)
    busy = (wall.sum() + sum(row["around_us"][0] for row in rows) / 1000) / 1000
    return {
        "chunks": len(wall),
        **{f"p{percent}_ms": float(np.percentile(wall, percent)) for percent in PERCENTILES},
        "cpu_p50_ms": float(np.median(cpu)),
        "real_time_factor": busy / audio,
        "cpu_share": sum(row["process_cpu_seconds"] for row in rows) / seconds,
        "peak_mb": max(row["peak_mb"] or 0.0 for row in rows),
        "loaded_mb": max(row["loaded_mb"] or 0.0 for row in rows),
        "load_seconds": rows[0]["load_seconds"],
    }


def _ratio(sides: Mapping[str, Sequence[Mapping[str, Any]]], clock: str) -> dict[str, float]:
    """Ours / theirs of the medians over all chunks; the interval resamples rounds, which are pairs of turns."""
    ours, theirs = (np.array([np.median(row[clock]) for row in sides[engine]]) for engine in ("ours", "sherpa"))
    pooled = [float(np.median(np.concatenate([row[clock] for row in sides[engine]]))) for engine in ("ours", "sherpa")]
    chosen = np.random.default_rng(0).integers(0, len(ours), (_RESAMPLES, len(ours)))
    resampled = np.median(ours[chosen], axis=1) / np.median(theirs[chosen], axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"p50": pooled[0] / pooled[1], "low": float(low), "high": float(high)}


def _same_tokens(sides: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    """Share of recordings of the first turn of which both say the same; sherpa-onnx may say more behind the end."""
    pairs = list(zip(sides["ours"][0]["tokens"], sides["sherpa"][0]["tokens"], strict=True))
    return sum(theirs[: len(ours)] == ours for ours, theirs in pairs) / len(pairs)


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The ratio (geometric mean over all configurations; ours / theirs at p50), its parts, and where it was made."""
    lines = found["configurations"]
    ratios = {
        f"{line['bundle']} {line['precision']} {line['chunk_ms']} ms {line['mode']}": line["ratio"]["p50"]
        for line in lines
    }
    by_cpu = [line["cpu_ratio"]["p50"] for line in lines]
    return {
        "ratio": _mean(list(ratios.values())),
        "cpu_ratio": _mean(by_cpu),
        "worst": max(ratios.values()),
        "within_budget": max(ratios.values()) <= 1.0,
        "ratios": ratios,
        "cpu": _cpu_name(),
        "versions": {name: _version(name) for name in ("onnxruntime", "sherpa-onnx", "numpy")},
    }


def _mean(ratios: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def _cpu_name() -> str:
    from pathlib import Path

    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def stream_markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """One row a configuration and engine."""
    table = [
        "| precision | chunk | mode | engine | p50 ms | p95 | p99 | CPU p50 | RTF | CPU | peak MB | ours / theirs |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for line in lines:
        for engine in ("ours", "sherpa"):
            one, ratio = line[engine], line["ratio"]
            told = f"**{ratio['p50']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})" if engine == "ours" else ""
            times = " | ".join(f"{one[f'p{percent}_ms']:.2f}" for percent in PERCENTILES)
            table.append(
                f"| {line['precision']} | {line['chunk_ms']} ms | {line['mode']} | {engine} | {times} | "
                f"{one['cpu_p50_ms']:.2f} | {one['real_time_factor']:.4f} | {100 * one['cpu_share']:.1f} % | "
                f"{one['peak_mb']:.0f} | {told} |"
            )
    same = min(line["same_tokens"] for line in lines)
    table.append(f"\nBoth recognise the same tokens in at least {100 * same:.0f} % of the recordings.")
    return "\n".join(table) + "\n"


def parts_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the time goes, one row a configuration; medians of CPU time in ms."""
    if not rows:
        return ""
    ours = ("whole", "frontend", "model", "decoder", "result", "glue")
    theirs = ("whole", "features", "model and decoder", "result")
    columns = [*(f"ours: {one}" for one in ours), *(f"sherpa: {one}" for one in theirs)]
    table = [
        "Where the CPU time of a chunk goes (ms, medians, back-to-back):\n",
        f"| precision | chunk | {' | '.join(columns)} |",
        "| --- | ---: |" + " ---: |" * len(columns),
    ]
    for row in rows:
        cells = [f"{row['ours'][name]['cpu']:.3f}" for name in ours]
        cells += [f"{row['sherpa'][name]['cpu']:.3f}" for name in theirs]
        table.append(f"| {row['precision']} | {row['chunk_ms']} ms | {' | '.join(cells)} |")
    return "\n".join(table) + "\n"
