"""The tasks, and all in which they differ: what is fed, what is counted, and the words for both. Nothing else asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEECH, SCENE_TEXT, TRANSLATION = "speech", "scene_text", "translation"
"""Names of the tasks, as ``bundle.json`` has them."""
AUDIO, IMAGE, TEXT = "audio", "image", "text"
"""What a manifest can feed."""


@dataclass(frozen=True)
class Task:
    """One task."""

    name: str
    """Key of ``TASKS``."""
    title: str
    """In words."""
    input_kind: str
    """What its manifests feed."""
    unit: str
    """What one line of a manifest is called."""
    inputs: str
    """What the inputs are called, in the plural."""
    medium: str
    """What one input is called."""
    counted: str
    """What single errors are counted in: ``words``, ``characters``, or nothing for scores of whole texts."""
    worst_by: str
    """Metric that tells the worst."""
    normaliser: str
    """Of texts before they are compared, unless another one is asked for."""
    chunked: bool
    """Whether time is that of a chunk against the clock of the input; else that of a whole one."""

    @property
    def counts_characters(self) -> bool:
        """Whether single errors are those of characters."""
        return self.counted == "characters"

    @property
    def counts_words(self) -> bool:
        """Whether single errors are those of words."""
        return self.counted == "words"

    @property
    def between(self) -> str:
        """What stands between the pieces of a diff."""
        return "" if self.counts_characters else " "

    @property
    def step(self) -> str:
        """What latency is measured of."""
        return "chunk" if self.chunked else self.unit


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(SPEECH, "Speech", AUDIO, "utterance", "recordings", "recording", "words", "wer", "plain", chunked=True),
        Task(SCENE_TEXT, "Scene text", IMAGE, "line", "images", "image", "characters", "cer", "nocase", chunked=False),
        Task(
            TRANSLATION, "Translation", TEXT, "sentence", "source sentences", "sentence", "", "chrf", "plain",
            chunked=False,
        ),
    )
}  # fmt: skip
"""By name, in the order in which a report of several shows them."""
BY_INPUT: Mapping[str, Task] = {task.input_kind: task for task in TASKS.values()}
"""Tasks by what they are fed."""
