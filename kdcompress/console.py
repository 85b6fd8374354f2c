"""What the commands print: errors, progress, tables. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PLAIN_EVERY = 10
"""Without a terminal, progress is a line each time another 1/10 is done."""


def stderr() -> Console:
    """Return a console on the standard error of this moment."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def stdout() -> Console:
    """Return a console on the standard output of this moment."""
    return Console(soft_wrap=True, highlight=False)


def error(message: str) -> None:
    """Print one clear sentence to stderr."""
    stderr().print(f"error: {message}", style="red", markup=False)


def info(message: str) -> None:
    """Print a remark to stderr."""
    stderr().print(message, markup=False)


class _Remarks(logging.Handler):
    """Prints what the library logs as remarks."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler.emit``."""
        info(record.getMessage())


@contextmanager
def remarks() -> Iterator[None]:
    """Print what the library logs, from ``info`` on, to stderr meanwhile."""
    logger, handler = logging.getLogger("kdcompress"), _Remarks()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``update(done, total, remark)``: a bar on a terminal, a line now and then elsewhere."""
    console = stderr()
    if not console.is_terminal:
        yield _plain_progress(title)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[remark]}"), console=console) as progress:
        task = progress.add_task(title, total=None, remark="")
        yield lambda done, total, remark: progress.update(task, completed=done, total=total, remark=remark)


def _plain_progress(title: str) -> Callable[[int, int, str], None]:
    shown = -1

    def update(done: int, total: int, remark: str) -> None:
        nonlocal shown
        tenth = PLAIN_EVERY * done // max(1, total)
        if tenth != shown:
            shown = tenth
            sys.stderr.write(f"{title}: {done}/{total} {remark}".rstrip() + "\n")
            sys.stderr.flush()

    return update


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: bool = False) -> None:
    """Print a table to stdout; the first column is left-aligned, the others right unless ``left``."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if left or index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    stdout().print(table)


def print_columns(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print lines of aligned columns that are never wrapped: for tables too wide for most terminals."""
    lines = [tuple(columns), *map(tuple, rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        stdout().print(padded.rstrip(), markup=False, soft_wrap=True, highlight=False)
