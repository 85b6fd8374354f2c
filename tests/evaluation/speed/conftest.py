"""Report folders whose rows are written by hand, so that the speed run is tested alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.options import EvalOptions
from kdcompress_evaluation.records import dumps, load, to_json, write_text
from kdcompress_evaluation.rows import ROWS, RUN, Row, open_rows, row_identity, rows_path
from kdcompress_evaluation.speed import SpeedRecord, measure
from kdcompress_evaluation.summary import ManifestInfo
from kdcompress_evaluation.systems import describe
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.manifest import read_manifest
from tests.evaluation.plain_run import plain_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

QUICK = EvalOptions(speed_utterances=3, speed_rounds=2, paced_seconds=0.6)


class SpeedCase:
    """One report folder."""

    def __init__(
        self, output: Path, bundles: Sequence[Path], manifest: Path, failed: Sequence[tuple[str, int]]
    ) -> None:
        variants = tuple(info for bundle in bundles for info in describe(bundle, "all"))
        entries = list(read_manifest(manifest))
        self.output = output
        self.run = plain_run(
            variants,
            manifests=(ManifestInfo("m", str(manifest), "fingerprint", len(entries)),),
            decoder=QUICK.decoding.describe(),
            machine=describe_machine(),
        )
        write_text(output / ROWS / RUN, dumps(self.run))
        for variant in variants:
            path = rows_path(output, variant.name, "m")
            with open_rows(path, row_identity(to_json(self.run), variant.name, "m")) as writer:
                for index, entry in enumerate(entries):
                    samples, rate = read_audio(entry.input)
                    error = "broken" if (variant.name, index) in failed else None
                    kind = error and "model"
                    writer.add(
                        Row(
                            id=entry.id,
                            index=index,
                            reference=entry.text,
                            input=str(entry.input),
                            duration=len(samples) / rate,
                            error=error,
                            error_kind=kind,
                        )
                    )

    def measure(self, options: EvalOptions = QUICK) -> SpeedRecord:
        """Run, and read what was written."""
        self.stages: list[tuple[str, int, int]] = []
        measure(self.output, self.run, options, lambda *told: self.stages.append(told))
        return load(SpeedRecord, self.output / ROWS / "speed.json")


@pytest.fixture
def speed_case(tmp_path: Path, manifest: Path) -> Any:
    def make(bundles: Sequence[Path], failed: Sequence[tuple[str, int]] = ()) -> SpeedCase:
        return SpeedCase(tmp_path / "report", bundles, manifest, failed)

    return make
