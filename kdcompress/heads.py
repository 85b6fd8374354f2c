"""The network together with the heads that its losses add while training. Only the network is saved at the end."""

from __future__ import annotations

from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING

from torch import Tensor, nn

from kdcompress.errors import RecipeError
from kdcompress.losses.base import Shapes
from kdcompress.quantization_aware import Simulation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress.losses.base import LossConfig, UnitShape
    from kdcompress.network import CtcNetwork, Outputs
    from kdcompress.quantization_aware import QuantizationAware
    from kdcompress.targets import Source


NO_TEXTS: Mapping[str, UnitShape] = MappingProxyType({})


class WithHeads(nn.Module):
    """One forward pass through the network and every head, so that several processes see one module."""

    def __init__(
        self, network: CtcNetwork, heads: Mapping[str, nn.Module], simulation: Simulation | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.ModuleDict(heads)
        self.simulation = simulation

    def forward(
        self, features: Tensor, frame_lens: Tensor, labels: Tensor, label_lens: Tensor
    ) -> tuple[Outputs, dict[str, Tensor]]:
        """See ``CtcNetwork.outputs``; and what each head says, by the key of its loss."""
        with self.simulation.on(self.network) if self.simulation else nullcontext():
            outputs = self.network.outputs(features, frame_lens, labels, label_lens)
        outputs = _trimmed(outputs, int(frame_lens.max()))
        return outputs, {key: head(outputs, frame_lens, labels, label_lens) for key, head in self.heads.items()}

    def fitted(self, key: str) -> dict[str, Tensor]:
        """Buffers of the head of a loss by name; none where it has no head."""
        return dict(self.heads[key].named_buffers()) if key in self.heads else {}


def _trimmed(outputs: Outputs, frames: int) -> Outputs:
    """The first ``frames`` frames: the rest is padding to the longest item of another process, or another part."""
    if outputs.log_probs.shape[1] == frames:
        return outputs
    return outputs._replace(
        log_probs=outputs.log_probs[:, :frames], hidden=tuple(block[:, :frames] for block in outputs.hidden)
    )


def with_heads(
    network: CtcNetwork,
    losses: tuple[LossConfig, ...],
    num_tokens: int,
    sources: tuple[Source, ...],
    quantization_aware: QuantizationAware | None = None,
    *,
    texts: Mapping[str, UnitShape] = NO_TEXTS,
) -> WithHeads:
    """Build the heads that the losses ask for, and the simulation of int8 if one is asked for.

    ``texts`` are the sizes of what language models say, by their names in the recipe.

    Raises:
        RecipeError: a loss looks at a block that the network, or its teacher, does not have, or its settings do not
            fit the block; or no layer of the network is one that would be quantized.
    """
    shapes = Shapes(
        num_tokens=num_tokens,
        hidden_dims=network.hidden_dims,
        teacher_hidden_dims=sources[0].info.hidden_dims if len(sources) == 1 else (),
        teacher_codebooks=sources[0].info.codebooks if len(sources) == 1 else None,
        texts=texts,
    )
    heads = {}
    for loss in losses:
        try:
            head = loss.head(shapes)
        except IndexError as error:
            raise RecipeError(
                f"losses.{loss.key}: there is no such layer; the student has {len(shapes.hidden_dims)} blocks, "
                f"the teacher shows {len(shapes.teacher_hidden_dims)} (only one teacher can show its blocks)"
            ) from error
        except ValueError as error:
            raise RecipeError(f"losses.{loss.key}: {error}") from error
        if head is not None:
            heads[loss.key] = head
    simulation = Simulation(quantization_aware, network) if quantization_aware else None
    if simulation and not simulation.layers:
        raise RecipeError(
            "quantization_aware: the model has no linear layers for scheme dynamic; set the scheme to static"
        )
    return WithHeads(network, heads, simulation)
