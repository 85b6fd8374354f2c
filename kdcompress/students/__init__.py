"""Compact CTC students; one file a family. ``build_student`` knows them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.students.chunked_conformer import ChunkedConformerStudent
from kdcompress.students.cnn import CnnStudent
from kdcompress.students.full_context import FullContextStudent
from kdcompress.students.separable_conv import SeparableConvStudent

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcompress.model_settings import StudentConfig, WholeStudentConfig
    from kdcompress.network import CtcNetwork, Frontend
    from kdcompress.students.base import Student

    AnyStudent = StudentConfig | WholeStudentConfig

STUDENTS: dict[str, Callable[..., Student]] = {
    "separable_conv": SeparableConvStudent,
    "cnn": CnnStudent,
    "chunked_conformer": ChunkedConformerStudent,
}
"""Those that stream, by the ``kind`` of a recipe's ``model`` section."""
WHOLE_STUDENTS: dict[str, Callable[..., CtcNetwork]] = {"full_context": FullContextStudent}
"""Those that take whole inputs."""


def build_student(config: AnyStudent, frontend: Frontend, num_tokens: int) -> CtcNetwork:
    """Build the student that ``config.kind`` names, with fresh weights.

    Args:
        config: the ``model`` section of a recipe.
        frontend: raw inputs -> features; becomes part of the student.
        num_tokens: size of the vocabulary, blank included.
    """
    return {**STUDENTS, **WHOLE_STUDENTS}[config.kind](config, frontend, num_tokens)
