#!/usr/bin/env python3
"""Checks of single files for pre-commit: ``text`` (ends of lines and files) and ``size`` (at most 300 kB)."""

from __future__ import annotations

import sys
from pathlib import Path

LARGEST = 300_000


def text_problem(path: Path) -> str | None:
    """What is wrong with the ends of a text file, if anything."""
    content = path.read_bytes()
    if content and (not content.endswith(b"\n") or content.endswith(b"\n\n")):
        return "must end with one newline"
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line != line.rstrip():
            return f"line {number} ends with a blank"
    return None


def size_problem(path: Path) -> str | None:
    """Whether a file is too large for the repository."""
    size = path.stat().st_size
    return f"{size} bytes, at most {LARGEST} belong here" if size > LARGEST else None


def main(arguments: list[str]) -> int:
    """Check the files named after the kind of check; 1 if one of them fails."""
    check = {"text": text_problem, "size": size_problem}[arguments[0]]
    problems = [(name, check(Path(name))) for name in arguments[1:] if Path(name).is_file()]
    for name, problem in problems:
        if problem:
            sys.stderr.write(f"{name}: {problem}\n")
    return int(any(problem for _, problem in problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
