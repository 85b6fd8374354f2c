"""A folder in the making that outlives the process: the audio in it is written once, however often that stops."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kdcompress.data.prepared import SETTINGS_FILE, PreparedFolder
from kdcompress.files import write_text
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

MARKER = "partial.json"
AUDIO = "audio"


@contextmanager
def resumable(folder: PreparedFolder, audio_fingerprint: str) -> Iterator[Path]:
    """Give a folder to write to, and move it into place when the block ends well.

    When it does not, audio files that are whole stay in ``.NAME.partial`` for the next attempt; everything else goes.

    Args:
        folder: what is made.
        audio_fingerprint: what the audio follows from; audio of an attempt with another one is removed.

    Raises:
        OptionsError: another process makes this folder at this moment; see also ``PreparedFolder.is_ready``.
    """
    building = folder.path.with_name(f".{folder.path.name}.partial")
    building.mkdir(parents=True, exist_ok=True)
    with _locked(building, folder.path):
        _keep_only_audio(building, audio_fingerprint)
        try:
            yield building
            content = {**folder.settings, "fingerprint": folder.fingerprint()}
            write_text(building / SETTINGS_FILE, json.dumps(content, indent=2) + "\n")
            try:
                building.replace(folder.path)
                (folder.path / MARKER).unlink()
            except OSError:
                # another process was faster; is_ready objects to what is not the same
                if not folder.is_ready():
                    raise
                shutil.rmtree(building, ignore_errors=True)
        except BaseException:
            _leave(building, audio_fingerprint)
            raise


def _keep_only_audio(building: Path, audio_fingerprint: str) -> None:
    marker = building / MARKER
    same = marker.is_file() and marker.read_text(encoding="utf-8") == audio_fingerprint
    _remove(building, keep=(AUDIO,) if same else ())
    for half in (building / AUDIO).glob("*/.*.tmp"):
        half.unlink()
    write_text(marker, audio_fingerprint)


def _leave(building: Path, audio_fingerprint: str) -> None:
    if not (building / AUDIO).is_dir():
        shutil.rmtree(building, ignore_errors=True)
    elif building.is_dir():
        _remove(building, keep=(AUDIO, MARKER))
        write_text(building / MARKER, audio_fingerprint)
        logger.warning("audio that is written is kept in %s; the same command goes on with it", building)


def _remove(building: Path, keep: tuple[str, ...]) -> None:
    for path in building.iterdir():
        if path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


@contextmanager
def _locked(building: Path, made: Path) -> Iterator[None]:
    """Keep other processes out; the lock ends with the process, whatever ends it. Windows has no such lock."""
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:
        yield
        return
    handle = os.open(building, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OptionsError(
                f"another process is preparing {made}; wait until it is done, or name another folder"
            ) from error
        yield
    finally:
        os.close(handle)
