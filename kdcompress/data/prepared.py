"""Folders of prepared data: complete or absent, and reused when they were made with the same settings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import MissingDependencyError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class PreparedFolder:
    """A folder that is made once from ``settings``, which ``settings.json`` in it records."""

    path: Path
    """Where the folder is to be."""
    settings: Mapping[str, Any]
    """Everything that decides the content; JSON values only."""

    def is_ready(self) -> bool:
        """Return whether the folder is there, made with the same settings.

        Raises:
            OptionsError: something else is there, or it was made with other settings.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        try:
            found = json.loads((self.path / SETTINGS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            raise OptionsError(
                f"{self.path} is there but holds no prepared data; name another folder, or remove this one"
            )
        keys = {*found, *self.settings} - {"fingerprint"}
        other = sorted(key for key in keys if found.get(key) != self.settings.get(key))
        if other or found.get("fingerprint") != self.fingerprint():
            changed = ", ".join(_difference(key, found.get(key), self.settings.get(key)) for key in other)
            raise OptionsError(
                f"{self.path} was prepared with other settings: {changed or 'the fingerprint differs'}; "
                "name another folder, or remove this one to prepare it again"
            )
        return True

    def fingerprint(self) -> str:
        """SHA-256 of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a folder to write to, and move it into place when the block ends well; else remove it.

        Another process that makes the same folder at the same time does no harm: the first one stays.

        Raises:
            OptionsError: see ``is_ready``; another process made the folder with other settings.
        """
        building = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        building.mkdir(parents=True)
        try:
            yield building
            content = json.dumps({**self.settings, "fingerprint": self.fingerprint()}, indent=2) + "\n"
            (building / SETTINGS_FILE).write_text(content, encoding="utf-8")
            try:
                building.replace(self.path)
            except OSError:
                if not self.is_ready():
                    raise
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _difference(key: str, found: object, asked: object) -> str:
    simple = all(value is None or isinstance(value, (str, int, float)) for value in (found, asked))
    return f"{key} is {found!r} there, {asked!r} asked" if simple else f"{key} differs"


def write_flac(path: Path, samples: NDArray[np.float32], sample_rate: int) -> None:
    """Write float32 samples of shape ``(n,)`` in [-1, 1] as 16-bit FLAC.

    Raises:
        MissingDependencyError: soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError as error:
        raise MissingDependencyError(
            "writing audio files needs soundfile; install it with `pip install 'kdcompress[audio]'`"
        ) from error
    pcm = np.clip(np.rint(samples.astype(np.float64) * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(str(path), pcm, sample_rate, format="FLAC", subtype="PCM_16")
