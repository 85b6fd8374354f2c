"""Pieces of Markdown: escaped text, tables, figures with their intervals, word diffs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kdcompress_evaluation import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kdcompress_evaluation.bootstrap import Estimate
    from kdcompress_evaluation.percentiles import Percentiles
    from kdcompress_evaluation.scoring import DiffPiece

_TICKS = re.compile("`+")


def text(content: str) -> str:
    """Escape what Markdown or HTML would read as markup; one line."""
    content = content.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", " ".join(content.split()))


def code(content: str) -> str:
    """A code span for a path or a hash, safe inside a table."""
    content = " ".join(content.split()).replace("|", "\\|")
    return f"`{content}`" if "`" not in content else f"`` {content.replace('``', '` `')} ``"


def block(content: str) -> Iterator[str]:
    """A block of code, fenced by more backticks than it holds in a row."""
    fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(content)), default=0))
    yield from (fence, *content.splitlines(), fence)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Iterator[str]:
    """A table and an empty line; the first ``left`` columns aligned left, the others right."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "|".join("---" if i < left else "---:" for i in range(len(head))) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def rate(estimate: Estimate) -> str:
    """``7.12 (6.20 to 8.10)``, in percent."""
    return _with(words.percent(estimate.value), words.interval(estimate))


def moved(estimate: Estimate | None, missing: str = words.MISSING) -> str:
    """``−0.05 (−0.41 to +0.32)``, in points."""
    return missing if estimate is None else _with(words.points(estimate.value), words.points_interval(estimate))


def ratio(estimate: Estimate | None, missing: str = words.MISSING) -> str:
    """``3.41 (3.28 to 3.55)``."""
    if estimate is None:
        return missing
    ends = (
        ""
        if estimate.low is None or estimate.high is None
        else f"{words.number(estimate.low, 2)} to {words.number(estimate.high, 2)}"
    )
    return _with(words.number(estimate.value, 2), ends)


def _with(value: str, interval: str) -> str:
    return value if interval in {"", words.MISSING} else f"{value} ({interval})"


def spread(found: Percentiles | None, names: Sequence[str], write: Callable[[float], str] = words.milliseconds) -> str:
    """Some of the percentiles, ``1.20 / 2.10``."""
    return words.MISSING if found is None else " / ".join(write(getattr(found, name)) for name in names)


def of(part: int, whole: int) -> str:
    """``98 of 100``."""
    return f"{part:,} of {whole:,}" if whole else words.MISSING


def share(value: float | None, digits: int = 0) -> str:
    """A fraction as ``17 %``."""
    return words.MISSING if value is None else f"{100 * value:.{digits}f} %"


def diff(pieces: Sequence[DiffPiece], between: str = " ") -> str:
    """Deleted words (characters) struck out, inserted ones bold, substitutions both; ``between`` stands between."""
    shown = []
    for piece in pieces:
        # A space at the end of a run of characters must not be lost, nor stand inside the marks.
        wanted, found = (one if between else one.replace(" ", "␣") for one in (piece.reference, piece.hypothesis))
        if piece.kind == "equal":
            shown.append(text(piece.reference) if between else _spaced(piece.reference))
            continue
        shown += [f"~~{text(wanted)}~~"] if wanted else []
        shown += [f"**{text(found)}**"] if found else []
    return between.join(shown)


def _spaced(content: str) -> str:
    """Escaped text that keeps the spaces at its ends."""
    inside = content.strip()
    if not inside:
        return content
    first = content.index(inside)
    return f"{content[:first]}{text(inside)}{content[first + len(inside) :]}"
