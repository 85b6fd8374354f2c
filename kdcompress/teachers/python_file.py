"""A Python file that makes a teacher: it is run, with all that a Python program may do."""

from __future__ import annotations

import hashlib
import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

from kdcompress.errors import TeacherError
from kdcompress.files import file_sha256
from kdcompress.teachers.foreign import one_line
from kdcompress.teachers.teacher import Said, Teacher
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    import torch
    from torch import Tensor

    from kdcompress.hearing import Heard
    from kdcompress.recipe import Recipe

FUNCTION = "teacher"
"""What a file must define: ``def teacher() -> Teacher``."""


class PythonFileTeacher(Teacher):
    """What the function ``teacher`` of a file returned; the file's content is part of its fingerprint."""

    def __init__(self, file: Path) -> None:
        """Run a file, and call its function.

        Raises:
            TeacherError: it cannot be run, defines no such function, or that fails or returns something else.
        """
        with _beside(file):
            made = _call(file, _run(file))
        self._made, self.answers_anything = made, made.answers_anything
        both = hashlib.sha256(f"{file_sha256(file)} {made.info.fingerprint}".encode()).hexdigest()
        self.info = replace(made.info, source=file, fingerprint=both)

    def check(self, recipe: Recipe) -> None:
        """See ``Teacher.check``."""
        self._made.check(recipe)

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        self._made.to(device)

    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``."""
        return self._made.answer(heard, items)


@contextmanager
def _beside(file: Path) -> Iterator[None]:
    """Inside, modules that lie beside the file can be imported, as if Python had been started with it."""
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _run(file: Path) -> ModuleType:
    """Run a file as a module of its own name, so that two files of one name do not meet."""
    name = f"kdcompress_teacher_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TeacherError(f"{file}: not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise TeacherError(f"{file}: running it fails ({type(error).__name__}: {one_line(error)})") from error
    return module


def _call(file: Path, module: ModuleType) -> Teacher:
    function = getattr(module, FUNCTION, None)
    if not callable(function):
        raise TeacherError(f"{file}: defines no function `{FUNCTION}()` that returns a Teacher (docs/teachers.md)")
    try:
        made = function()
    except KdcompressError as error:
        raise TeacherError(f"{file}: {error}") from error
    except (Exception, SystemExit) as error:
        raise TeacherError(f"{file}: {FUNCTION}() fails ({type(error).__name__}: {one_line(error)})") from error
    if not isinstance(made, Teacher):
        kind = type(made).__name__
        raise TeacherError(f"{file}: {FUNCTION}() returns {kind}, not a Teacher; wrap a torch module in TorchTeacher")
    return made
