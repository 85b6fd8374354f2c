"""Items that cannot be used: an error that names some of them, or left out, counted and listed."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from kdcompress_runtime.errors import ManifestError, OptionsError

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.data.corpora.base import Unusable

OnUnusable = Literal["error", "skip"]
ENOUGH = 20
"""So many unusable items end the work; one wrong path makes a million of them."""
NAMED = 3
LISTED = 20
"""Items that the report names; ``unusable.jsonl`` has them all."""


class Problems:
    """Collects unusable items into a file, one line each."""

    def __init__(self, path: Path, on_unusable: OnUnusable) -> None:
        if on_unusable not in {"error", "skip"}:
            raise OptionsError(f"on_unusable must be error or skip, found {on_unusable!r}")
        self._path = path
        self._stop = on_unusable == "error"
        self._counts: Counter[str] = Counter()
        self._first: list[dict[str, Any]] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    def add(self, split: str | None, item: Unusable) -> None:
        """Note an item.

        Raises:
            ManifestError: unusable items are an error, and there are enough of them to say so.
        """
        self._counts[item.kind] += 1
        row = {"id": item.id, "split": split, "where": item.where, "kind": item.kind, "reason": item.reason}
        if len(self._first) < LISTED:
            self._first.append(row)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if self.count >= ENOUGH:
            self.check(more=True)

    def check(self, *, more: bool = False) -> None:
        """Refuse to go on where unusable items are an error and there are some.

        Raises:
            ManifestError: so it is; the message names the first.
        """
        if not self._stop or not self._first:
            return
        named = "; ".join(_sentence(row) for row in self._first[:NAMED])
        count = f"{self.count}{' or more' if more else ''}"
        raise ManifestError(
            f"{count} item(s) cannot be used: {named}{'; ...' if self.count > NAMED else ''}. "
            "Mend them, or leave them out with --on-unusable skip (the report lists them)"
        )

    def summary(self) -> dict[str, Any]:
        """Return what the report says of them."""
        return {"count": self.count, "kinds": dict(self._counts.most_common()), "first": self._first}


def _sentence(row: dict[str, Any]) -> str:
    name = f", item {row['id']}" if row["id"] else ""
    return f"{row['where']}{name}: {row['reason']}"
