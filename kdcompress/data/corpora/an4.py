"""CMU AN4: ``etc/an4_train.fileids`` and ``.transcription``, audio below ``wav`` (SPHERE, WAV or headerless)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np

from kdcompress.data.corpora.base import Found, ManifestRow, RawSamples, Source, Unusable, check_folder, stated
from kdcompress_runtime.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".sph", ".wav", ".flac", ".raw")
SAMPLE_RATE = 16000
"""Hz of the files without a header."""
LINE = re.compile(r"^\s*(?:<s>)?(?P<text>.*?)(?:</s>)?\s*\((?P<name>[^()]+)\)\s*$")
"""``<s> YES </s> (an251-fash-b)``; lines of the test set lack the marks."""
GENDERS = {"f": "f", "m": "m"}
"""By the first letter of a speaker's name."""


def read_an4(source: Source) -> Iterator[Found]:
    """Yield the utterances of ``train`` and ``test``.

    Raises:
        DataNotFoundError: there is no such folder.
        ManifestError: it holds cepstra only, or lacks the lists in ``etc``.
    """
    check_folder(source.path, "AN4")
    root = source.path / "an4" if (source.path / "an4").is_dir() else source.path
    if not (root / "wav").is_dir():
        _refuse_without_audio(root)
    for split in ("train", "test"):
        files = root / "etc" / f"an4_{split}.fileids"
        if source.wants(split) and files.is_file():
            texts = _read_texts(files.with_suffix(".transcription"))
            for name in files.read_text(encoding="utf-8").split():
                yield split, _row(root / "wav" / name, texts, files)


def _refuse_without_audio(root: Path) -> None:
    """Say what the folder is instead.

    Raises:
        ManifestError: always.
    """
    cepstra = (root / "feat").is_dir() or any(root.glob("*.npz")) or any(root.glob("**/*.mfc"))
    if cepstra:
        raise ManifestError(
            f"{root} holds AN4 as cepstra, which is no audio: what is prepared here is recordings, and these cannot be "
            "made from cepstra; get an4_sphere.tar.gz or an4_raw.littleendian.tar.gz, or write a manifest that names "
            "the cepstra and train on them with `task: features`"
        )
    raise ManifestError(f"{root}: no folder wav; AN4 has etc/ and wav/ side by side")


def _read_texts(path: Path) -> dict[str, str]:
    """Text by name of the utterance; the corpus has about a thousand."""
    if not path.is_file():
        raise ManifestError(f"no transcription: {path}; get the corpus again")
    matches = map(LINE.match, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {match["name"]: match["text"].strip() for match in matches if match}


def _row(stem: Path, texts: dict[str, str], files: Path) -> ManifestRow | Unusable:
    path = next((found for suffix in SUFFIXES if (found := stem.with_name(stem.name + suffix)).is_file()), None)
    if path is None:
        return Unusable(str(files), "missing file", f"no audio {stem} with .sph, .wav or .raw", stem.name)
    if stem.name not in texts:
        reason = f"no line of {files.with_suffix('.transcription').name} ends with ({stem.name})"
        return Unusable(str(files), "no transcript", reason, stem.name)
    speaker = stem.parent.name
    return ManifestRow(
        id=stem.name,
        input=str(path),
        text=texts[stem.name],
        where=str(files),
        speaker=speaker,
        raw=RawSamples(SAMPLE_RATE, _byte_order(path)) if path.suffix == ".raw" else None,
        fields=stated(gender=GENDERS.get(speaker[:1])),
    )


def _byte_order(path: Path) -> Literal["LITTLE", "BIG"]:
    """The byte order in which the samples go up and down less; nothing in the file or its name tells."""
    data = path.read_bytes()
    data = data[: len(data) // 2 * 2]
    rough = {
        order: np.abs(np.diff(np.frombuffer(data, dtype=kind).astype(np.float64))).sum()
        for order, kind in (("LITTLE", "<i2"), ("BIG", ">i2"))
    }
    return "BIG" if rough["BIG"] < rough["LITTLE"] else "LITTLE"
