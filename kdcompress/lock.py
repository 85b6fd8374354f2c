"""One training a folder: a lock file that says who trains there, and does not outlive whoever that was."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from kdcompress.errors import RunError
from kdcompress.parallel import by_main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accelerate.state import PartialState

LOCK = "run.lock"
"""Name of the lock file in the folder of a run."""
BEAT_SECONDS = 20.0
"""How often its time stamp is renewed."""
SILENT_SECONDS = 300.0
"""After as long without a new time stamp, a process on another machine counts as dead."""


@contextmanager
def alone_in(folder: Path, state: PartialState) -> Iterator[None]:
    """Keep every other training out of ``folder`` for the time of the block; the processes of one share a lock.

    The file names process, machine and start, and its time stamp is renewed while the block runs. One that a killed
    process left behind is taken over: at once on the same machine, where the process can be looked for; on another
    one when its time stamp is ``SILENT_SECONDS`` old by the clock of the file system. A folder that the block leaves
    empty is removed again.

    Raises:
        RunError: another process trains there, or the lock cannot be written; on all processes.
    """
    with ExitStack() as stack:
        by_main(lambda: stack.enter_context(_held(folder)), state)
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``; for one of the processes."""
    path, mine = folder / LOCK, _myself()
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _guarded(path):
            holder = _read(path)
            if holder is not None and _trains(path, holder):
                raise RunError(_refusal(path, holder))
            path.write_text(json.dumps(mine) + "\n", encoding="utf-8")
        _remove_leftovers(folder)
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            with _guarded(path):
                if _read(path) == mine:
                    path.unlink()
    finally:
        with suppress(OSError):
            for parent in made:
                parent.rmdir()


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``; for whoever is alone in it."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _myself() -> dict[str, Any]:
    return {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": _machine(), "since": time.time()}


def _machine() -> str:
    """Name of this machine, and of the world of process ids in it: containers may share the name."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _read(path: Path) -> dict[str, Any] | None:
    """Who holds the lock; nobody where the file is missing, or was cut short by a kill or a full disk."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"pid", "started", "host", "since"} <= set(holder) else None


def _trains(path: Path, holder: dict[str, Any]) -> bool:
    """Whether whoever wrote the lock is still there."""
    if holder["host"] != _machine():
        return _age(path) < SILENT_SECONDS
    try:
        process = psutil.Process(holder["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:  # killed, and nobody has asked how it ended
            return False
        same = abs(process.create_time() - holder["started"]) < 1
    except psutil.NoSuchProcess:
        return False
    # another process may have got the number since; or the clock was set, by which start times are told
    return same or _age(path) < 3 * BEAT_SECONDS


def _age(path: Path) -> float:
    """Seconds since the time stamp of a file, by the clock that gave it."""
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _refusal(path: Path, holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return (
        f"{path.parent}: process {holder['pid']} on {holder['host'].split()[0]} has been training there since {since}; "
        f"wait for it, or choose another output folder. (If it is gone for certain, remove {path})"
    )


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(path)


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time look at the lock and change it."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover (Windows)
        yield
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock nothing
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
