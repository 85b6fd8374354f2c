"""Networks as language models: what those trained here and those of Hugging Face share, and the former."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcompress.errors import TextModelError
from kdcompress.text_models.scoring import BATCH_TOKENS, Predicted, score_causal, score_masked
from kdcompress.text_models.text_model import Scores, TextModel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from kdcompress.text_models.networks import TextNetwork
    from kdcompress.text_models.scoring import Readable
    from kdcompress.units.inventory import Inventory

LEAST_LOG_PROB = -87.0
"""In the place of minus infinity, which makes NaN of a divergence."""


class BatchedTextModel(TextModel):
    """Base of models that are networks."""

    network: Readable
    """What answers."""

    def score(self, texts: Sequence[Sequence[int]]) -> list[Scores]:
        """See ``TextModel.score``; a text that is there twice is read once.

        Raises:
            TextModelError: an id is none of the inventory's, a text is too long, or an answer is not finite.
        """
        distinct = list(dict.fromkeys(tuple(text) for text in texts if len(text)))
        check_ids(self, distinct)
        answer = score_masked if self.reads_both_ways else score_causal
        said = answer(self.network, [self.tokens(text) for text in distinct]) if distinct else []
        nothing = Scores(torch.zeros(0, len(self.inventory.symbols)), torch.zeros(0, self.state_dim))
        found: dict[tuple[int, ...], Scores] = {(): nothing}
        for text, (states, log_probs) in zip(distinct, said, strict=True):
            if not bool(torch.isfinite(log_probs).all() and torch.isfinite(states).all()):
                raise TextModelError(f"{self.source}: answers NaN or infinity; its weights are damaged, train it again")
            found[text] = Scores(log_probs, states)
        return [found[tuple(text)] for text in texts]

    def tokens(self, text: Sequence[int]) -> Tensor:
        """Units of the inventory as tokens of the network, ``(U,)`` int64."""
        return torch.tensor(text, dtype=torch.int64)


class TrainedTextModel(BatchedTextModel):
    """A network that was trained here."""

    def __init__(
        self, network: TextNetwork, inventory: Inventory, *, source: Path, name: str, kind: str, fingerprint: str
    ) -> None:
        self.source, self.name, self.kind, self.fingerprint = source, name, kind, fingerprint
        self.inventory, self.reads_both_ways, self.state_dim = inventory, network.reads_both_ways, network.width
        self._trained = network
        self.network = OwnNetwork(network, str(source))

    def to(self, device: torch.device) -> None:
        """See ``TextModel.to``."""
        self._trained.to(device)


class OwnNetwork:
    """``TextNetwork`` as ``Readable``."""

    batch_tokens = BATCH_TOKENS

    def __init__(self, network: TextNetwork, source: str) -> None:
        self._network, self._source = network, source
        self.before: tuple[int, ...] = (network.sentence,)
        self.after: tuple[int, ...] = (network.sentence,)
        self.mask, self.padding = network.mask, network.padding
        self._most = network.most_units

    @property
    def device(self) -> torch.device:
        """See ``Readable.device``."""
        return self._network.bias.device

    def states(self, ids: Tensor, lens: Tensor) -> Tensor:
        """See ``Readable.states``."""
        units = ids.shape[1] - (2 if self._network.reads_both_ways else 0)
        if self._most is not None and units > self._most:
            raise TextModelError(
                f"{self._source}: a text of {units} units is longer than the {self._most} that its "
                "learned positions reach; split the text, or train with model.positions=sinusoidal"
            )
        return self._network.hidden(ids, lens)

    def predict(self, ids: Tensor, lens: Tensor, rows: Tensor, columns: Tensor) -> Predicted:
        """See ``Readable.predict``."""
        states = self.states(ids, lens)[rows, columns]
        logits = self._network.logits(states)[:, : self._network.num_units]
        return Predicted(states, logits.log_softmax(dim=1))


def check_ids(model: TextModel, texts: Sequence[Sequence[int]]) -> None:
    """Refuse texts of another inventory.

    Raises:
        TextModelError: an id is none of the model's units.
    """
    units = len(model.inventory.symbols)
    wrong = next((unit for text in texts for unit in text if not 0 <= unit < units), None)
    if wrong is not None:
        raise TextModelError(
            f"{model.source}: unit {wrong} is none of its {units} {model.inventory.kind}; spell texts with the "
            "inventory of the model"
        )
