"""Several processes that do the updates of one.

Each process has some items of a batch. So that nothing depends on how many processes there are, all pad to the longest
input of any of them (batch norm sees padding), the loss of each counts by its share of the valid frames, and gradients
are added up. torch's ``DistributedDataParallel`` is not used: it averages, and it stops where an update leaves a
parameter without a gradient, as a loss does that looks at a block in the middle alone.

A loss that is divided by all valid frames, as most are, then has exactly the value and the gradient that one process
would give it. One that is divided by something else (``normalise: selected_frames`` or ``utterances``; the labels that
count in ``token_kl``) is averaged over the shares by their frames: the same in the mean, not in every update. Dropout
and hidden labels are drawn by each process for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list
from torch import distributed

from kdcompress.errors import RecipeError, RunError
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from kdcompress.data.batch import Batch
    from kdcompress.network import CtcNetwork

BUCKET_BYTES = 1 << 25
"""Gradients are added up in pieces of about this size: few messages, little extra memory."""


def processes() -> PartialState:
    """Which process this is, and of how many; joins them where ``torchrun`` has started several."""
    return PartialState(cpu=not torch.cuda.is_available())


@dataclass(frozen=True)
class Part:
    """Items that go through the network at once."""

    batch: Batch
    weight: float
    """Their share of the valid frames of the update, over all parts of all processes."""
    number: int
    """Of all parts of the update, so that no two draw the same dropout."""


def parts_of(batch: Batch, network: CtcNetwork, accumulate: int, state: PartialState) -> list[Part]:
    """Divide this process's items into parts, as many as on every other process.

    Args:
        batch: the items of this process.
        network: says how many frames an input has.
        accumulate: parts, if there are as many items on every process; otherwise one for each item.
        state: the processes.

    Raises:
        RecipeError: a process has no item.
    """
    frames = network.frame_lens(batch.input_lens)
    found = [batch.inputs.shape[1], len(frames), int(frames.sum())]
    longest, items, valid = zip(*_gathered(found, state), strict=True)
    if min(items) == 0:
        raise RecipeError(f"a batch of {sum(items)} items is too small for {len(items)} processes; start fewer")
    batch = batch.padded(max(longest))
    number = min(accumulate, *items)
    edges = [len(frames) * index // number for index in range(number + 1)]
    return [
        Part(
            batch if number == 1 else batch.part(start, stop),
            int(frames[start:stop].sum()) / sum(valid),
            state.process_index * accumulate + index,
        )
        for index, (start, stop) in enumerate(pairwise(edges))
    ]


def from_all(number: int, state: PartialState) -> list[int]:
    """Return the number of each process, on all of them."""
    return [found for (found,) in _gathered([number], state)]


def by_main(action: Callable[[], None], state: PartialState) -> None:
    """Let the first process do something for all, which wait for it.

    Raises:
        RunError: it failed, with its message; on the first process the error itself.
    """
    problem: Exception | None = None
    if state.is_main_process:
        try:
            action()
        except (KdcompressError, OSError) as error:
            problem = error
    (message,) = broadcast_object_list([problem and str(problem)])
    if problem is not None:
        raise problem
    if message is not None:
        raise RunError(message)


def _gathered(numbers: list[int], state: PartialState) -> list[list[int]]:
    if state.num_processes == 1:
        return [numbers]
    mine = torch.tensor(numbers, device=state.device)
    found = [torch.empty_like(mine) for _ in range(state.num_processes)]
    distributed.all_gather(found, mine)
    return [theirs.tolist() for theirs in found]


def add_up(parameters: Iterable[nn.Parameter], scalars: Mapping[str, float], state: PartialState) -> dict[str, float]:
    """Add up gradients in place, and scalars, over all processes; a parameter that nobody used keeps no gradient."""
    if state.num_processes == 1:
        return dict(scalars)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    used = [float(parameter.grad is not None) for parameter in trained]
    sums = torch.tensor([*scalars.values(), *used], dtype=torch.float64, device=state.device)
    distributed.all_reduce(sums)
    total = sums.tolist()
    shared = [parameter for parameter, count in zip(trained, total[len(scalars) :], strict=True) if count]
    waiting = []
    for bucket in _buckets(shared):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        waiting.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
    for bucket, flat, work in waiting:
        work.wait()
        for parameter, gradient in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
            parameter.grad = gradient.view_as(parameter)
    return dict(zip(scalars, total, strict=False))


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters of one type in groups of about ``BUCKET_BYTES``, in their order."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        full = sum(p.numel() * p.element_size() for p in bucket) >= BUCKET_BYTES
        if bucket and (full or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def take_from_main(module: nn.Module, state: PartialState) -> None:
    """Give parameters and buffers of every process the values that they have in the first."""
    if state.num_processes == 1:
        return
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            whole = tensor.detach().contiguous()
            distributed.broadcast(whole, src=0)
            tensor.copy_(whole)


def extremes(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest of what each process found; one process keeps its own."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return low, high
    both = torch.stack([-low, high])
    distributed.all_reduce(both, distributed.ReduceOp.MAX)
    return -both[0], both[1]
