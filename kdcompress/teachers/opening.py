"""Reading a teacher from a path, whatever it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.run import load_run
from kdcompress.teachers.run_teacher import RunTeacher

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.teachers.teacher import Teacher


def open_teacher(path: Path) -> Teacher:
    """Read the teacher that a path holds.

    Raises:
        RunError: it holds a run that cannot be used.
        TeacherError: it holds no teacher.
    """
    return RunTeacher(load_run(path))
