"""Who gives targets. A teacher is a trained network that says what distribution each frame should have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcompress.teachers.conventional import ConventionalTeacher
from kdcompress.teachers.lstm import LstmTeacher
from kdcompress.teachers.oracle import OracleTeacher
from kdcompress.teachers.vgg import VggTeacher

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcompress.model_settings import TeacherConfig
    from kdcompress.network import CtcNetwork, Frontend

TEACHERS: dict[str, Callable[..., CtcNetwork]] = {
    "conventional": ConventionalTeacher,
    "oracle": OracleTeacher,
    "vgg": VggTeacher,
    "lstm": LstmTeacher,
}
"""By the ``kind`` of a recipe's ``model`` section."""


def build_teacher(config: TeacherConfig, frontend: Frontend, num_tokens: int) -> CtcNetwork:
    """Build the teacher that ``config.kind`` names, with fresh weights; arguments as for ``build_student``."""
    return TEACHERS[config.kind](config, frontend, num_tokens)
