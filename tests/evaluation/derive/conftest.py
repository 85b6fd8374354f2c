"""Rows folders written by hand: what an evaluation leaves behind, without recognising anything."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation.machine import Machine
from kdcompress_evaluation.records import dumps, to_json, write_text
from kdcompress_evaluation.rows import ROWS, RUN, Row, StreamRow, open_rows, row_identity, rows_path
from kdcompress_evaluation.summary import ManifestInfo, RunInfo
from kdcompress_evaluation.variants import VariantInfo
from tests.evaluation.plain_run import plain_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

WORDS = (
    *("the", "a", "it's", "sea", "été", "Straße", "seven", "NO", "kitchen"),
    *("lights,", "down", "little", "please", "turn", "was", "nine", "over"),
)


def variant(name: str, **changes: Any) -> VariantInfo:
    """A bundle of 1 MB."""
    plain = VariantInfo(
        name=name,
        kind="bundle",
        anchor=False,
        task="speech",
        input_kind="audio",
        bundle_name=name,
        bundle_path=f"/bundles/{name}",
        precision="int8",
        engine="onnxruntime 1.23",
        format_version=2,
        files={"model.onnx": name},
        model_file="model.onnx",
        model_sha256=name,
        tokens_sha256="t",
        geometry_sha256="g",
        size_bytes=1_000_000,
        parameters=1_000_000,
        sample_rate=16_000,
        lookahead_ms=80.0,
        chunk_ms=160.0,
        provenance={},
        measured={},
    )
    return replace(plain, **changes)


MACHINE = Machine(
    cpu="cpu", cores=2, isa=(), memory_bytes=1, system="Linux", load_average=0.1, python="3.11", versions={}
)


@dataclass
class Folder:
    """A report folder to be."""

    path: Path
    references: dict[str, list[str]]
    variants: list[VariantInfo]
    changes: dict[str, Any] = field(default_factory=dict)
    extra: Callable[[str, int], dict[str, Any]] = lambda _manifest, _index: {}
    speaker: Callable[[str, int], str | None] = lambda _manifest, _index: None

    def run(self) -> RunInfo:
        manifests = tuple(ManifestInfo(n, f"{n}.jsonl", f"sha-{n}", len(r)) for n, r in self.references.items())
        decided = {"decoder": {"kind": "bundle"}, "command": "kdcompress eval", "streaming": {"every": 1}}
        return plain_run(self.variants, **{**decided, "manifests": manifests, "machine": MACHINE, **self.changes})

    def begin(self) -> Folder:
        write_text(self.path / ROWS / RUN, dumps(self.run()))
        return self

    def row(self, manifest: str, index: int, hypothesis: str, **changes: Any) -> Row:
        return Row(
            id=f"u{index}",
            index=index,
            reference=self.references[manifest][index],
            input=f"/audio/{index}.wav",
            hypothesis=hypothesis,
            duration=1.0 + index % 7,
            seconds=0.1,
            log_prob=-1.0,
            speaker=self.speaker(manifest, index),
            extra=self.extra(manifest, index),
            **changes,
        )

    def write(self, name: str, manifest: str, rows: Sequence[Row], shard: tuple[int, int] | None = None) -> None:
        identity = row_identity(to_json(self.run()), name, manifest)
        with open_rows(rows_path(self.path, name, manifest, shard), identity) as writer:
            for row in rows:
                writer.add(row)

    def write_texts(self, name: str, texts: Mapping[str, Sequence[str]]) -> None:
        for manifest, hypotheses in texts.items():
            self.write(name, manifest, [self.row(manifest, i, text) for i, text in enumerate(hypotheses)])


def sentences(count: int, seed: int = 0, longest: int = 9) -> list[str]:
    """Texts of a few words; every 17th is empty."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=0 if i % 17 == 3 else rng.randint(1, longest))) for i in range(count)]


def garble(texts: Sequence[str], rate: float, seed: int) -> list[str]:
    """Words left out, replaced and added, each at a third of ``rate``."""
    rng = random.Random(seed)
    garbled = []
    for text in texts:
        words = []
        for word in text.split(" "):
            kind = int(rng.random() * 3 / rate)
            words += {0: [], 1: [rng.choice(WORDS)], 2: [word, rng.choice(WORDS)]}.get(kind, [word])
        garbled.append(" ".join(words))
    return garbled


def stream(text: str, **changes: Any) -> StreamRow:
    plain = StreamRow(
        text=text,
        first_partial=0.3,
        delays=(0.2,) * len(text.split()),
        word_times="recogniser",
        revised=0,
        words=len(text.split()),
        final_seconds=0.01,
        endpoint_wait=None,
        endpoint="",
    )
    return replace(plain, **changes)


@dataclass(frozen=True)
class Case:
    """Everything a test needs to write rows."""

    path: Path
    sentences = staticmethod(sentences)
    garble = staticmethod(garble)
    stream = staticmethod(stream)
    variant = staticmethod(variant)

    def folder(self, references: Mapping[str, list[str]], variants: Sequence[Any], **more: Any) -> Folder:
        """A folder whose ``run.json`` is written; variants by name or as they are."""
        found = [variant(one) if isinstance(one, str) else one for one in variants]
        fields = {name: more.pop(name) for name in ("extra", "speaker") if name in more}
        name = more.pop("name", "out")
        return Folder(self.path / name, dict(references), found, more, **fields).begin()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)
