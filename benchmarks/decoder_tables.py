"""Rows of ``bench_decoder.py`` to numbers and tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.bootstrap import bootstrap_rate, paired_difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench_decoder import Row

_KEY = ("bundle", "beam", "lm", "hotwords")
RIVAL, MINE = "pyctcdecode", "native"
BUDGET = 10.0
"""Times as many utterances a second as the rival."""
BUDGET_BEAM = 64


def lines_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line for each model, beam, language model or not, number of hotwords, and engine."""
    keys = list(dict.fromkeys((*(getattr(row, name) for name in _KEY), row.engine) for row in rows))
    lines = []
    for key in keys:
        chosen = [row for row in rows if (*(getattr(row, name) for name in _KEY), row.engine) == key]
        estimate = bootstrap_rate([row.errors for row in chosen], [row.words for row in chosen])
        chunks = np.concatenate([row.chunk_us for row in chosen]) / 1000
        lines.append(
            {
                **dict(zip(_KEY, key[:-1], strict=True)),
                "engine": key[-1],
                "alpha": chosen[0].alpha,
                "beta": chosen[0].beta,
                "utterances": len(chosen),
                "utterances_a_second": len(chosen) / sum(row.seconds for row in chosen),
                "wer": 100 * (estimate.value or 0.0),
                "wer_interval": [100 * (end or 0.0) for end in (estimate.low, estimate.high)],
                "chunk_ms": {f"p{p}": float(np.percentile(chunks, p)) for p in (50, 95)} if chunks.size else None,
            }
        )
    return lines


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lay out the lines: one row a configuration and engine, with the rival's speed as 1."""
    head = "| model | beam | LM | hotwords | engine | utterances / s | x pyctcdecode | WER % | chunk p50 / p95 ms |"
    body = []
    for line in lines:
        rival = _find(lines, line, RIVAL)
        times = f"{line['utterances_a_second'] / rival['utterances_a_second']:.1f}" if rival else "-"
        chunk = f"{line['chunk_ms']['p50']:.3f} / {line['chunk_ms']['p95']:.3f}" if line["chunk_ms"] else "-"
        body.append(
            f"| {line['bundle']} | {line['beam']} | {'yes' if line['lm'] else 'no'} | {line['hotwords']} "
            f"| {line['engine']} | {line['utterances_a_second']:.1f} | {times} | {line['wer']:.2f} | {chunk} |"
        )
    return "\n".join([head, "|" + "---|" * 9, *body, ""])


def summary(rows: Sequence[Row], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ours against the rival at beam 64 with the language model, for each model; see ``BUDGET``."""
    found = {}
    for line in lines:
        rival = _find(lines, line, RIVAL)
        if line["engine"] != MINE or rival is None or not line["lm"] or line["hotwords"]:
            continue
        if line["beam"] != BUDGET_BEAM and any(other["beam"] == BUDGET_BEAM for other in lines):
            continue
        ratio = line["utterances_a_second"] / rival["utterances_a_second"]
        difference = asdict(_difference(rows, line))
        found[line["bundle"]] = {
            "beam": line["beam"],
            "ratio": ratio,
            **{engine["engine"]: _parts(engine) for engine in _same(lines, line)},
            "wer_minus_rival": {name: None if value is None else 100 * value for name, value in difference.items()},
            "met": bool(ratio >= BUDGET and (difference["low"] or 0.0) <= 0.0),
        }
    return {
        "benchmark": "decoder",
        "ratio": min((one["ratio"] for one in found.values()), default=None),
        "budget": BUDGET,
        "models": found,
    }


def _parts(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in ("utterances_a_second", "wer", "alpha", "beta", "chunk_ms")}


def _difference(rows: Sequence[Row], line: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an Estimate
    chosen = [row for row in rows if all(getattr(row, name) == line[name] for name in _KEY)]
    errors = {engine: [row.errors for row in chosen if row.engine == engine] for engine in (MINE, RIVAL)}
    words = [row.words for row in chosen if row.engine == MINE]
    return paired_difference(errors[MINE], errors[RIVAL], words)


def _same(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [other for other in lines if all(other[name] == line[name] for name in _KEY)]


def _find(lines: Sequence[Mapping[str, Any]], line: Mapping[str, Any], engine: str) -> Mapping[str, Any] | None:
    return next((other for other in _same(lines, line) if other["engine"] == engine), None)
