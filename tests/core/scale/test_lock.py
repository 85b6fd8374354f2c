"""One training a folder: who is kept out, and which locks are taken over."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pytest

from kdcompress import lock
from kdcompress.distill import fit
from kdcompress.errors import RunError
from kdcompress.lock import LOCK, SILENT_SECONDS, alone_in
from kdcompress.parallel import processes
from kdcompress.side_by_side import fit_side_by_side

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def neighbour(tmp_path):
    """Another process that holds the lock of a folder until the test is over."""
    ours, theirs = FORK.Pipe()

    def hold() -> None:
        with alone_in(tmp_path / "run", processes()):
            theirs.send("ready")
            theirs.poll(60)
        os._exit(0)

    process = FORK.Process(target=hold)
    process.start()
    assert ours.poll(30)
    yield process
    ours.send("done")
    process.join()


def write_lock(folder, *, age: float = 0.0, **changed) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / LOCK
    path.write_text(json.dumps({**lock._myself(), **changed}))
    os.utime(path, (time.time() - age,) * 2)


def taken(folder) -> bool:
    """Whether the lock of a folder can be taken; it is given back."""
    try:
        with alone_in(folder, processes()):
            holder = json.loads((folder / LOCK).read_text())
            assert holder["pid"] == os.getpid()
    except RunError:
        return False
    assert not (folder / LOCK).exists()
    return True


def test_a_second_training_is_refused(make_recipe, tmp_path, neighbour):
    recipe, folder = make_recipe("student"), tmp_path / "run"
    before = (folder / LOCK).read_bytes()
    words = f"{folder}: process {neighbour.pid} on .* has been training there since .* wait for it, or choose another"
    with pytest.raises(RunError, match=words):
        fit(recipe, folder)
    with pytest.raises(RunError, match=words):
        fit_side_by_side([(recipe, tmp_path / "other"), (recipe, folder)])
    assert [path.name for path in folder.iterdir()] == [LOCK]
    assert (folder / LOCK).read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, neighbour):
    os.kill(neighbour.pid, signal.SIGKILL)
    os.waitid(os.P_PID, neighbour.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    folder = tmp_path / "run"
    (folder / ".checkpoint.safetensors.123.tmp").write_bytes(b"half")
    assert (folder / LOCK).exists()
    with alone_in(folder, processes()):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert folder.is_dir()


def test_a_process_number_used_again_is_no_holder(tmp_path):
    write_lock(tmp_path, pid=os.getppid(), started=1.0, age=3600)
    assert taken(tmp_path)
    write_lock(tmp_path, pid=os.getppid(), started=1.0)  # fresh: the clock was set, perhaps
    assert not taken(tmp_path)


def test_locks_of_another_machine_count_by_their_time_stamp(tmp_path):
    write_lock(tmp_path, host="elsewhere", pid=1, age=SILENT_SECONDS / 2)
    assert not taken(tmp_path)
    write_lock(tmp_path, host="elsewhere", pid=1, age=SILENT_SECONDS + 5)
    assert taken(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_lock_cut_short_belongs_to_nobody(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    assert taken(tmp_path)


def test_the_time_stamp_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with alone_in(tmp_path, processes()):
        os.utime(tmp_path / LOCK, (1.0, 1.0))
        end = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime == 1.0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_what_was_made_is_removed_if_nothing_came_of_it(tmp_path):
    folder = tmp_path / "new" / "run"
    with pytest.raises(ZeroDivisionError), alone_in(folder, processes()):
        print(folder.is_dir() / 0)
    assert not (tmp_path / "new").exists()
    assert taken(tmp_path)
    assert tmp_path.exists()


def test_of_many_that_find_a_dead_lock_one_takes_it(tmp_path):
    write_lock(tmp_path, started=1.0, pid=2**22 + 1)
    go, stop, winners = FORK.Event(), FORK.Event(), FORK.Value("i", 0)

    def try_it() -> None:
        go.wait(30)
        try:
            with lock._held(tmp_path):
                with winners.get_lock():
                    winners.value += 1
                stop.wait(30)
        except RunError:
            pass
        os._exit(0)

    rivals = [FORK.Process(target=try_it) for _ in range(4)]
    for rival in rivals:
        rival.start()
    go.set()
    end = time.monotonic() + 30
    while sum(rival.is_alive() for rival in rivals) > 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    stop.set()
    for rival in rivals:
        rival.join()
    assert winners.value == 1
