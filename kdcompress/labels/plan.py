"""What a store of labels is about: everything that decides its content. Two stores with one plan are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from kdcompress.labels.settings import AnyLabels, CodebookLabels
from kdcompress.teachers.teacher import TeacherInfo
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Version of the layout."""


@dataclass(frozen=True)
class Plan:
    """What is labelled, by whom, and as what; JSON values only."""

    teacher: dict[str, Any]
    """Fields of ``TeacherInfo`` but ``source``."""
    labels: dict[str, Any]
    """The ``label`` section of the recipe."""
    manifest: dict[str, Any]
    """``fingerprint`` over ids and texts, and ``items``."""
    heard: dict[str, Any]
    """``task``, ``sample_rate`` of the teacher, ``augmentation``, and ``max_duration``: longer items are left out.
    Where settings decide how many units an item has, ``frontend``; where source sentences are read, ``measure``."""
    shard_items: int
    """Entries of the manifest for each shard."""
    format: int = FORMAT
    """Version of the layout."""

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-int(self.manifest["items"]) // self.shard_items)

    def places(self, shard: int) -> range:
        """Places of a shard's items among the entries of the manifest."""
        first = shard * self.shard_items
        return range(first, min(first + self.shard_items, int(self.manifest["items"])))

    def settings(self) -> AnyLabels:
        """Settings of the labels."""
        found: AnyLabels = TypeAdapter(AnyLabels).validate_python(self.labels)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Plan:
        """Read what ``to_json`` gave; other keys are left alone.

        Raises:
            KeyError: one is missing.
        """
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})

    def fingerprint(self) -> str:
        """SHA-256 of the plan; every shard carries it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def info(self, source: Path, fingerprint: str) -> TeacherInfo:
        """Describe the store as a teacher: the same frames and tokens, but only what was kept of its answers."""
        told, settings = self.teacher, self.settings()
        return TeacherInfo(
            source=source,
            name=told["name"],
            kind=f"labels of {told['kind']}",
            fingerprint=fingerprint,
            vocabulary=Vocabulary(tuple(told["vocabulary"])),
            units=told["units"],
            frame=Fraction(told["frame"]),
            sample_rate=told["sample_rate"],
            gives=frozenset({GIVES[settings.kind]}),
            sees_labels=told["sees_labels"],
            lookahead=None if told["lookahead"] is None else Fraction(told["lookahead"]),
            codebooks=(settings.codebooks, settings.entries) if isinstance(settings, CodebookLabels) else None,
            dev_error=told["dev_error"],
        )


GIVES: dict[str, Any] = {
    "full": "log_probs",
    "top_k": "log_probs",
    "occupancy": "occupancy",
    "codebook": "codes",
    "nbest": "hypotheses",
    "units": "units",
}
"""Field of an answer that each kind of label becomes."""


def told_of(info: TeacherInfo) -> dict[str, Any]:
    """Fields of a teacher as JSON values, without where it was read."""
    text = {"text_units": info.text_units, "state_dim": sum(info.hidden_dims)} if info.text_units else {}
    return {
        **text,
        "name": info.name,
        "kind": info.kind,
        "fingerprint": info.fingerprint,
        "vocabulary": list(info.vocabulary.symbols),
        "units": info.units,
        "frame": str(info.frame),
        "sample_rate": info.sample_rate,
        "sees_labels": info.sees_labels,
        "lookahead": None if info.lookahead is None else str(info.lookahead),
        "dev_error": info.dev_error,
    }


def difference(there: Plan, asked: Plan) -> str:
    """Say in words what differs; empty where nothing does."""
    mine, other = asked.to_json(), there.to_json()
    return "; ".join(_section(name, other[name], mine[name]) for name in mine if other[name] != mine[name])


def _section(name: str, there: Any, asked: Any) -> str:  # noqa: ANN401 (JSON)
    if not isinstance(there, dict) or not isinstance(asked, dict):
        return f"{name} is {there} there, {asked} here"
    keys = [key for key in {**there, **asked} if there.get(key) != asked.get(key)]
    return ", ".join(f"{name}.{key} {_values(there.get(key), asked.get(key))}" for key in keys)


def _values(there: object, asked: object) -> str:
    if isinstance(there, list) or isinstance(asked, list):
        return "differs"
    return f"is {_short(there)} there, {_short(asked)} here"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:12]}..."
