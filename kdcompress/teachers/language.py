"""A language model as a teacher that ``kdcompress label`` can ask: it reads the texts and hears nothing."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from kdcompress.teachers.teacher import Said, Teacher, TeacherInfo
from kdcompress.text_models.opening import open_text_model
from kdcompress.text_models.unit_labels import unit_labels
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

    from kdcompress.hearing import Heard


class TextTeacher(Teacher):
    """Says what the units of each text could have been."""

    def __init__(self, path: Path, texts: Iterable[str] = ()) -> None:
        """Open it; ``texts`` as for ``open_text_model``.

        Raises:
            TextModelError: there is no language model, or it cannot be used.
        """
        self.model = open_text_model(path, texts=texts)
        symbols = self.model.inventory.symbols
        self.info = TeacherInfo(
            source=path,
            name=self.model.name,
            kind=self.model.kind,
            fingerprint=self.model.fingerprint,
            vocabulary=Vocabulary.from_symbols(symbols),
            units="words",
            frame=Fraction(1),
            sample_rate=None,
            gives=frozenset({"units"}),
            hidden_dims=(self.model.state_dim,) if self.model.state_dim else (),
            text_units=self.model.inventory.kind,
        )

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        self.model.to(device)

    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``; all units of the inventory, whatever is kept of them."""
        batch = heard.batch
        texts = batch.words or batch.texts
        rows = range(len(texts)) if items is None else [row % len(texts) for row in items.tolist()]
        found = unit_labels(
            self.model, [texts[row] for row in rows], len(self.info.vocabulary), states=True, where="text"
        )
        return Said(torch.zeros(len(found), dtype=torch.int64), units=tuple(found))
