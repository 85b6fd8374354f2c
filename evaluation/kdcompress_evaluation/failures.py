"""Utterances that could not be recognised: the first ones with the reason, and how many there are."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from kdcompress_evaluation.summary import Failure

if TYPE_CHECKING:
    from kdcompress_evaluation.rows import Row

_SHOWN = 50


class Failures:
    """Collect failed rows in any order; the texts of a few are kept."""

    def __init__(self) -> None:
        self._utterances: set[tuple[int, int]] = set()
        self._first: dict[str, list[tuple[int, int, str, str, str, str]]] = {}

    @property
    def count(self) -> int:
        """Distinct utterances that failed for at least one variant."""
        return len(self._utterances)

    def add(self, manifest: int, name: str, variant: str, row: Row) -> None:
        """Note a row if it failed."""
        if row.error is None:
            return
        self._utterances.add((manifest, row.index))
        # The first ones of all variants together are among the first ones of each.
        first = self._first.setdefault(variant, [])
        insort(first, (manifest, row.index, row.error_kind or "model", row.error, name, row.id))
        del first[_SHOWN:]

    def first(self, variants: list[str]) -> tuple[Failure, ...]:
        """The first ones in the order of the manifests, each with the variants that it befell for the same reason."""
        found: dict[tuple[int, int, str, str, str, str], list[str]] = {}
        for variant in variants:
            for failure in self._first.get(variant, []):
                found.setdefault(failure, []).append(variant)
        return tuple(
            Failure(manifest=manifest, id=key, kind=kind, error=error, variants=tuple(found[item]))
            for item in sorted(found)[:_SHOWN]
            for _, _, kind, error, manifest, key in [item]
        )
