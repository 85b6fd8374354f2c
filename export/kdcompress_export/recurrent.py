"""LSTM layers for a graph: torch's exporter would unroll them over the few frames of its example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcompress.layers import BothWays
from kdcompress_export.convert import OPSET
from kdcompress_export.errors import GraphError

if TYPE_CHECKING:
    from kdcompress.network import CtcNetwork


class OnnxBothWays(nn.Module):
    """``BothWays`` as one operator ``LSTM`` that reads a recording in both directions; for export only."""

    inputs: Tensor
    recurrent: Tensor
    biases: Tensor

    def __init__(self, layer: BothWays) -> None:
        super().__init__()
        self.cells = layer.onward.hidden_size
        self.norm = layer.norm
        ways = (layer.onward, layer.homeward)
        parts = [{name: _gates(weight) for name, weight in way.named_parameters()} for way in ways]
        self.register_buffer("inputs", torch.stack([part["weight_ih_l0"] for part in parts]))
        self.register_buffer("recurrent", torch.stack([part["weight_hh_l0"] for part in parts]))
        biases = [torch.cat([part["bias_ih_l0"], part["bias_hh_l0"]]) for part in parts]
        self.register_buffer("biases", torch.stack(biases))

    def forward(self, frames: Tensor, turned: Tensor) -> Tensor:  # noqa: ARG002
        """``(N, T, C)`` to ``(N, T, 2 * cells)``; every item fills its row, so nobody has to say how it is turned."""
        read = torch.onnx.ops.symbolic(
            "LSTM",
            (frames.transpose(0, 1), self.inputs, self.recurrent, self.biases),
            {"hidden_size": self.cells, "direction": "bidirectional"},
            dtype=frames.dtype,
            shape=(frames.shape[1], 2, frames.shape[0], self.cells),
            version=OPSET,
        )
        normed: Tensor = self.norm(read.permute(2, 0, 1, 3).flatten(2))
        return normed


def replace_recurrent(network: CtcNetwork) -> CtcNetwork:
    """Replace the LSTM layers of a network, in place, and return it.

    Raises:
        GraphError: there are some, and this torch cannot be told which operator to write.
    """
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, BothWays):
                if not hasattr(torch.onnx, "ops"):
                    raise GraphError(f"torch {torch.__version__} cannot export LSTM layers; install torch 2.8 or later")
                setattr(parent, name, OnnxBothWays(layer))
    return network


def _gates(weight: Tensor) -> Tensor:
    """Torch's order of the gates (input, forget, cell, output) as ONNX has it (input, output, forget, cell)."""
    entry, forget, cell, output = weight.detach().chunk(4)
    return torch.cat([entry, output, forget, cell])
