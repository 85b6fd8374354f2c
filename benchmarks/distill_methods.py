"""The methods that ``bench_distill.py`` compares: what each adds to the recipe of the labels-only student.

Every method trains the same student on the same batches for the same number of updates. Each has two settings to
choose from on dev with seed 1 (the same effort for all), and is then run with the other seeds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

LOOKAHEAD_FRAMES = 4
"""Of the student in the main table: 160 ms."""
DELAY_FRAMES = {0: 6, 4: 6, 16: 0}
"""How much later than a full-context teacher the student answers, by its look-ahead; see ``docs/methods.md``."""


@dataclass(frozen=True)
class Teacher:
    """One teacher, trained once and used by the students of every seed."""

    recipe: str
    settings: tuple[str, ...]
    steps: str
    """Which of the options ``--teacher-steps`` or ``--member-steps`` says how long."""
    guide: str | None = None
    """Another run whose spike times it is taught."""
    guided_by: str = "guided_ctc"
    """Loss that does so, beside CTC."""


@dataclass(frozen=True)
class Method:
    """What a student learns from."""

    name: str
    paper: str
    choices: tuple[tuple[dict[str, Any], ...], ...]
    """Settings to choose from on dev: each a list of losses."""
    teachers: tuple[str, ...] = ()
    combine: dict[str, Any] | None = None
    settings: tuple[str, ...] = ()
    """Further overrides."""
    per_lookahead: bool = False
    """Whether it is one of those shown at every look-ahead."""

    def overrides(self, choice: int, lookahead: int) -> list[str]:
        """Settings of the recipe, without the teachers' folders."""
        delay = DELAY_FRAMES[lookahead]
        losses = [{k: delay if v == "DELAY" else v for k, v in loss.items()} for loss in self.choices[choice]]
        found = [f"losses={json.dumps(losses)}", *self.settings]
        return [*found, f"distill.combine={json.dumps(self.combine)}"] if self.combine else found


def _ctc(weight: float = 1.0) -> dict[str, Any]:
    return {"kind": "ctc", "weight": weight}


def _mixed(*shares: float, **loss: Any) -> tuple[tuple[dict[str, Any], ...], ...]:  # noqa: ANN401 (settings)
    """``(1 - share) * CTC + share * loss`` for each share."""
    return tuple((_ctc(round(1 - share, 3)), {**loss, "weight": share}) for share in shares)


def _added(*weights: float, **loss: Any) -> tuple[tuple[dict[str, Any], ...], ...]:  # noqa: ANN401 (settings)
    """``CTC + weight * loss`` for each weight."""
    return tuple((_ctc(), {**loss, "weight": weight}) for weight in weights)


_LIKE_STUDENTS = ("augment.lead_in_s=[0.0, 0.8]", "train.learning_rate=0.003")
_CLEAN = (*_LIKE_STUDENTS, "model.encoder.dropout=0")
TEACHERS = {
    "conventional": Teacher("digits-conventional", (*_CLEAN, "train.eval_every=150"), "teacher"),
    "oracle": Teacher("digits-oracle", _CLEAN, "oracle"),
    "oracle-leaky": Teacher("digits-oracle", (*_CLEAN, "model.positions=both"), "oracle"),
    "vgg": Teacher("digits-conventional", (*_LIKE_STUDENTS, "model={kind: vgg, dropout: 0}"), "member"),
    "conventional-guided": Teacher("digits-conventional", _CLEAN, "member", guide="guide"),
    "vgg-guided": Teacher(
        "digits-conventional", (*_LIKE_STUDENTS, "model={kind: vgg, dropout: 0}"), "member", guide="guide"
    ),
    # alone, or with guided CTC, the LSTM says nothing but blank after 1,000 updates: frame KL gets it off the ground
    "lstm-guided": Teacher(
        "digits-conventional",
        (*_LIKE_STUDENTS, "model={kind: lstm, dropout: 0}"),
        "member",
        guide="guide",
        guided_by="frame_kl",
    ),
    # the guide of E.3 is a streaming student trained from labels
    "guide": Teacher("digits-labels", ("model.dropout=0", f"model.lookahead_frames={LOOKAHEAD_FRAMES}"), "member"),
}
ALIGNED = ("conventional-guided", "vgg-guided", "lstm-guided")
UNALIGNED = ("conventional", "vgg")

_KL: dict[str, Any] = {"kind": "frame_kl", "delay_frames": "DELAY"}
_KL_NOW: dict[str, Any] = {"kind": "frame_kl"}


def _essence(**settings: Any) -> tuple[tuple[dict[str, Any], ...], ...]:  # noqa: ANN401 (settings)
    return _mixed(0.5, 0.9, kind="essence", **settings)


METHODS = (
    Method("labels only", "Graves et al. 2006", ((_ctc(),),), per_lookahead=True),
    Method(
        "frame KL, same frame", "Hinton et al. 2015", _mixed(0.5, 0.9, **_KL_NOW), ("conventional",), per_lookahead=True
    ),
    Method(
        "frame KL, delayed", "Hinton et al. 2015; E.13", _mixed(0.5, 0.9, **_KL), ("conventional",), per_lookahead=True
    ),
    Method("frame KL, oracle", "Yoon et al. 2021", _mixed(0.5, 0.9, **_KL), ("oracle",), per_lookahead=True),
    Method("frame KL, oracle, same frame", "Yoon et al. 2021", _mixed(0.5, 0.9, **_KL_NOW), ("oracle",)),
    Method("frame KL, leaky oracle", "Yoon et al. 2021", _mixed(0.5, 0.9, **_KL), ("oracle-leaky",)),
    Method("hybrid", "notes A.6 (d)", _mixed(0.5, 0.9, **_KL), ("oracle", "conventional"), {"kind": "hybrid"}),
    Method(
        "in-place oracle",
        "Yoon 2025",
        tuple((_ctc(1 - w), {"kind": "in_place", "weight": w, "teacher_ctc": 1 / w}) for w in (0.25, 0.5)),
        per_lookahead=True,
    ),
    Method("SKD", "Yoon et al. 2020", _added(1.0, 4.0, kind="skd", delay_frames="DELAY"), ("conventional",)),
    Method("non-blank frames", "Hilmes et al. 2025", _mixed(0.5, 0.9, frames="nonblank", **_KL), ("conventional",)),
    Method("symmetric frames", "Hilmes et al. 2025", _mixed(0.5, 0.9, frames="symmetric", **_KL), ("conventional",)),
    Method(
        "factored KL", "Tian et al. 2024", _mixed(0.5, 0.9, kind="factored_kl", delay_frames="DELAY"), ("conventional",)
    ),
    Method(
        "delay-tolerant KL",
        "Li et al. 2025",
        _mixed(0.5, 0.9, kind="delay_tolerant", max_delay=8, per="utterance"),
        ("conventional",),
        per_lookahead=True,
    ),
    Method("guided CTC", "Kurata and Audhkhasi 2019", _added(0.5, 1.0, kind="guided_ctc"), ("guide",)),
    Method(
        "guided teacher, frame KL",
        "Kurata and Audhkhasi 2019",
        _mixed(0.5, 1.0, **_KL_NOW),
        ("conventional-guided",),
        per_lookahead=True,
    ),
    Method(
        "token-pooled KL",
        "AT-DKD (repo, 2026)",
        _added(0.02, 0.1, kind="token_kl", delay_frames="DELAY"),
        ("conventional",),
    ),
    Method(
        "occupancy", "Huang et al. 2018", _mixed(0.5, 0.9, kind="occupancy", delay_frames="DELAY"), ("conventional",)
    ),
    Method("N-best", "Takashima et al. 2018", _mixed(0.5, 0.9, kind="nbest", size=4, beam_width=4), ("conventional",)),
    Method(
        "feature matching",
        "Yoon et al. 2020",
        _added(0.1, 0.5, kind="feature_match", student_layer=-1, teacher_layer=-1, delay_frames="DELAY"),
        ("conventional",),
    ),
    Method(
        "codebooks",
        "Guo et al. 2022",
        _added(0.03, 0.1, kind="codebook", student_layer=5, teacher_layer=-1, delay_frames="DELAY"),
        ("conventional",),
    ),
    Method("CR-CTC", "Yao et al. 2025", _added(0.1, 0.2, kind="cr_ctc")),
    Method("intermediate CTC", "Lee and Watanabe 2021", _added(0.3, 0.6, kind="inter_ctc", layers=[3, 5])),
    Method("self-KD", "Kim et al. 2024", _added(0.3, 0.6, kind="inter_ctc", layers=[3, 5], own=1.0)),
    Method(
        "Inter-KD",
        "Yoon et al. 2022",
        tuple(
            (
                _ctc(1 - w),
                {**_KL, "weight": w},
                {"kind": "inter_kd", "weight": 0.25, "layers": [3, 5], "delay_frames": "DELAY"},
            )
            for w in (0.5, 0.9)
        ),
        ("conventional",),
    ),
    *(
        Method(
            f"switching, {schedule}",
            "Fukuda et al. 2017",
            _mixed(0.5, 0.9, **_KL_NOW),
            ALIGNED,
            {"kind": "switching", "schedule": schedule},
        )
        for schedule in ("random", "round_robin", "accuracy")
    ),
    Method("switching, not aligned", "Fukuda et al. 2017", _mixed(0.5, 0.9, **_KL), UNALIGNED, {"kind": "switching"}),
    Method("multi-stream", "Fukuda et al. 2017", _mixed(0.5, 0.9, **_KL_NOW), ALIGNED, {"kind": "multi_stream"}),
    Method("interpolation", "Fukuda et al. 2017", _mixed(0.5, 0.9, **_KL_NOW), ALIGNED, {"kind": "interpolation"}),
    Method(
        "interpolation, not aligned",
        "Fukuda et al. 2017",
        _mixed(0.5, 0.9, **_KL),
        UNALIGNED,
        {"kind": "interpolation"},
    ),
    Method("essence, k = 1", "Yang et al. 2019", _essence(top_k=1), ALIGNED, {"kind": "interpolation"}),
    Method("essence, k = 2", "Yang et al. 2019", _essence(top_k=2), ALIGNED, {"kind": "interpolation"}),
    Method("essence, k = 4", "Yang et al. 2019", _essence(top_k=4), ALIGNED, {"kind": "interpolation"}),
    Method(
        "essence, mass 0.95, tail",
        "Yang et al. 2019",
        _essence(mass=0.95, renormalise="tail"),
        ALIGNED,
        {"kind": "interpolation"},
    ),
)
LONG = ("labels only", "frame KL, same frame", "frame KL, oracle, same frame")
"""Methods of the part ``long``."""
DELAYS = tuple(
    Method(
        f"frame KL, {40 * delay} ms later",
        "E.13",
        ((_ctc(0.1), {"kind": "frame_kl", "weight": 0.9, "delay_frames": delay}),),
        ("conventional",),
    )
    for delay in (0, 2, 4, 6, 8, 10)
)
"""Methods of the part ``delay``."""
