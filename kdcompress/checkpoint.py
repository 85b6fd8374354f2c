"""Checkpoints: one safetensors file with weights, optimizer state and step; never half-written, no pickle.

Nothing else is needed to resume to the same weights, because the randomness of a step (its batch, its masks,
its dropout) is a function of seed and step alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from kdcompress.errors import RunError
from kdcompress.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, recipe: str) -> None:
    """Write everything that ``load_checkpoint`` needs; the old file stays until the new one is complete."""
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in state.items()}
    write_tensors(path, tensors, {"step": str(step), "recipe": recipe})


def load_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, recipe: str) -> int:
    """Restore network and optimizer in place and return the step they had reached.

    Raises:
        RunError: the file is damaged, or belongs to another recipe.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged checkpoint ({error}); remove it to start the run again") from error
    if metadata.get("recipe") != recipe:
        raise RunError(
            f"{path}: belongs to another recipe, or to other training data (the manifest was changed since); "
            "choose another output folder, or remove this one"
        )
    states: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "network":
            weights[rest] = tensor
        else:
            index, _, key = rest.partition("/")
            states.setdefault(int(index), {})[key] = tensor
    network.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(metadata["step"])


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically, from any device."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(on_cpu, metadata=metadata))
