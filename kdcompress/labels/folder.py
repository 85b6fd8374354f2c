"""Names of the files of a store, and how they are written: whole or not at all, also when the power goes."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcompress.errors import LabelStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIND = "kdcompress-labels"
"""What ``index.json`` says it is."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class StoreFolder:
    """Names of the files of a store."""

    path: Path

    @property
    def index(self) -> Path:
        """What the store is, and the checksum of every file; there when the store is complete."""
        return self.path / "index.json"

    @property
    def table(self) -> Path:
        """One row an item."""
        return self.path / "items.npy"

    @property
    def codebooks(self) -> Path:
        """Centroids, where codes are stored."""
        return self.path / "codebooks.safetensors"

    @property
    def work(self) -> Path:
        """What is only there while the store is made: the plan, claims, and notes of finished shards."""
        return self.path / "work"

    @property
    def plan(self) -> Path:
        """What the store will be; written before anything else."""
        return self.work / "plan.json"

    def shard(self, number: int) -> Path:
        """Labels of some entries of the manifest."""
        return self.path / f"labels-{number:06d}.safetensors"

    def note(self, number: int) -> Path:
        """Checksum of a finished shard, so that it need not be read again for the index."""
        return self.work / f"{number:06d}.json"

    def shards(self) -> set[int]:
        """Numbers of the shards that are there."""
        names = (entry.name for entry in os.scandir(self.path)) if self.path.is_dir() else iter(())
        return {int(name[7:-12]) for name in names if name.startswith("labels-") and name.endswith(".safetensors")}


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, and still there after the power failed.

    Raises:
        LabelStoreError: there is no room.
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise no_room(path, len(content)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def no_room(path: Path, size: int) -> LabelStoreError:
    """Describe a full disk."""
    return LabelStoreError(
        f"{path}: no room for {size / 1e3:,.0f} kB more; what is finished is kept: free space, then repeat the command"
    )


def _sync_folder(folder: Path) -> None:
    """Make a rename last; not every file system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def leftovers(folder: Path) -> Iterator[Path]:
    """Temporary files that kills left behind."""
    yield from folder.glob(".*.tmp")
