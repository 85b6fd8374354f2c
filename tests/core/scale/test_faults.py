"""Kills, full disks and changed bits: a run that goes on ends as one that nothing happened to."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from kdcompress import checkpoint
from kdcompress.distill import fit
from kdcompress.errors import RunError
from kdcompress.run import RunFolder

FORK = multiprocessing.get_context("fork")


def rows(folder: Path) -> list[dict]:
    """Metrics without the time they took."""
    lines = RunFolder(folder).metrics.read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def killed(function) -> None:
    """Run a function in a process that ends with kill -9."""

    def run() -> None:
        torch.set_num_threads(1)
        function()
        os._exit(1)

    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt_after(step: int):
    def progress(done: int, steps: int, scalars: dict) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


@pytest.fixture(scope="module")
def recipe(make_recipe):
    return make_recipe("student", steps=5, checkpoint_every=2, eval_every=2)


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    fit(recipe, folder)
    return folder


def ends_well(recipe, folder: Path, undisturbed: Path) -> None:
    """Go on, and compare with the run that nothing happened to."""
    fit(recipe, folder)
    assert RunFolder(folder).weights.read_bytes() == RunFolder(undisturbed).weights.read_bytes()
    assert rows(folder) == rows(undisturbed)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in undisturbed.iterdir())


def test_killed_while_a_checkpoint_is_written(recipe, undisturbed, tmp_path):
    """The second checkpoint is complete but not yet in its place."""

    def run() -> None:
        replace, seen = Path.replace, []

        def replacing(self: Path, target: Path) -> Path:
            seen.append(target.name)
            if seen.count("checkpoint.safetensors") == 2:
                die()
            return replace(self, target)

        Path.replace = replacing
        fit(recipe, tmp_path)

    killed(run)
    assert len(list(tmp_path.glob(".checkpoint.safetensors.*.tmp"))) == 1
    with safe_open(RunFolder(tmp_path).checkpoint, framework="pt") as file:
        assert file.metadata()["step"] == "2"
    ends_well(recipe, tmp_path, undisturbed)


def test_killed_at_the_end_after_an_interrupt(recipe, undisturbed, tmp_path):
    """All updates are done, dev is measured and written down, the summary is not."""

    def run() -> None:
        replace = Path.replace

        def replacing(self: Path, target: Path) -> Path:
            if target.name == "run.json":
                die()
            return replace(self, target)

        Path.replace = replacing
        fit(recipe, tmp_path)

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path, interrupt_after(5))
    killed(run)
    assert RunFolder(tmp_path).weights.is_file()
    assert [row["step"] for row in rows(tmp_path) if "dev_ctc" in row] == [2, 4, 5]
    ends_well(recipe, tmp_path, undisturbed)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("undisturbed")  # what is imported late is there, and takes no time any more
def test_killed_at_random_moments(make_recipe, tmp_path, kills):
    recipe = make_recipe("student", steps=6 * kills, checkpoint_every=2, eval_every=5)
    begun = time.monotonic()
    fit(recipe, tmp_path / "whole")
    most = (time.monotonic() - begun) / kills
    chance, folder = random.Random(kills), tmp_path / "run"

    def run() -> None:
        torch.set_num_threads(1)
        fit(recipe, folder)
        os._exit(0)

    ends = []
    for _ in range(kills):
        process = FORK.Process(target=run)
        process.start()
        process.join(chance.uniform(0, most))
        process.kill()
        process.join()
        ends.append(process.exitcode)
    assert -signal.SIGKILL in ends
    ends_well(recipe, folder, tmp_path / "whole")


def test_a_full_disk_keeps_the_checkpoint_before(recipe, undisturbed, tmp_path, monkeypatch):
    save, saved = checkpoint.save_file, []

    def full(tensors, path, metadata=None) -> None:
        saved.append(path)
        if len(saved) == 2:
            Path(path).write_bytes(b"half")
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        words = (
            r"checkpoint\.safetensors: the checkpoint of step 4 cannot be written .*No space left.*is kept. Make room"
        )
        with pytest.raises(RunError, match=words):
            fit(recipe, tmp_path)
    assert not list(tmp_path.glob(".*"))
    ends_well(recipe, tmp_path, undisturbed)


@pytest.mark.slow
def test_a_disk_that_is_really_full(recipe, undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=False).returncode:
        pytest.skip("only root can mount")
    folder, ballast = disk / "run", disk / "ballast"
    try:

        def fill(step: int, steps: int, scalars: dict) -> None:
            if step == 3:
                with suppress(OSError), ballast.open("wb", buffering=0) as file:
                    while file.write(bytes(512)):
                        pass

        with pytest.raises((RunError, OSError), match="No space left"):
            fit(recipe, folder, fill)
        assert RunFolder(folder).checkpoint.is_file()
        ballast.unlink(missing_ok=True)
        ends_well(recipe, folder, undisturbed)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("place", [0.03, 0.2, 0.6, 0.97])
def test_one_changed_bit_is_noticed(recipe, tmp_path, place):
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path, interrupt_after(3))
    path = RunFolder(tmp_path).checkpoint
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: (damaged checkpoint|belongs to another)"):
        fit(recipe, tmp_path)
    assert path.read_bytes() == bytes(content)
    path.unlink()
    fit(recipe, tmp_path)


def test_a_checkpoint_of_an_earlier_version_has_no_checksum(recipe, undisturbed, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path, interrupt_after(3))
    path = RunFolder(tmp_path).checkpoint
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert len(metadata.pop("sha256")) == 64
    checkpoint.save_file(load_file(path), path, metadata)
    ends_well(recipe, tmp_path, undisturbed)


def interrupted(recipe, folder: Path) -> str:
    """Train until this process's neighbour gets a signal."""
    progress = interrupt_after(3) if os.environ["RANK"] == "1" else None
    try:
        fit(recipe, folder, progress)
    except KeyboardInterrupt:
        return "interrupted"
    return "done"


def test_an_interrupt_of_one_process_stops_both_after_the_same_update(in_processes, recipe, tmp_path):
    in_processes(2, fit, recipe, tmp_path / "whole")
    assert in_processes(2, interrupted, recipe, tmp_path / "run") == ["interrupted"] * 2
    with safe_open(RunFolder(tmp_path / "run").checkpoint, framework="pt") as file:
        assert file.metadata()["step"] == "3"
    first, second = in_processes(2, fit, recipe, tmp_path / "run")
    assert first.keys() == second.keys()
    one, two = (RunFolder(tmp_path / name).weights.read_bytes() for name in ("run", "whole"))
    assert one == two
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def refused(recipe, folder: Path) -> None:
    fit(recipe, folder)


def test_a_refusal_reaches_every_process(in_processes, recipe, tmp_path):
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": 0, "since": time.time()}))
    problems = in_processes(2, refused, recipe, tmp_path)
    assert [type(problem) for problem in problems] == [RunError] * 2
    assert str(problems[0]) == str(problems[1])
    assert "process 1 on elsewhere has been training there since" in str(problems[0])
