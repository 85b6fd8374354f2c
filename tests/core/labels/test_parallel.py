"""Several processes label one store, and are killed: the end is always the store that one process makes undisturbed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from kdcompress.errors import LabelStoreError
from kdcompress.labels.label import label

SHARD_ITEMS = 2
SLOW = "0.03"


def work(recipe, store, environment, made) -> None:
    """What a process of its own does; ``made`` gets a line for each shard that it moved into place."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    replace = Path.replace

    def noted(self, to):
        moved = replace(self, to)
        if Path(to).suffix == ".safetensors":
            with made.open("a") as file:
                file.write(Path(to).name + "\n")
        return moved

    Path.replace = noted
    try:
        label(recipe, store, shard_items=SHARD_ITEMS)
    except BaseException:  # noqa: BLE001 (the parent looks at the exit code)
        os._exit(1)
    os._exit(0)


@pytest.fixture
def started(labelling, tmp_path):
    """``started(rank=0)``: a forked process that labels slowly, and the files it has made are in ``tmp_path/made``."""
    recipe = labelling(top_k=2)
    context = multiprocessing.get_context("fork")
    processes = []

    def start(rank: int = 0, world: int = 1, slow: str = SLOW):
        environment = {"RANK": str(rank), "WORLD_SIZE": str(world), "TEACHER_SECONDS": slow}
        process = context.Process(target=work, args=(recipe, tmp_path / "s", environment, tmp_path / "made"))
        process.start()
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()


@pytest.fixture(scope="module")
def undisturbed(labelling, tmp_path_factory, content_of):
    """Files of the store that one process makes."""
    store = tmp_path_factory.mktemp("undisturbed") / "s"
    label(labelling(top_k=2), store, shard_items=SHARD_ITEMS)
    return content_of(store)


@pytest.mark.parametrize("same_rank", [False, True])
def test_two_processes_make_one_store(same_rank, started, undisturbed, tmp_path, content_of):
    """As ranks of one ``torchrun``, and as one command given twice by mistake."""
    several = [started(0 if same_rank else rank, 1 if same_rank else 2) for rank in range(2)]
    for process in several:
        process.join()
    assert [process.exitcode for process in several] == [0, 0]
    assert content_of(tmp_path / "s") == undisturbed
    made = (tmp_path / "made").read_text().split()
    assert sorted(made) == sorted(set(made))
    assert len(made) == 6


def killed_until_done(started, chance, store, made, kills) -> None:
    """Start, kill -9 at a random moment, and again; then let it finish."""
    finished: set[str] = set()
    for _ in range(kills):
        process = started()
        time.sleep(chance.uniform(0.0, 0.35))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        there = {path.name for path in store.glob("labels-*")}
        assert finished <= there
        finished = there
    process = started(slow="0")
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_loses_nothing_and_repeats_nothing(seed, started, undisturbed, tmp_path, content_of):
    killed_until_done(started, random.Random(seed), tmp_path / "s", tmp_path / "made", 3)
    assert content_of(tmp_path / "s") == undisturbed
    made = (tmp_path / "made").read_text().split()
    assert sorted(made) == sorted(set(made))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_ten_kills(seed, started, undisturbed, tmp_path, content_of):
    killed_until_done(started, random.Random(seed + 10), tmp_path / "s", tmp_path / "made", 10)
    assert content_of(tmp_path / "s") == undisturbed
    made = (tmp_path / "made").read_text().split()
    assert sorted(made) == sorted(set(made))


def test_one_of_two_is_killed_and_the_other_takes_over(started, undisturbed, tmp_path, content_of):
    first, second = started(0, 2, "0.05"), started(1, 2)
    while not list((tmp_path / "s").glob("work/*.claim")):
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.join()
    assert second.exitcode == 0
    assert content_of(tmp_path / "s") == undisturbed


def command_of(recipe, store, tmp_path) -> list[str]:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(recipe.dumps())), encoding="utf-8")
    return ["kdcompress", "label", str(path), "-o", str(store), "--shard-items", str(SHARD_ITEMS)]


@pytest.mark.slow
def test_torchrun_with_two_processes_equals_one(labelling, undisturbed, tmp_path, content_of):
    words = command_of(labelling(top_k=2), tmp_path / "s", tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TEACHER_SECONDS": "0.05"}
    done = subprocess.run([*launcher, *words], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top_k labels of 12 items") == 1
    assert content_of(tmp_path / "s") == undisturbed


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_command_goes_on(labelling, undisturbed, tmp_path, content_of):
    words = command_of(labelling(top_k=2), tmp_path / "s", tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TEACHER_SECONDS": "0.3"}
    process = subprocess.Popen([sys.executable, "-m", *words], env=environment, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "s").glob("labels-*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert "repeat the command to go on" in told
    assert not list((tmp_path / "s").rglob("*.claim"))
    assert not list((tmp_path / "s").rglob("*.tmp"))
    again = subprocess.run([sys.executable, "-m", *words, "--json"], env={**environment, "TEACHER_SECONDS": "0"},
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(again.stdout)["items"] == 12
    assert content_of(tmp_path / "s") == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_is_really_full(labelling, tmp_path, content_of, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        recipe = labelling("full")
        label(recipe, tmp_path / "wide", shard_items=SHARD_ITEMS)
        with pytest.MonkeyPatch.context() as patch:
            # the estimate would say so at once
            patch.setattr("kdcompress.labels.label.check_room", lambda *_: None)
            (small / "ballast").write_bytes(b"0" * 100_000)
            with pytest.raises(LabelStoreError, match="no room for"):
                label(recipe, small / "s", shard_items=SHARD_ITEMS)
        assert not list((small / "s").rglob("*.tmp"))
        (small / "ballast").unlink()
        label(recipe, small / "s", shard_items=SHARD_ITEMS)
        assert content_of(small / "s") == content_of(tmp_path / "wide")
    finally:
        subprocess.run(["umount", str(small)], check=True)
