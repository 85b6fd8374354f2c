"""What a teacher that labels is given of an item, and how long that is: what its labels are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from kdcompress.data.task import TASKS
from kdcompress.errors import MismatchError
from kdcompress.recipe import AnyFrontend

if TYPE_CHECKING:
    from kdcompress.data.batch import Batch
    from kdcompress.recipe import Recipe
    from kdcompress.teachers.teacher import Teacher

AUGMENTATION = "none: as in the manifest"
CHARACTERS = "characters"
"""What source sentences are measured in where they are read as they are written."""


def as_heard_by(teacher: Teacher, recipe: Recipe) -> Recipe:
    """Return the recipe with the teacher's own way to read an item, and nothing that changes one.

    Raises:
        MismatchError: the teacher hears audio, and the items are none.
    """
    rate = teacher.info.sample_rate
    if rate is not None and recipe.frontend.sample_rate is None:
        raise MismatchError(
            f"{teacher.info.source}: hears recordings, and task {recipe.task} has none; name a teacher of that task"
        )
    if rate is not None:
        frontend = recipe.frontend.model_copy(update={"sample_rate": rate})
    else:
        frontend = recipe.frontend if teacher.frontend is None else teacher.frontend
    plain = {"speed": (1.0,), "lead_in_s": (0.0, 0.0), "gain_db": (0.0, 0.0), "noise": None, "spec": None}
    augment = recipe.augment.model_copy(update={**plain, "image": None})
    return recipe.model_copy(update={"frontend": frontend, "augment": augment})


def read_as_told(teacher: Teacher, recipe: Recipe) -> Recipe:
    """Return the recipe with what only teacher or data can tell of its inputs, where the teacher looks at them."""
    if teacher.reads_sources or teacher.info.text_units:
        return recipe
    return TASKS[recipe.task].resolved(recipe, [] if teacher.frontend is None else [teacher.frontend])


def heard_by(teacher: Teacher, recipe: Recipe) -> dict[str, Any]:
    """Section ``heard`` of a plan, of a recipe that ``read_as_told`` gave."""
    found: dict[str, Any] = {
        "task": recipe.task,
        "sample_rate": teacher.info.sample_rate,
        "augmentation": AUGMENTATION,
        "max_duration": recipe.longest,
    }
    if teacher.reads_sources:
        return {**found, "measure": CHARACTERS}
    if teacher.info.text_units:
        return found
    frontend = as_heard_by(teacher, recipe).frontend
    counted = {name: getattr(frontend, name) for name in frontend.counted_by}
    return {**found, "frontend": {"kind": frontend.kind, **counted}} if counted else found


def frontend_of(heard: dict[str, Any]) -> AnyFrontend | None:
    """What a section ``heard`` says of how items were read; all else is the default of that kind."""
    told = heard.get("frontend")
    if told is None:
        return None
    found: AnyFrontend = TypeAdapter(AnyFrontend).validate_python(told)
    return found


def length_of(batch: Batch, row: int, teacher: Teacher) -> float:
    """Length of an item as the teacher has it: seconds, input units where there is no audio, characters of a source."""
    if teacher.reads_sources:
        return float(len(batch.sources[row]))
    factor, offset = batch.times[row].tolist()
    length: float = factor * int(batch.input_lens[row]) / (batch.sample_rate or 1) - offset
    return length
