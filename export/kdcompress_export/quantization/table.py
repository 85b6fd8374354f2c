"""The search's table, as rows of text and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_export.quantization.rows import Row

COLUMNS = (
    "candidate", "size", "of float32", "whole", "chunk", "p95 ms", "same label", "WER %", "CER %", "difference",
    "S / D / I", "layers", "note",
)  # fmt: skip
"""Headings. ``whole``: speed on a long input (10 s of audio) against float32.
``S / D / I``: substitutions, deletions and insertions beyond float32, a hundred words."""


def table_rows(rows: Sequence[Row], chosen: str = "") -> list[tuple[str, ...]]:
    """One tuple of strings a row, in the order of ``COLUMNS``; the one named ``chosen`` is marked with ``*``."""
    return [_cells(row, chosen) for row in rows]


def markdown(rows: Sequence[Row], chosen: str = "") -> str:
    """A Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *table_rows(rows, chosen)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def _cells(row: Row, chosen: str) -> tuple[str, ...]:
    name = f"{row.name} *" if row.name == chosen else row.name
    if row.refused:
        return (name, *[""] * (len(COLUMNS) - 2), f"refused: {row.refused}")
    small, total = sum(row.quantized.values()), sum(row.quantized.values()) + sum(row.floating.values())
    shift = row.error_shift
    return (
        name,
        _size(row.size_bytes),
        _number(row.size_ratio, "{:.2f}x"),
        _number(row.whole_ratio, "{:.2f}x"),
        _number(row.chunk_ratio, "{:.2f}x"),
        _number(row.chunk.p95 if row.chunk else None, "{:.2f}"),
        _number(100 * row.agreement.argmax_agreement if row.agreement else None, "{:.1f} %"),
        _number(row.rate.wer if row.rate else None, "{:.2f}"),
        _number(row.rate.cer if row.rate else None, "{:.2f}"),
        f"{row.difference.points:+.2f} ({row.difference.low:+.2f} to {row.difference.high:+.2f})"
        if row.difference
        else "",
        " / ".join(f"{value:+.2f}" for value in shift.values()),
        f"{small} of {total}" if small else "",
        row.note,
    )


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.0f} KB"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
