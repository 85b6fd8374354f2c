"""How well a language model fits a text, in figures that compare units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress.text_models.text_model import TextModel
    from kdcompress.units.inventory import Spelled

AT_ONCE = 64
"""Texts that are asked for at a time."""
MOST_TEXTS = 500
"""Texts measured; of more, so many from all over."""


def measure_texts(model: TextModel, spelled: Sequence[Spelled], texts: Sequence[str]) -> dict[str, Any]:
    """Measure a model on texts; of one that reads both ways everything is pseudo: each unit is given all others.

    The end of a text is not predicted. Returns ``perplexity`` a unit, ``word_perplexity`` (the same information, a
    word), ``bits_per_character`` (a character of the text, blanks among them: what compares units), and how many
    ``sentences``, ``units``, ``words`` and ``characters`` these are of. Phones and senones do not tell words of equal
    sound apart; their bits a character are of less than the text.

    Args:
        model: the model.
        spelled: texts in its units.
        texts: the same, as they are written.
    """
    step = max(1, math.ceil(len(texts) / MOST_TEXTS))
    spelled, texts = spelled[::step], texts[::step]
    nats = 0.0
    for start in range(0, len(spelled), AT_ONCE):
        part = [one.ids for one in spelled[start : start + AT_ONCE]]
        for ids, scores in zip(part, model.score(part), strict=True):
            nats -= float(scores.log_probs.gather(1, torch.tensor(ids, dtype=torch.int64)[:, None]).double().sum())
    units = sum(len(one.ids) for one in spelled)
    words = sum(len(text.split()) for text in texts)
    characters = sum(map(len, texts))
    return {
        "perplexity": round(_exp(nats / max(1, units)), 4),
        "word_perplexity": round(_exp(nats / max(1, words)), 3),
        "bits_per_character": round(nats / math.log(2) / max(1, characters), 4),
        "sentences": len(texts),
        "units": units,
        "words": words,
        "characters": characters,
    }


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
