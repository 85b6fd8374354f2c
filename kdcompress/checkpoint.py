"""Checkpoints: one safetensors file with weights, optimizer state and step; never half-written, no pickle.

Nothing else is needed to resume to the same weights, because the randomness of a step (its batch, its masks,
its dropout) is a function of seed and step alone. The file holds a checksum over all of this: a bit that a disk or a
copy has changed is noticed, not trained on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kdcompress.errors import RunError
from kdcompress.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

CHECKSUM = "sha256"
"""Key of the checksum in the metadata of a file; those of earlier versions have none."""


def save_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, recipe: str) -> None:
    """Write everything that ``load_checkpoint`` needs; the old file stays until the new one is on the disk.

    Raises:
        RunError: the disk is full, or the file cannot be written for another reason.
    """
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    metadata = {"step": str(step), "recipe": recipe}
    try:
        write_tensors(path, tensors, {**metadata, CHECKSUM: checksum(tensors, metadata)})
    except OSError as error:
        kept = "the checkpoint before it is kept" if path.is_file() else "there is none before it"
        raise RunError(
            f"{path}: the checkpoint of step {step} cannot be written ({error.strerror or error}); {kept}. "
            "Make room, and repeat the command"
        ) from error


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
        raise _damaged(path, str(error)) from error
    if metadata.get("recipe") != recipe:
        raise RunError(
            f"{path}: belongs to another recipe, or to other training data (the manifest was changed since); "
            "choose another output folder, or remove this one"
        )
    # files of earlier versions have these two keys and no checksum
    found = metadata.pop(CHECKSUM, None)
    if found != checksum(tensors, metadata) and not (found is None and set(metadata) == {"step", "recipe"}):
        raise _damaged(path, "its content does not match its checksum")
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


def _damaged(path: Path, problem: str) -> RunError:
    return RunError(f"{path}: damaged checkpoint ({problem}); remove it to start the run again")


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically, from any device.

    With one key in ``metadata`` equal tensors give equal bytes; of several, safetensors draws the order.

    Raises:
        OSError: it cannot be written; ``errno`` is ``ENOSPC`` where the disk is full.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(on_cpu, temporary, metadata=metadata)
        except SafetensorError as error:
            # safetensors tells the number of the system's error in its text alone
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Hexadecimal SHA-256 over names, types, shapes and content of tensors on the CPU, and over the metadata."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
