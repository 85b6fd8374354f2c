"""Runs of the recognition alone: real worker processes, real systems or one that misbehaves on demand."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation import worker_process
from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.manifests import plan_manifest
from kdcompress_evaluation.options import EvalOptions
from kdcompress_evaluation.recognise import recognise_variant, streaming_plan
from kdcompress_evaluation.records import dumps, write_text
from kdcompress_evaluation.rows import ROWS, RUN, Row, iterate_rows
from kdcompress_evaluation.variants import VariantInfo, plan_variants
from tests.evaluation.plain_run import plain_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcompress_evaluation.summary import RunInfo

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


@dataclass
class Evaluation:
    """One report folder, recognition only."""

    output: Path
    run: RunInfo
    options: EvalOptions

    def recognise(self, name: str | None = None, shard: tuple[int, int] | None = None, **changes: Any) -> int:
        variant = next(v for v in self.run.variants if name in {None, v.name})
        tell = changes.pop("tell", lambda *_: None)
        return recognise_variant(self.output, self.run, variant, replace(self.options, **changes), tell, shard=shard)

    def rows(self, name: str | None = None, manifest: str = "m") -> list[Row]:
        found = iterate_rows(self.output, name or self.run.variants[0].name, manifest)
        return sorted(found, key=lambda row: row.index)


def begin(output: Path, variants: Sequence[VariantInfo], manifests: dict[str, Path], **options: Any) -> Evaluation:
    chosen = EvalOptions(**options)
    run = plain_run(
        variants,
        manifests=tuple(plan_manifest(name, path) for name, path in manifests.items()),
        decoder=chosen.decoding.describe(),
        machine=describe_machine(),
        streaming=streaming_plan(chosen),
    )
    write_text(output / ROWS / RUN, dumps(run))
    return Evaluation(output, run, chosen)


@pytest.fixture
def evaluation(tmp_path: Path) -> Callable[..., Evaluation]:
    """Real systems: ``evaluation(paths, manifest, **options)``."""

    def make(paths: Sequence[Path], manifest: Path, output: str = "out", **options: Any) -> Evaluation:
        variants, broken = plan_variants(paths, options.pop("precisions", "default"))
        assert not broken
        return begin(tmp_path / output, variants, {"m": manifest}, **options)

    return make


def write_texts(path: Path, ids: Sequence[str]) -> Path:
    """A manifest of sentences to translate."""
    lines = [json.dumps({"id": one, "source": f"text of {one}", "text": f"TEXT OF {one.upper()}"}) for one in ids]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_predictions(path: Path, texts: dict[str, str]) -> Path:
    lines = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def texts() -> Callable[[Path, Sequence[str]], Path]:
    return write_texts


@pytest.fixture
def predictions() -> Callable[[Path, dict[str, str]], Path]:
    return write_predictions


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evaluation]:
    """The system of ``fake_worker.py``: ``fake(ids, **options)``; its ids tell it what to do."""
    monkeypatch.setattr(worker_process, "COMMAND", (sys.executable, str(FAKE_WORKER)))

    def make(ids: Sequence[str], name: str = "fake", output: str = "out", **options: Any) -> Evaluation:
        file = write_predictions(tmp_path / f"{name}.jsonl", {"x": "y"})
        variants, _ = plan_variants([file])
        return begin(tmp_path / output, variants, {"m": write_texts(tmp_path / f"{name}-m.json", ids)}, **options)

    return make
