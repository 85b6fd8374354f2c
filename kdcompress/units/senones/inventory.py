"""Senones as units of text: words, their phones, each phone between its neighbours, a leaf of the tree."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcompress.errors import VocabularyError
from kdcompress.units.content import checked_symbols, damaged
from kdcompress.units.inventory import Inventory, Spelled
from kdcompress.units.senones.tree import tree_from_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress.units.senones.moments import Ints
    from kdcompress.units.senones.tree import Tree

VERSION = 1
"""Of the file."""


class SenoneInventory(Inventory):
    """Leaves of a tree over the units of another inventory, ``states`` of them a phone.

    Symbols are ``AH_2_17``: phone, state and number among the leaves of this state, both from 1. Neighbours are taken
    across words; at both ends of a text there is silence.

    Raises:
        VocabularyError: the tree is about other phones.
    """

    kind: ClassVar[str] = "senones"

    def __init__(self, phones: Inventory, tree: Tree, source: str = "senones") -> None:
        if phones.symbols != tree.phones:
            different = sorted(set(phones.symbols) ^ set(tree.phones)) or ["their order"]
            raise VocabularyError(
                f"{source}: the tree has {len(tree.phones)} phones, the inventory {len(phones.symbols)}, different in "
                f"{', '.join(different[:5])}; build the senones again"
            )
        self.phones, self.tree = phones, tree
        self.symbols = _symbols(tree)

    @property
    def states(self) -> int:
        """Units of each phone."""
        return self.tree.states

    def phone_of(self, unit: int) -> str:
        """Phone of a senone; where phones share one, that of most of its frames."""
        return self.tree.phones[int(self.tree.leaf_phone[unit])]

    def spell(self, text: str, where: str = "text") -> Spelled:
        """See ``Inventory.spell``."""
        spelled = self.phones.spell(text, where)
        ids = self.leaves_of(np.array(spelled.ids, dtype=np.int64))
        return Spelled(tuple(ids.tolist()), tuple(word for word in spelled.words for _ in range(self.states)))

    def leaves_of(self, phones: Ints) -> Ints:
        """Senones of phones ``(N,)`` that follow one another between silences: ``(N * states,)``."""
        silence = len(self.tree.phones)
        padded = np.concatenate([[silence], phones, [silence]]).astype(np.int64)
        around = np.stack([padded[:-2], padded[1:-1], padded[2:]], axis=1).repeat(self.states, axis=0)
        states = np.tile(np.arange(self.states), len(phones))
        return self.tree.leaves(np.concatenate([around, states[:, None]], axis=1))

    def shares(self, ids: Sequence[int]) -> tuple[float, ...]:
        """Mean frames of each senone in the data that the tree was grown from."""
        tree = self.tree
        usual = tree.leaf_frames.sum() / max(1.0, tree.leaf_visits.sum()) or 1.0
        seen = tree.leaf_frames > 0
        mean = np.where(seen, tree.leaf_frames / np.maximum(tree.leaf_visits, 1.0), usual)
        return tuple(mean[np.array(ids, dtype=np.int64)].tolist())

    def to_json(self) -> dict[str, Any]:
        """See ``Inventory.to_json``; the phones are inside."""
        return {
            "kind": self.kind,
            "version": VERSION,
            "phones": self.phones.to_json(),
            "symbols": list(self.symbols),
            "tree": self.tree.to_json(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> SenoneInventory:
        """See ``Inventory.from_json``."""
        from kdcompress.units.opening import open_inventory

        symbols = checked_symbols(content, cls.kind, source)
        if missing := [part for part in ("version", "phones", "tree") if part not in content]:
            raise damaged(source, f"its senones are without {', '.join(missing)}")
        if content["version"] != VERSION:
            raise VocabularyError(
                f"{source}: senones of version {content['version']!r}, this reads {VERSION}; install the kdcompress "
                "that made them"
            )
        phones = open_inventory(content["phones"], source)
        found = cls(phones, tree_from_json(content["tree"], phones.symbols, source), source)
        if found.symbols != symbols:
            raise damaged(source, "the symbols are not those of its tree")
        return found


def _symbols(tree: Tree) -> tuple[str, ...]:
    """Phone, state, number."""
    numbers: Counter[tuple[int, int]] = Counter()
    found = []
    for phone, state in zip(tree.leaf_phone.tolist(), tree.leaf_state.tolist(), strict=True):
        numbers[phone, state] += 1
        found.append(f"{tree.phones[phone]}_{state + 1}_{numbers[phone, state]}")
    return tuple(found)
