"""Claims: one owner at a time, and none that is dead keeps anything."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import pytest

from kdcompress.labels.claims import Claims, _began, _host


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path)


def test_one_owner_at_a_time(claims, tmp_path):
    with claims.take("a") as held:
        assert held.path == tmp_path / "a.claim"
        assert claims.take("a") is None
        with claims.take("b"):
            pass
    assert list(tmp_path.iterdir()) == []
    with claims.take("a"):
        assert json.loads((tmp_path / "a.claim").read_text())["pid"] == os.getpid()


def test_a_dead_process_of_this_machine_keeps_nothing(claims, tmp_path):
    child = multiprocessing.get_context("fork").Process(target=claims.take, args=("a",))
    child.start()
    child.join()
    assert (tmp_path / "a.claim").is_file()
    with claims.take("a"):
        assert claims.take("a") is None


def test_a_number_that_was_given_to_another_process(claims, tmp_path):
    claim = {"host": _host(), "pid": os.getpid(), "began": "1", "token": "t"}
    assert _began(os.getpid()) not in {None, "1"}
    (tmp_path / "a.claim").write_text(json.dumps(claim))
    assert claims.take("a") is not None


def test_another_machine_is_believed_until_it_is_silent(claims, tmp_path):
    path = tmp_path / "a.claim"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "began": None, "token": "t"}))
    assert claims.take("a") is None
    long_ago = time.time() - claims.lost_after - 10
    os.utime(path, (long_ago, long_ago))
    assert claims.take("a") is not None


def test_a_claim_that_was_never_written_to_the_end(claims, tmp_path):
    path = tmp_path / "a.claim"
    path.write_text('{"host": "els')
    assert claims.take("a") is None
    ago = time.time() - claims.heartbeat - 10
    os.utime(path, (ago, ago))
    assert claims.take("a") is not None


def test_a_held_claim_is_touched(tmp_path):
    with Claims(tmp_path, heartbeat=0.01).take("a") as held:
        os.utime(held.path, (1, 1))
        until = time.monotonic() + 20
        while held.path.stat().st_mtime < 100 and time.monotonic() < until:
            time.sleep(0.01)
        assert held.path.stat().st_mtime > 100


def test_who_lost_a_claim_leaves_the_new_one_alone(claims, tmp_path):
    with claims.take("a"):
        (tmp_path / "a.claim").write_text("someone else's")
    assert (tmp_path / "a.claim").read_text() == "someone else's"


def test_a_live_claim_that_came_in_between_is_given_back(claims, tmp_path, monkeypatch):
    path = tmp_path / "a.claim"
    path.write_text(json.dumps({"host": _host(), "pid": 2**22 + 1, "began": None, "token": "dead"}))
    live = json.dumps({"host": "elsewhere", "pid": 1, "began": None, "token": "live"})
    dead = Claims._dead

    def slow(self, of, held):
        found = dead(self, of, held)
        path.write_text(live)  # while this one looked, another took it over
        return found

    monkeypatch.setattr(Claims, "_dead", slow)
    assert claims.take("a") is None
    assert path.read_text() == live


def test_a_folder_that_is_gone(tmp_path):
    assert Claims(tmp_path / "gone").take("a") is None
