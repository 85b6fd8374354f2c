"""Reading a teacher from a path, whatever it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kdcompress.errors import TeacherError
from kdcompress_runtime.bundle import METADATA_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdcompress.teachers.teacher import Teacher

STORE_INDEX, STORE_KIND = "index.json", "kdcompress-labels"
STORE_TABLE, STORE_PLAN = "items.npy", "work/plan.json"
TEXT_UNITS = "units.json"
ACCEPTED = (
    "a finished run, a bundle (folder or .zip), a store of `kdcompress label`, a Hugging Face *ForCTC folder, "
    "an .onnx file, or a .py file that defines teacher(); for sentences, a Hugging Face translator; to "
    "`kdcompress label`, a language model"
)
"""What a path may hold."""


def open_teacher(path: Path, texts: Iterable[str] = ()) -> Teacher:
    """Read the teacher that a path holds; a ``.py`` file is run.

    Args:
        path: see ``ACCEPTED``.
        texts: what it will be asked about; a Hugging Face language model is brought to the tokens that they use, and
            a translator keeps their characters.

    Raises:
        RunError: it holds a run that cannot be used.
        LabelStoreError: it holds stored labels that cannot be used.
        MissingDependencyError: what reads it is not installed.
        TeacherError: it holds no teacher, or one that cannot be used.
    """
    if path.is_dir():
        return _from_folder(path, texts)
    if not path.is_file():
        raise TeacherError(f"teacher not found: {path}; give {ACCEPTED}")
    if path.suffix == ".py":
        from kdcompress.teachers.python_file import PythonFileTeacher

        return PythonFileTeacher(path)
    if path.suffix == ".onnx":
        from kdcompress.teachers.onnx_file import OnnxTeacher

        return OnnxTeacher(path)
    if path.suffix == ".zip":
        from kdcompress.teachers.bundle_teacher import BundleTeacher

        return BundleTeacher(path)
    raise TeacherError(f"{path} is no teacher; give {ACCEPTED}")


def _from_folder(path: Path, texts: Iterable[str]) -> Teacher:
    if is_text_model(path):
        from kdcompress.teachers.language import TextTeacher

        return TextTeacher(path, texts)
    if (path / "recipe.yaml").is_file():
        from kdcompress.run import load_run
        from kdcompress.teachers.run_teacher import RunTeacher

        return RunTeacher(load_run(path))
    if (path / METADATA_FILE).is_file():
        from kdcompress.teachers.bundle_teacher import BundleTeacher

        return BundleTeacher(path)
    if is_store(path):
        from kdcompress.teachers.stored import StoredTeacher

        return StoredTeacher(path)
    if is_translator(path):
        from kdcompress.teachers.seq2seq import Seq2SeqTeacher

        return Seq2SeqTeacher(path, texts)
    if (path / "config.json").is_file():
        from kdcompress.teachers.hugging_face import HuggingFaceTeacher

        return HuggingFaceTeacher(path)
    inside = sorted(file.name for file in path.iterdir() if file.suffix in {".onnx", ".py", ".zip"})
    hint = f"; did you mean {path / inside[0]}?" if len(inside) == 1 else ""
    raise TeacherError(f"{path} holds no teacher; give {ACCEPTED}{hint}")


def is_text_model(path: Path) -> bool:
    """Whether a folder holds a language model: a run of one, or a Hugging Face folder."""
    if (path / TEXT_UNITS).is_file():
        return True
    return any(name.endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM")) for name in _architectures(path))


def is_translator(path: Path) -> bool:
    """Whether a folder holds a Hugging Face model that turns one text into another; or one that hears, or sees."""
    return any(name.endswith(("ForConditionalGeneration", "MarianMTModel")) for name in _architectures(path))


def _architectures(path: Path) -> list[str]:
    """Classes that a Hugging Face folder names; none where there is no such folder."""
    try:
        told = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return list(map(str, told.get("architectures") or []))
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def is_store(path: Path) -> bool:
    """Whether it is a store of labels, whole, unfinished or damaged; reading it says which."""
    if (path / STORE_TABLE).is_file() or (path / STORE_PLAN).is_file():
        return True
    try:
        index = json.loads((path / STORE_INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("kind") == STORE_KIND
