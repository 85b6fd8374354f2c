"""What a language model says of one text, as it is kept: its units, and the most probable ones in the place of each."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcompress.text_models.top_k import top_k as top_k_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kdcompress.text_models.text_model import TextModel
    from kdcompress.units.inventory import Inventory, Spelled


class UnitLabels(NamedTuple):
    """One text of U units."""

    units: NDArray[np.int64]
    """Units of the text, ``(U,)``."""
    words: NDArray[np.int64]
    """Word that each belongs to, from 0, ``(U,)``."""
    shares: NDArray[np.float32]
    """How the time of a word is divided among its units where nothing tells, ``(U,)``."""
    ids: NDArray[np.int64]
    """Most probable units in the place of each, ``(U, K)``."""
    log_probs: NDArray[np.float32]
    """Ln P of these given the units around, ``(U, K)``; the others have what is left."""
    states: NDArray[np.float32] | None = None
    """States of the model, ``(U, D)``, where they are asked for."""


def unit_labels(
    model: TextModel, texts: Sequence[str], top_k: int, *, states: bool = False, where: str = "text"
) -> list[UnitLabels]:
    """Ask a language model about texts.

    Args:
        model: the language model.
        texts: words with blanks between; an empty text has no units.
        top_k: units kept in the place of each.
        states: keep the states, too.
        where: names the texts in messages.

    Raises:
        VocabularyError: a text cannot be written in the model's units.
    """
    spelled = [model.inventory.spell(text, where) for text in texts]
    kept = min(top_k, len(model.inventory.symbols))
    found = []
    for text, scores in zip(spelled, model.score([text.ids for text in spelled]), strict=True):
        best = top_k_of(scores, kept) if text.ids else None
        found.append(
            UnitLabels(
                units=np.array(text.ids, dtype=np.int64),
                words=np.array(text.words, dtype=np.int64),
                shares=shares_of(text, model.inventory),
                ids=np.zeros((0, kept), np.int64) if best is None else best.ids.numpy(),
                log_probs=np.zeros((0, kept), np.float32) if best is None else best.log_probs.numpy(),
                states=_states(scores.states, model.state_dim) if states else None,
            )
        )
    return found


def _states(states: object, width: int) -> NDArray[np.float32]:
    if states is None:
        return np.zeros((0, width), np.float32)
    return np.asarray(states, dtype=np.float32).reshape(-1, width)


def shares_of(text: Spelled, inventory: Inventory) -> NDArray[np.float32]:
    """``Inventory.shares`` of each word, one after the other, ``(U,)``."""
    shares: list[float] = []
    for _, places in groupby(range(len(text.ids)), key=text.words.__getitem__):
        shares += inventory.shares([text.ids[place] for place in places])
    return np.array(shares, dtype=np.float32)
