"""What ``bench_lm.py`` compares: students, language models, and how the ones learn from the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BASELINE = "labels only"
CAUSAL, MASKED = "causal", "masked"
KINDS = {CAUSAL: "ngram", MASKED: "masked_transformer"}
"""Kind of the language model of each direction."""


@dataclass(frozen=True)
class Part:
    """One data set: a student from the same start in all methods."""

    recipe: str
    """Packaged recipe of the student."""
    settings: tuple[str, ...]
    """What all students of the part have."""
    layers: dict[str, int]
    """Block of the head for each unit, the hierarchy of the paper: low, middle, top."""
    own: str
    """Units of the output layer, and of the language model that labels are interpolated with."""
    updates: int
    senones: int
    """How many there are."""
    aligner_updates: int = 2600
    """Updates of the model of phones that aligns."""
    text_updates: dict[str, int] = field(default_factory=lambda: {"masked_transformer": 1200})
    """Updates of each kind of language model that has any."""
    reads: tuple[str, ...] = ()
    """How ``kdcompress senones`` reads the items."""
    head_weight: float = 0.03
    """Weight of each head. Of 0.03, 0.1 and 0.3 the best on dev of sentences (one seed, 300 updates), soft and hard;
    0.3 harms: a head says some nats a frame at first, CTC half a nat. On AN4, from fresh weights, 0.1 was better than
    0.03 on dev (one seed)."""


@dataclass(frozen=True)
class Method:
    """What a student learns from besides, or in the place of, its labels."""

    losses: tuple[dict[str, Any], ...]
    reads: dict[str, str] = field(default_factory=dict)
    """Units of each language model by its name in the recipe, ``unit`` or ``unit-masked``."""


def heads(part: Part, units: tuple[str, ...], direction: str = CAUSAL, **settings: float) -> Method:
    """CTC, and a head for each unit."""
    named = {unit: unit if direction == CAUSAL else f"{unit}-{direction}" for unit in units}
    losses = [
        {"kind": "lm_head", "name": unit, "lm": named[unit], "layer": part.layers[unit], "weight": part.head_weight}
        for unit in units
    ]
    return Method(({"kind": "ctc"}, *[{**loss, **settings} for loss in losses]), {named[unit]: unit for unit in units})


def methods(part: Part) -> dict[str, Method]:
    """Every method of a part by its name in the tables."""
    low, middle, top = part.layers
    found = {BASELINE: Method(({"kind": "ctc"},))}
    for share in (0.1, 0.3, 0.5):
        loss = {"kind": "label_interpolation", "lm": part.own, "share": share}
        found[f"label interpolation {share}"] = Method((loss,), {part.own: part.own})
    found |= {f"head: {unit}": heads(part, (unit,)) for unit in (top, middle, low)}
    for pair in ((middle, top), (low, top), (low, middle)):
        found[f"heads: {' + '.join(pair)}"] = heads(part, pair)
    every = (low, middle, top)
    found["heads: all three"] = heads(part, every)
    found["all three, masked"] = heads(part, every, MASKED)
    found["all three, units alone"] = heads(part, every, soft=0.0, hard=1.0)
    found["all three, half and half"] = heads(part, every, soft=0.5, hard=0.5)
    state = {"kind": "representation", "lm": f"{top}-{MASKED}", "layer": part.layers[top], "weight": 0.03}
    found[f"states: {top}, masked"] = Method(({"kind": "ctc"}, state), {f"{top}-{MASKED}": top})
    found["all three, masked, half and half"] = heads(part, every, MASKED, soft=0.5, hard=0.5)
    return found


PARTS = {
    "sentences": Part(
        recipe="sentences-labels",
        settings=("data.units=subwords", "data.subwords=256", "train.learning_rate=2e-3"),
        layers={"senones": 2, "phones": 4, "subwords": 7},
        own="subwords",
        updates=500,
        senones=200,
    ),
    "an4": Part(
        recipe="an4-labels",
        settings=(),
        layers={"senones": 2, "phones": 4, "words": 7},
        own="words",
        updates=700,
        senones=100,
        aligner_updates=800,
        text_updates={"masked_transformer": 400},
        reads=("--feature-dim", "13"),
        head_weight=0.1,
    ),
}
