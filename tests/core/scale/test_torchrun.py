"""The command line under ``torchrun``, as it is typed on every machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from kdcompress.distill import fit
from kdcompress.run import RunFolder

if TYPE_CHECKING:
    from pathlib import Path


def torchrun(recipe: Path, output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "kdcompress", "train", str(recipe), "-o", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows(folder: Path) -> list[dict]:
    lines = RunFolder(folder).metrics.read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def test_torchrun_gives_the_losses_of_one_process(make_recipe, tmp_path):
    recipe = make_recipe("student", "model.dropout=0", steps=2)
    (tmp_path / "recipe.yaml").write_text(recipe.dumps())
    fit(recipe, tmp_path / "one")
    with torchrun(tmp_path / "recipe.yaml", tmp_path / "two") as run:
        _, said = run.communicate(timeout=200)
    assert run.returncode == 0, said
    found, expected = rows(tmp_path / "two"), rows(tmp_path / "one")
    assert [row["step"] for row in found] == [1, 2, 2]
    for mine, other in zip(found, expected, strict=True):
        assert mine == pytest.approx(other, rel=2e-5, abs=2e-6)
    assert not (tmp_path / "two" / "run.lock").exists()


@pytest.mark.slow
def test_stopped_by_its_launcher_and_started_again(make_recipe, tmp_path):
    recipe = make_recipe("student", steps=400, checkpoint_every=1000, eval_every=1000, batch_size=3)
    (tmp_path / "recipe.yaml").write_text(recipe.dumps())
    folder = RunFolder(tmp_path / "run")
    with torchrun(tmp_path / "recipe.yaml", folder.path) as run:
        end = time.monotonic() + 200
        while not (folder.metrics.is_file() and len(rows(folder.path)) > 3):
            assert time.monotonic() < end
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert run.returncode != 0
    assert folder.checkpoint.is_file()
    assert not folder.summary.exists()
    with torchrun(tmp_path / "recipe.yaml", folder.path) as run:
        _, said = run.communicate(timeout=200)
    assert run.returncode == 0, said
    assert [row["step"] for row in rows(folder.path)] == [*range(1, 401), 400]
    with torchrun(tmp_path / "recipe.yaml", tmp_path / "whole") as run:
        run.communicate(timeout=200)
    assert folder.weights.read_bytes() == RunFolder(tmp_path / "whole").weights.read_bytes()
    assert rows(folder.path) == rows(tmp_path / "whole")
