"""Who does what, agreed through files alone: several processes, on several machines, without a coordinator.

Whoever creates the file of a piece of work has it (``O_EXCL``), and touches it now and then. The claim of a process of
this machine that is gone, or one that nobody touched for long, is taken over. What two do at once by bad luck comes out
equal and is moved into place whole, so a claim saves time; nothing depends on it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from types import TracebackType

HEARTBEAT = 15.0
"""Seconds between touches."""
LOST_AFTER = 300.0
"""Seconds without a touch after which the owner counts as dead."""


class Claims:
    """Claims in one folder."""

    def __init__(self, folder: Path, *, heartbeat: float = HEARTBEAT, lost_after: float = LOST_AFTER) -> None:
        self.folder, self.heartbeat, self.lost_after = folder, heartbeat, lost_after

    def take(self, name: str) -> Claim | None:
        """Claim a piece of work; None where someone alive has it, or where the folder is gone."""
        path = self.folder / f"{name}.claim"
        token = json.dumps({"host": _host(), "pid": os.getpid(), "began": _began(os.getpid()), "token": uuid4().hex})
        if _create(path, token):
            return Claim(path, token, self.heartbeat)
        if self._put_away(path) and _create(path, token):
            return Claim(path, token, self.heartbeat)
        return None

    def _put_away(self, path: Path) -> bool:
        """Remove the claim of a dead owner; False where the owner is alive, or another was faster."""
        held = _read(path)
        if held is None or not self._dead(path, held):
            return False
        aside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
        try:
            path.rename(aside)
        except OSError:
            return False
        moved = _read(aside)
        if moved != held and moved is not None:
            # between the two looks someone else took it over: give it back
            _create(path, moved)
        aside.unlink(missing_ok=True)
        return moved == held

    def _dead(self, path: Path, held: str) -> bool:
        try:
            age = self._now() - path.stat().st_mtime
        except OSError:
            return False
        if age > self.lost_after:
            return True
        try:
            owner = json.loads(held)
            return bool(owner["host"] == _host() and not _alive(int(owner["pid"]), owner["began"]))
        except (ValueError, KeyError, TypeError):
            # killed between creating and writing; nobody writes that slowly
            return age > self.heartbeat

    def _now(self) -> float:
        """The time by the clock of the file system, which may be another machine's."""
        probe = self.folder / f".now.{socket.gethostname()}.{os.getpid()}.tmp"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            probe.unlink(missing_ok=True)


class Claim:
    """A claim that is held; as a context it is touched, and given up at the end."""

    def __init__(self, path: Path, token: str, heartbeat: float) -> None:
        self.path, self._token, self._heartbeat = path, token, heartbeat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        # one that was taken over belongs to someone else by now
        if _read(self.path) == self._token:
            self.path.unlink(missing_ok=True)

    def _touch(self) -> None:
        with suppress(OSError):  # whoever removed it knows why
            while not self._over.wait(self._heartbeat):
                os.utime(self.path)


def _create(path: Path, content: str) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except (FileExistsError, FileNotFoundError):
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(content)
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _host() -> str:
    """This machine; containers with their own processes count as machines."""
    try:
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        processes = ""
    return f"{socket.gethostname()} {processes}".strip()


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the machine did, so that a reused number is no mistake; None: not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else fields[19]


def _alive(pid: int, began: str | None) -> bool:
    if began is not None:
        return _began(pid) == began
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
