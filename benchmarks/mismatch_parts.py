"""Teachers, stores and students of ``bench_mismatch.py``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

BASELINE = "labels only"
SHARE = 0.9
"""Of what the teacher says, beside CTC; see ``docs/methods.md``."""


@dataclass(frozen=True)
class Trained:
    """A teacher."""

    recipe: str
    data: str
    updates: int
    settings: tuple[str, ...] = ()
    start: str = ""
    """Another teacher whose encoder it starts from."""
    reads: tuple[str, ...] = ()
    """Overrides that labelling needs, too: how texts are read."""


@dataclass(frozen=True)
class Store:
    """Labels of a teacher."""

    teacher: str
    label: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Students that are compared: by method the teacher or store (or none), and overrides."""

    recipe: str
    data: str
    updates: int
    lookahead: int
    methods: dict[str, tuple[str, list[str]]]
    settings: tuple[str, ...] = ()

    def taught_by(self) -> set[str]:
        """Names of teachers and stores."""
        return {teacher for teacher, _ in self.methods.values() if teacher}


def losses(**loss: Any) -> list[str]:  # noqa: ANN401 (settings)
    """CTC, and mostly another loss."""
    return [f"losses={json.dumps([{'kind': 'ctc', 'weight': round(1 - SHARE, 3)}, {**loss, 'weight': SHARE}])}"]


_DIGITS = ("model.encoder.dropout=0", "train.learning_rate=0.003")
_SENTENCES = (
    "model.encoder={width: 144, depth: 8, kernel: 15, dropout: 0.05}",
    "train.learning_rate=0.003",
)
_SUBWORDS = ("data.units=subwords", "data.subwords=500")
TEACHERS = {
    "noisy-characters": Trained("digits-conventional", "digits", 1500, _DIGITS),
    "noisy-characters-50hz": Trained("digits-conventional", "digits", 1500, (*_DIGITS, "model.subsampling_factor=2")),
    "noisy-subwords": Trained(
        "digits-conventional",
        "digits",
        1500,
        (*_DIGITS, "data.units=subwords", "data.subwords=36"),
        reads=("data.units=subwords", "data.subwords=36"),
    ),
    "sentences-phones": Trained(
        "sentences-conventional", "phones", 1000, (*_SENTENCES, "data.units=words"), reads=("data.units=words",)
    ),
    "sentences-subwords500": Trained(
        "sentences-conventional",
        "sentences",
        1600,
        (*_SENTENCES, *_SUBWORDS),
        start="sentences-phones",
        reads=_SUBWORDS,
    ),
}
STORES = {
    "full": Store("noisy-characters", {"kind": "full"}),
    "top-8": Store("noisy-characters", {"kind": "top_k", "top_k": 8}),
    "occupancy": Store("noisy-characters", {"kind": "occupancy"}),
    "nbest": Store("noisy-characters", {"kind": "nbest", "size": 4}),
    "subwords-nbest": Store("noisy-subwords", {"kind": "nbest", "size": 4}),
    "subwords500-full": Store("sentences-subwords500", {"kind": "full"}),
    "subwords500-top-8": Store("sentences-subwords500", {"kind": "top_k", "top_k": 8}),
}
_KL = losses(kind="frame_kl")
_NBEST = losses(kind="nbest")
PARTS = {
    "digits": Part(
        "digits-labels",
        "digits",
        300,
        16,
        {
            BASELINE: ("", []),
            "teacher asked in every update": ("noisy-characters", _KL),
            "stored in full": ("full", _KL),
            "stored, 8 tokens": ("top-8", _KL),
            "teacher of 20 ms frames": ("noisy-characters-50hz", _KL),
            "subword teacher, stored 4-best texts": ("subwords-nbest", _NBEST),
        },
    ),
    "kinds": Part(
        "digits-labels",
        "digits",
        300,
        16,
        {
            BASELINE: ("", []),
            "subword teacher, character marginals": ("noisy-subwords", _KL),
            "stored occupancies": ("occupancy", losses(kind="occupancy")),
            "stored 4-best texts": ("nbest", _NBEST),
        },
    ),
    "delay": Part(
        "digits-labels",
        "digits",
        400,
        0,
        {
            BASELINE: ("", []),
            "same frame": ("noisy-characters", _KL),
            "240 ms later": ("noisy-characters", losses(kind="frame_kl", delay_frames=6)),
            "0 to 320 ms, each frame": ("noisy-characters", losses(kind="delay_tolerant", max_delay=8, per="frame")),
            "0 to 320 ms, each utterance": (
                "noisy-characters",
                losses(kind="delay_tolerant", max_delay=8, per="utterance"),
            ),
        },
    ),
    "subwords": Part(
        "sentences-labels",
        "sentences",
        300,
        8,
        {
            BASELINE: ("", []),
            "stored in full": ("subwords500-full", _KL),
            "stored, 8 tokens": ("subwords500-top-8", _KL),
            "stored, 8 tokens and one for the rest": (
                "subwords500-top-8",
                losses(kind="essence", top_k=8, renormalise="tail"),
            ),
        },
        (*_SUBWORDS, "model.dropout=0"),
    ),
    "narrowband": Part(
        "sentences-narrowband-labels",
        "phones",
        300,
        8,
        {BASELINE: ("", []), "teacher of 16 kHz": ("sentences-phones", _KL)},
        ("data.units=words", "model.dropout=0"),
    ),
}
