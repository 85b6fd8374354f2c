"""Several processes in one test: forked, so that nothing is imported again, and joined as ``torchrun`` joins them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def child(rank: int, environment: dict[str, str], file: Path, function: Callable[..., Any], given: tuple) -> None:
    os.environ.update(environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    try:
        PartialState(cpu=True)
        found = function(*given)
    except BaseException as error:  # noqa: BLE001 (whatever it is, the test wants to see it)
        traceback.print_exc()
        found = error
    file.write_bytes(pickle.dumps(found))
    os._exit(0)


@pytest.fixture
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Any]]:
    """``in_processes(2, function, *given)``: what it returns, or raises, in each of two processes."""

    def run(world: int, function: Callable[..., Any], *given: Any) -> list[Any]:
        folder = tmp_path_factory.mktemp("processes")
        environment = {
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "OMP_NUM_THREADS": "1",
        }
        context = multiprocessing.get_context("fork")
        files = [folder / f"{rank}.pickle" for rank in range(world)]
        children = [
            context.Process(target=child, args=(rank, environment, file, function, given))
            for rank, file in enumerate(files)
        ]
        for process in children:
            process.start()
        for process in children:
            process.join(120)
            process.kill()
        return [pickle.loads(file.read_bytes()) for file in files]

    return run
