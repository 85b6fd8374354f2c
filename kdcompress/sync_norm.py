"""Batch norm whose statistics are those of all processes (as torch's ``SyncBatchNorm``, which wants a GPU)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


def synchronise_norms(network: nn.Module) -> None:
    """Replace the batch norms of a network, in place; parameters, buffers and their names stay, and so do files.

    In training each then takes mean and variance over the inputs of all processes, which must call it equally often. In
    evaluation nothing changes.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) in _SYNCHRONISED:
                setattr(module, name, _replaced(child))


class _Synchronised:
    """Mixed into a batch norm of torch: its forward pass in training."""

    def forward(self: Any, inputs: Tensor) -> Tensor:
        """Normalise ``(N, C, ...)``."""
        if not self.training:
            normalised: Tensor = super().forward(inputs)  # type: ignore[misc]
            return normalised
        with torch.no_grad():
            mean, variance, count = _moments(inputs)
            self.num_batches_tracked.add_(1)
            share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / (count - 1)), share)
        return _Normalise.apply(inputs, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[no-any-return, no-untyped-call]


class SyncBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` over all processes."""


class SyncBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` over all processes."""


_SYNCHRONISED: dict[type[nn.Module], type[SyncBatchNorm1d | SyncBatchNorm2d]] = {
    nn.BatchNorm1d: SyncBatchNorm1d,
    nn.BatchNorm2d: SyncBatchNorm2d,
}


def _replaced(norm: Any) -> nn.Module:  # noqa: ANN401 (a batch norm of either kind)
    new = _SYNCHRONISED[type(norm)](norm.num_features, norm.eps, norm.momentum)
    new.weight, new.bias = norm.weight, norm.bias
    new.running_mean, new.running_var = norm.running_mean, norm.running_var
    new.num_batches_tracked = norm.num_batches_tracked
    return new.train(norm.training)


def _moments(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and (biased) variance of each channel over all processes, float32 ``(C,)``, and the number of values."""
    # three times as fast as var_mean; the running statistics that it moves are nobody's, and make the result float32
    aside = torch.zeros(2, inputs.shape[1], device=inputs.device)
    mean, variance = torch.batch_norm_update_stats(inputs, aside[0], aside[1], 0.0)
    count = mean.new_full((1,), inputs.numel() // len(mean))
    mine = torch.cat([mean, variance, count])
    found = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, mine)
    # each process's deviations are from its own mean: sums of squares of the values would lose digits
    means, variances, counts = torch.split(torch.stack(found).double(), [len(mean), len(mean), 1], dim=1)
    total = counts.sum()
    together = (counts * means).sum(dim=0) / total
    spread = (counts * (variances + (means - together).square())).sum(dim=0) / total
    return together.float(), spread.float(), total.float()


class _Normalise(torch.autograd.Function):
    """``weight * (x - mean) / sqrt(variance + eps) + bias``, where mean and variance depend on x of all processes."""

    @staticmethod
    def forward(  # noqa: PLR0917 (autograd passes positions)
        ctx: FunctionCtx,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        """Normalise with what is given, as in evaluation."""
        ctx.save_for_backward(inputs, weight, mean, variance, count)
        ctx.eps = eps  # type: ignore[attr-defined]
        return F.batch_norm(inputs, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """As in evaluation, and what comes through the mean and the variance, of which every process has a share."""
        inputs, weight, mean, variance, count = ctx.saved_tensors
        gradient = gradient.contiguous()
        _, for_weight, for_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, inputs, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        sums = torch.stack([for_weight, for_bias]).float()
        distributed.all_reduce(sums)
        inverse = (variance + ctx.eps).rsqrt()
        slope = weight * inverse.square() * sums[0] / count
        offset = slope * mean - weight * inverse * sums[1] / count
        shape = [1, -1, *[1] * (inputs.ndim - 2)]
        through = torch.addcmul(offset.view(shape), inputs.float(), slope.view(shape), value=-1)
        through.addcmul_(gradient.float(), (weight * inverse).view(shape))
        return through.to(inputs.dtype), for_weight, for_bias, None, None, None, None
