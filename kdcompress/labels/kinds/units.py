"""What a language model says of each text: its units, and the most probable ones in the place of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcompress.labels.kinds.base import LabelKind, Layout, ids_dtype
from kdcompress.teachers.teacher import Said
from kdcompress.text_models.unit_labels import UnitLabels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.labels.kinds.base import Arrays, Reference
    from kdcompress.losses.base import Answer


class Units(LabelKind):
    """Rows are units of a text; log-probabilities and states are float16."""

    needs: ClassVar[tuple[Answer, ...]] = ("units",)
    gives: ClassVar[Answer] = "units"

    def __init__(self, num_units: int, top_k: int, *, states: bool) -> None:
        self.top_k, self.states = min(top_k, num_units), states
        ids = ids_dtype(num_units - 1)
        self.layout = {
            "units": Layout("units", ids),
            "words": Layout("units", "<u4"),
            "shares": Layout("units", "<f4"),
            "ids": Layout("units", ids, (self.top_k,)),
            "log_probs": Layout("units", "<f2", (self.top_k,)),
        }
        if states:
            # one after the other, because the width is the model's
            self.layout["states"] = Layout("state_values", "<f2")

    def encode(self, said: Said, reference: Reference) -> list[Arrays]:  # noqa: ARG002
        """See ``LabelKind.encode``."""
        return [self._arrays(text) for text in said.units]

    def _arrays(self, text: UnitLabels) -> Arrays:
        found: Arrays = {
            "units": text.units,
            "words": text.words,
            "shares": text.shares,
            "ids": text.ids[:, : self.top_k],
            "log_probs": text.log_probs[:, : self.top_k].clip(min=np.finfo(np.float16).min),
        }
        if self.states:
            found["states"] = np.zeros(0, np.float16) if text.states is None else text.states.reshape(-1)
        return {name: array.astype(self.layout[name].dtype) for name, array in found.items()}

    def decode(self, items: Sequence[Mapping[str, NDArray[Any]]], frame_lens: Tensor, labels: int) -> Said:  # noqa: ARG002
        """See ``LabelKind.decode``."""
        return Said(frame_lens, units=tuple(map(self.read, items)))

    def read(self, item: Mapping[str, NDArray[Any]]) -> UnitLabels:
        """One item; each distribution sums to at most one, rounded as it is."""
        log_probs = item["log_probs"].astype(np.float32)
        log_probs -= np.maximum(np.log(np.exp(log_probs).sum(axis=1, keepdims=True)), 0.0)
        count = len(item["units"])
        return UnitLabels(
            units=item["units"].astype(np.int64),
            words=item["words"].astype(np.int64),
            shares=item["shares"].astype(np.float32),
            ids=item["ids"].astype(np.int64),
            log_probs=log_probs,
            states=item["states"].astype(np.float32).reshape(count, -1) if self.states and count else None,
        )
