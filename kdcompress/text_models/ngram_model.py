"""N-gram models as language models: whole distributions from back-off tables, many contexts at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdcompress.errors import TextModelError
from kdcompress.lm.arpa_writer import Estimated, packed
from kdcompress.lm.counts import count_grams
from kdcompress.lm.kneser_ney import smooth
from kdcompress.lm.language_model import FALLBACK
from kdcompress.lm.text import MARKS
from kdcompress.text_models.network_model import LEAST_LOG_PROB, check_ids
from kdcompress.text_models.text_model import Scores, TextModel
from kdcompress_runtime.lm.hashing import keys_of
from kdcompress_runtime.vocabulary import WORD_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.units.inventory import Inventory
    from kdcompress_runtime.lm import NgramModel

    Rows = NDArray[np.float32]

CACHE_BYTES = 1 << 26
"""Room for the distributions of contexts that were met."""
_BLOCK = 1 << 22
"""N-grams looked up at once."""


class NgramTextModel(TextModel):
    """P(unit | the units before it) of a back-off model, among the units of the inventory alone."""

    kind = "ngram"
    reads_both_ways = False

    def __init__(self, model: NgramModel, inventory: Inventory, *, source: Path, name: str, fingerprint: str) -> None:
        """Take a model whose words are the symbols of ``inventory``; one that it lacks is as likely as ``<unk>``.

        Raises:
            TextModelError: it knows none of the units.
        """
        self.source, self.name, self.fingerprint, self.inventory = source, name, fingerprint, inventory
        self._model = model
        self._ids = np.array([_place(symbol, model, inventory.kind) for symbol in inventory.symbols], np.int64)
        if not self._ids.any():
            raise TextModelError(
                f"{source}: knows none of the {len(self._ids)} {inventory.kind} ({', '.join(inventory.symbols[:3])}); "
                "it is a model of other units than asked"
            )
        self._kept: OrderedDict[tuple[int, ...], Rows] = OrderedDict()

    def score(self, texts: Sequence[Sequence[int]]) -> list[Scores]:
        """See ``TextModel.score``."""
        check_ids(self, texts)
        contexts = [self._contexts(text) for text in texts]
        rows = self._rows([context for part in contexts for context in part])
        return [
            Scores(torch.from_numpy(np.stack([rows[context] for context in part])))
            if part
            else Scores(torch.zeros(0, len(self._ids)))
            for part in contexts
        ]

    def _contexts(self, text: Sequence[int]) -> list[tuple[int, ...]]:
        """Words of the model before each unit."""
        words = [self._model.bos, *self._ids[np.asarray(text, np.int64)].tolist()]
        keep = self._model.order - 1
        return [tuple(words[max(0, place - keep) : place]) for place in range(1, len(words))]

    def _rows(self, contexts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Rows]:
        """Distribution by context."""
        found: dict[tuple[int, ...], Rows] = {}
        by_length: dict[int, list[tuple[int, ...]]] = {}
        for context in dict.fromkeys(contexts):
            if context in self._kept:
                self._kept.move_to_end(context)
                found[context] = self._kept[context]
            else:
                by_length.setdefault(len(context), []).append(context)
        for new in by_length.values():
            raw = self._backed_off(np.asarray(new, np.int64).reshape(len(new), -1))
            found.update(zip(new, _normalised(raw), strict=True))
        for new in by_length.values():
            self._kept.update((context, found[context]) for context in new)
        while len(self._kept) * 4 * len(self._ids) > CACHE_BYTES:
            self._kept.popitem(last=False)
        return found

    def _backed_off(self, contexts: NDArray[np.int64]) -> Rows:
        """Ln P of all units after each of C contexts of one length, ``(C, n)`` -> ``(C, V)``."""
        count, length = contexts.shape
        if not length:
            return np.tile(self._model.table_unigrams[self._ids, 0], (count, 1))
        shorter, back = np.unique(contexts[:, 1:], axis=0, return_inverse=True)
        rows: Rows = self._backed_off(shorter)[back.reshape(-1)]
        if length == 1:
            rows = rows + self._model.table_unigrams[contexts[:, 0], 1][:, None]
        else:
            slots = self._slots(contexts)
            rows = rows + np.where(slots >= 0, self._model.table_values[slots, 1], 0.0)[:, None].astype(np.float32)
        step = max(1, _BLOCK // len(self._ids))
        for start in range(0, count, step):
            part = contexts[start : start + step]
            grams = np.empty((len(part), len(self._ids), length + 1), np.int64)
            grams[..., :-1], grams[..., -1] = part[:, None], self._ids
            slots = self._slots(grams.reshape(-1, length + 1)).reshape(len(part), -1)
            held = slots >= 0
            rows[start : start + step][held] = self._model.table_values[slots[held], 0]
        return rows

    def _slots(self, grams: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slot of each n-gram ``(M, n)`` in the model's table, -1 where it is not held."""
        table = self._model.table_keys
        keys = keys_of(grams)
        slots = (keys & np.uint64(len(table) - 1)).astype(np.int64)
        open_ones = np.arange(len(keys))
        while len(open_ones):
            here = table[slots[open_ones]]
            slots[open_ones[here == 0]] = -1
            open_ones = open_ones[(here != 0) & (here != keys[open_ones])]
            slots[open_ones] = (slots[open_ones] + 1) & (len(table) - 1)
        return slots


def estimate_ngrams(texts: Sequence[Sequence[int]], symbols: Sequence[str], order: int) -> NgramModel:
    """Estimate an interpolated modified Kneser-Ney model of units.

    Args:
        texts: ids of each text.
        symbols: unit by id.
        order: length of the longest n-grams.
    """
    sentences = [np.array([1, *(unit + len(MARKS) for unit in text), 2], np.int32) for text in texts]
    words = [*MARKS, *symbols]
    grams = count_grams(np.concatenate(sentences), len(words), order)
    smoothed = smooth(grams, thresholds=[0] * order, fallback=FALLBACK)
    return packed(Estimated("token", words, grams, smoothed))


def _place(symbol: str, model: NgramModel, kind: str) -> int:
    """Word of the model for a unit, 0 where there is none; words may stand in it without their ``▁``."""
    ids: Any = model.ids
    if symbol not in ids and kind == "words":
        symbol = symbol.removeprefix(WORD_SEPARATOR)
    return int(ids.get(symbol, 0))


def _normalised(rows: Rows) -> Rows:
    """Make rows of natural logarithms sum to one: without ``</s>`` they do not."""
    top = rows.max(axis=1, keepdims=True)
    total = np.log(np.exp((rows - top).astype(np.float64)).sum(axis=1, keepdims=True)) + top
    return np.asarray(np.maximum(rows - total, LEAST_LOG_PROB), np.float32)
