"""Writing a bundle so that nobody ever sees half of one, and only a bundle is ever replaced.

The folder of another runtime is written the same way: it has a document of its own instead of ``bundle.json``, with
the same ``format_version`` and ``files``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import ExportError
from kdcompress_export.interrupts import interrupts_held
from kdcompress_runtime.bundle import METADATA_FILE, Bundle
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ZIP_SUFFIX = ".zip"
_TEMPORARY, _OLD = ".tmp", ".old"
_DOCUMENTS = (METADATA_FILE, "sherpa-onnx.json", "rapidocr.json")
"""One of them names the files of a folder and their SHA-256."""
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file


def write_bundle(output: Path, contents: Mapping[str, bytes], *, overwrite: bool = True) -> None:
    """Write a bundle: a folder, or one file when ``output`` ends in ``.zip``.

    Everything goes to a temporary sibling, is read back, and moves into place at the end. Whatever interrupts it,
    no half-written output stays and a bundle that was there before stays whole: errors and Ctrl-C are cleaned up
    here, and what a killed process left is cleaned up by the next call for the same output.

    Args:
        output: where; its parents are made.
        contents: file names and contents, ``bundle.json`` (or the document of another runtime) among them.
        overwrite: replace a bundle that is there.

    Raises:
        ExportError: something is there that is no bundle, or ``overwrite`` is off, or it cannot be written.
        BundleError: the contents are no bundle.
    """
    with interrupts_held() as pause:
        _sweep(output)
        check_replaceable(output, overwrite=overwrite)
        temporary = _sibling(output, _TEMPORARY)
        try:
            _write(temporary, output, contents, pause)
            pause()
            _move(temporary, output)
        except OSError as error:
            if isinstance(error, KdcompressError):
                raise
            raise ExportError(
                f"cannot write the bundle to {output} ({error}); choose another place or make room"
            ) from error
        finally:
            _remove(temporary)


def _write(temporary: Path, output: Path, contents: Mapping[str, bytes], pause: Callable[[], None]) -> None:
    """Write everything beside the output, and read it back."""
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove(temporary)
    if output.suffix == ZIP_SUFFIX:
        _write_zip(temporary, contents, pause)
    else:
        temporary.mkdir()
        for name, content in contents.items():
            pause()
            (temporary / name).write_bytes(content)
    if METADATA_FILE in contents:
        written = Bundle.open(temporary)
        for name in written.metadata.files:
            pause()
            written.read(name)
    elif _bundle_files(temporary) != set(contents):
        raise ExportError(f"what was to be written to {output} is not what its document names")


def check_replaceable(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that would destroy something.

    Raises:
        ExportError: something is there that is no bundle, holds more than a bundle, or may not be overwritten.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    named = _bundle_files(output)
    if named is None:
        raise ExportError(f"{output} is there and is no bundle; name another output, or remove it yourself")
    foreign = sorted({entry.name for entry in output.iterdir()} - named) if output.is_dir() else []
    if foreign:
        raise ExportError(f"{output} holds more than a bundle ({', '.join(foreign[:3])}); name another output")
    if not overwrite:
        raise ExportError(f"{output} is there already; name another output, or allow overwriting")


def _bundle_files(path: Path) -> set[str] | None:
    """Names that the document at ``path`` accounts for, itself among them; None where there is none."""
    for document in _DOCUMENTS:
        try:
            if path.is_dir():
                row: Any = json.loads((path / document).read_text(encoding="utf-8"))
            else:
                with zipfile.ZipFile(path) as archive:
                    row = json.loads(archive.read(document))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            continue
        if isinstance(row, dict) and "format_version" in row and isinstance(row.get("files"), dict):
            return {document, *row["files"]}
    return None


def _write_zip(path: Path, contents: Mapping[str, bytes], pause: Callable[[], None]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            pause()
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


def _move(temporary: Path, output: Path) -> None:
    if not output.is_dir() or not any(output.iterdir()):
        if output.is_dir():
            output.rmdir()
        temporary.replace(output)
        return
    # A folder with content cannot be replaced in one step; Ctrl-C is held back between the two renames.
    old = _sibling(output, _OLD)
    try:
        output.rename(old)
        temporary.replace(output)
    finally:
        if not output.exists() and old.exists():
            old.rename(output)
        _remove(old)


def _sibling(output: Path, kind: str) -> Path:
    return output.with_name(f".{output.name}.{os.getpid()}{kind}")


def _sweep(output: Path) -> None:
    """Clean up after processes that were killed while writing here; a bundle they had moved aside comes back."""
    pattern = re.compile(rf"\.{re.escape(output.name)}\.(\d+)({re.escape(_OLD)}|{re.escape(_TEMPORARY)})")
    for path in sorted(output.parent.iterdir()) if output.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match is None or _alive(int(match[1])):
            continue
        if match[2] == _OLD and not output.exists():
            path.rename(output)
        else:
            _remove(path)


def _alive(process: int) -> bool:
    """Whether a process runs; in doubt it does."""
    if process == os.getpid() or os.name == "nt":  # there, signal 0 is no question but Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists() or path.is_symlink():
        path.unlink()
