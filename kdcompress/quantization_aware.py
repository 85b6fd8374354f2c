"""Quantization-aware training: the forward pass rounds as the int8 file will, the weights stay float32.

Fake quantization with a straight-through gradient (Jacob et al., arXiv 1712.05877). Simulated is what
``kdcompress_export.quantization`` writes. ``static``: int8 weights, symmetric, one scale an output channel (a batch
norm that is folded afterwards scales whole channels, so it does not change the rounding); uint8 activations, one scale
a tensor, in front of every convolution and linear layer, and of what residuals add up. ``dynamic``: linear layers
only, activations by the range of the item at hand. Frontend, feature normalisation and the head's output stay
float32; batch norms keep the statistics that they have.

The network itself is not changed: rounding happens inside ``Simulation.on`` and is gone after it. So what is saved is
the plain student.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from kdcompress.conformer_layers import GatedConvolution
from kdcompress.layers import DenseConvBlock, SeparableConvBlock
from kdcompress.parallel import extremes
from kdcompress.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kdcompress.network import CtcNetwork

SUMMED: dict[type[nn.Module], str] = {SeparableConvBlock: "project_norm", DenseConvBlock: "dropout"}
"""Blocks whose input goes two ways, and what gives that which is added to it; both are rounded."""
BETWEEN: dict[type[nn.Module], str] = {GatedConvolution: "depthwise_norm"}
"""Parts in which a convolution's output meets no other layer before it is read in float32; it is rounded."""
PRODUCTS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Linear: F.linear,
}
"""Layers with weights, and the function that computes each."""
_SMALLEST_SCALE = 1e-8
_SAMPLED = 1_000_000
"""Values of a tensor that are ordered to find a share of them."""


class QuantizationAware(Settings):
    """Train for int8: the forward pass rounds as the exported file will. Start from a trained run (``init``)."""

    scheme: Literal["static", "dynamic"] = "static"
    """``static``: weights and activations of every layer, for stacks of convolutions. ``dynamic``: linear layers
    only, ranges taken from each item; for the conformer."""
    glue: bool = True
    """With ``static``: whether the sums of residuals are rounded, too, as they are in a stack of convolutions."""
    reduce_range: bool = False
    """7-bit weights, for x86 without VNNI."""
    calibration_batches: int = Field(default=8, ge=1)
    """Training batches from which the ranges of activations are taken."""
    range_share: Annotated[float, Field(gt=0.5, le=1)] = 1.0
    """Share of the values that a range holds: 1 is MinMax; a little less clips outliers, as percentile and entropy
    calibration of the export do."""
    range_momentum: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share by which a range moves towards each batch's own; 0: ranges stay as calibrated."""


class Simulation(nn.Module):
    """Ranges of what flows through a network, and the rounding that follows from them."""

    def __init__(self, config: QuantizationAware, network: CtcNetwork) -> None:
        super().__init__()
        self.config = config
        self.layers = tuple(weighted_layers(network, config))
        """Names of the layers whose weights and inputs are rounded."""
        self.inputs, self.outputs = _glue(network) if config.scheme == "static" and config.glue else ((), ())
        if config.scheme == "static":
            self.outputs += _inside(network, BETWEEN)
        points = len(self.layers) + len(self.inputs) + len(self.outputs)
        self.register_buffer("ranges", torch.zeros(points, 2))
        self.ranges: Tensor
        """Lowest and highest value at each point, zero included."""
        self._observing = False

    @contextmanager
    def on(self, network: CtcNetwork) -> Iterator[None]:
        """Round whatever ``network`` computes meanwhile; its batch norms are in evaluation mode."""
        points = iter(range(len(self.ranges)))
        weights = {id(network.get_submodule(name).weight): next(points) for name in self.layers}
        norms = [module for module in network.modules() if _is_norm(module) and module.training]
        with ExitStack() as stack:
            for module in norms:
                stack.callback(module.train)
                module.eval()
            for name in self.inputs:
                stack.callback(
                    network.get_submodule(name).register_forward_pre_hook(self._on_input(next(points))).remove
                )
            for name in self.outputs:
                stack.callback(network.get_submodule(name).register_forward_hook(self._on_output(next(points))).remove)
            stack.enter_context(_Rounding(self, weights))
            yield

    @contextmanager
    def observing(self, network: CtcNetwork) -> Iterator[None]:
        """Widen the ranges to whatever ``network`` computes meanwhile, in evaluation mode; nothing is rounded."""
        training = network.training
        network.eval()
        self._observing = True
        try:
            with self.on(network), torch.no_grad():
                yield
        finally:
            self._observing = False
            network.train(training)

    def weight(self, weight: Tensor) -> Tensor:
        """Round a weight ``(out, ...)`` to int8, symmetric, one scale an output channel."""
        if self._observing:
            return weight
        most = 64 if self.config.reduce_range else 127
        largest = weight.detach().flatten(1).abs().amax(dim=1)
        scale = (largest / most).clamp(min=_SMALLEST_SCALE)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -most, most)

    def activation(self, point: int, values: Tensor) -> Tensor:
        """Round what flows through ``point``, ``(N, ...)``, to uint8."""
        if self.config.scheme == "dynamic":
            return _by_item(values)
        self._observe(self.ranges[point], values.detach())
        if self._observing:
            return values
        scale, zero = _scale_and_zero(*self.ranges[point])
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255)

    def _observe(self, known: Tensor, values: Tensor) -> None:
        momentum = self.config.range_momentum
        if not self._observing and not (momentum and torch.is_grad_enabled()):
            return
        low, high = _limits(values, self.config.range_share)
        seen = torch.stack([low.clamp(max=0), high.clamp(min=0)])
        if self._observing:
            known.copy_(torch.stack([torch.minimum(known[0], seen[0]), torch.maximum(known[1], seen[1])]))
        else:
            known.lerp_(torch.stack(extremes(*seen)), momentum)

    def _on_input(self, point: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        return lambda _, given: (self.activation(point, given[0]), *given[1:])

    def _on_output(self, point: int) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        return lambda _, __, output: self.activation(point, output)


class _Rounding(TorchFunctionMode):
    """Puts rounded operands into every product with one of the known weights."""

    def __init__(self, simulation: Simulation, weights: dict[int, int]) -> None:
        super().__init__()
        self.simulation, self.weights = simulation, weights

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 (torch's signature)
        del types
        point = self.weights.get(id(args[1])) if func in PRODUCTS.values() else None
        if point is not None:
            args = (self.simulation.activation(point, args[0]), self.simulation.weight(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def weighted_layers(network: CtcNetwork, config: QuantizationAware) -> list[str]:
    """Names of the encoder's layers that ``config`` rounds; those of the frontend are none of them."""
    kinds = (nn.Linear,) if config.scheme == "dynamic" else tuple(PRODUCTS)
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, kinds) and not name.startswith("frontend.")
    ]


def _glue(network: CtcNetwork) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of modules whose inputs, and of those whose outputs, a residual adds up."""
    blocks = tuple(name for name, module in network.named_modules() if isinstance(module, tuple(SUMMED)))
    return blocks, _inside(network, SUMMED)


def _inside(network: CtcNetwork, parts: dict[type[nn.Module], str]) -> tuple[str, ...]:
    """Names of the parts inside modules of these kinds."""
    return tuple(f"{name}.{parts[type(module)]}" for name, module in network.named_modules() if type(module) in parts)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)


def _limits(values: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Lowest and highest of a tensor once the outermost values, ``1 - share`` of them, are left out on both sides."""
    if share == 1:
        return values.min(), values.max()
    some = values.flatten()[:: max(1, values.numel() // _SAMPLED)].float()
    outside = round((1 - share) / 2 * len(some))
    ordered = some.sort().values
    return ordered[outside], ordered[len(ordered) - 1 - outside]


def _scale_and_zero(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    scale = ((high - low) / 255).clamp(min=_SMALLEST_SCALE)
    return scale, (-low / scale).round().clamp(0, 255).to(torch.int32)


def _by_item(values: Tensor) -> Tensor:
    """Round ``(N, ...)`` to uint8 by the range of each item: a stream's step comes alone."""
    items = values.detach().flatten(1)
    scale, zero = _scale_and_zero(items.amin(dim=1).clamp(max=0), items.amax(dim=1).clamp(min=0))
    return torch.fake_quantize_per_channel_affine(values, scale, zero, 0, 0, 255)
