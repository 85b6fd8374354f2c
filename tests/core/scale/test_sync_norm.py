"""Batch norm over several processes against torch's own over one."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, nn

from kdcompress.sync_norm import synchronise_norms

SHAPES = {nn.BatchNorm1d: (5, 3, 7), nn.BatchNorm2d: (5, 3, 4, 2)}


def two_updates(kind: type[nn.Module], dtype: torch.dtype, *, together: bool) -> dict[str, torch.Tensor]:
    """Normalise twice, the second time with the other statistics; this process's share of the items, or all."""
    torch.manual_seed(1)
    network = nn.Sequential(kind(3, momentum=0.3))
    nn.init.uniform_(network[0].weight)
    nn.init.normal_(network[0].bias)
    inputs = (100 + 3 * torch.randn(SHAPES[kind])).to(dtype)
    wanted = torch.randn(SHAPES[kind])
    mine = slice(None)
    if together:
        synchronise_norms(network)
        mine = slice(0, 2) if distributed.get_rank() == 0 else slice(2, 5)
    given = inputs[mine].clone().requires_grad_()
    for _ in range(2):
        ((network(given).float() - wanted[mine]) ** 3).sum().backward()
    network.eval()
    found = {"inputs": given.grad, "evaluated": network(inputs), **network.state_dict()}
    found |= {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {name: tensor.detach() for name, tensor in found.items()}


@pytest.mark.parametrize("kind", list(SHAPES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_processes_normalise_as_one(in_processes, kind, dtype):
    def job() -> dict[str, torch.Tensor]:
        return two_updates(kind, dtype, together=True)

    one, (first, second) = two_updates(kind, dtype, together=False), in_processes(2, job)
    close = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.3, "rtol": 0.03}
    torch.testing.assert_close(torch.cat([first["inputs"], second["inputs"]]), one["inputs"], **close)
    assert list(first) == list(one)
    for name in one:
        if name.startswith("gradient"):
            torch.testing.assert_close(first[name] + second[name], one[name], **close)
        elif name != "inputs":
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], one[name], **close)
