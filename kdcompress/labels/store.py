"""A complete store of labels, read by memory map: any item at once, whatever the size, in the same memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from kdcompress.errors import LabelStoreError
from kdcompress.labels.folder import StoreFolder
from kdcompress.labels.index import read_index
from kdcompress.labels.kinds import label_kind
from kdcompress.labels.plan import Plan
from kdcompress.labels.shard import Shard, damaged
from kdcompress.labels.table import UNLABELLED, open_table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from kdcompress.labels.kinds.base import Arrays

TEXTS = "texts"
"""Column of the item table that counts the texts of an item."""
OPEN_SHARDS = 64
"""Shards that stay open; the system drops their pages by itself when it needs the memory."""


class LabelStore:
    """Looks items up by their places among the entries of the manifest."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            LabelStoreError: it is missing, unfinished or damaged.
        """
        self.folder = StoreFolder(path)
        self.index: dict[str, Any] = read_index(self.folder.index)
        """Content of ``index.json``."""
        self.plan = Plan.from_json(self.index)
        self.kind = label_kind(self.plan.settings(), len(self.plan.teacher["vocabulary"]))
        self.rows = self._table()
        self._fingerprint = self.plan.fingerprint()
        self._shards: OrderedDict[int, Shard] = OrderedDict()

    def _table(self) -> NDArray[np.void]:
        try:
            return open_table(self.folder.table, self.kind, int(self.plan.manifest["items"]))
        except (OSError, ValueError) as error:
            raise damaged(self.folder.table, f"it cannot be read ({error})") from error

    @property
    def untold(self) -> int | None:
        """Items that were labelled, and of which the teacher had no text to give; None for labels that are no texts."""
        if TEXTS not in (self.rows.dtype.names or ()):
            return None
        return int(((self.rows["length"] != UNLABELLED) & (self.rows[TEXTS] == 0)).sum())

    def shard(self, number: int) -> Shard:
        """One of the files, open.

        Raises:
            LabelStoreError: it is missing or damaged, or belongs to another store.
        """
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        shard = Shard(self.folder.shard(number), self.kind, self._fingerprint)
        self._shards[number] = shard
        if len(self._shards) > OPEN_SHARDS:
            self._shards.popitem(last=False)
        return shard

    def item(self, place: int) -> tuple[np.void, Arrays]:
        """Row and arrays of the item at a place, checked.

        Raises:
            LabelStoreError: there is no such item, or it has no labels, or they are damaged.
        """
        if not 0 <= place < len(self.rows):
            raise LabelStoreError(f"{self.folder.path}: has no entry {place + 1}; there are {len(self.rows)}")
        row = self.rows[place]
        return row, self.shard(place // self.plan.shard_items).item(row, f"entry {place + 1} of the manifest")
