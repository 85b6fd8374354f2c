"""The real worker process around a system that does what the id of an utterance says."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from kdcompress_evaluation import systems, worker
from kdcompress_evaluation.systems.base import Recognised


class Fake:
    input_kind = "text"
    sample_rate = None
    form = None
    chunk_seconds = None

    def __init__(self, log: Path) -> None:
        self._log = log

    def recognize(self, item):
        before = self._log.read_text(encoding="utf-8").split() if self._log.exists() else []
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{item.id}\n")
        act = item.id.split("-")[0]
        if act == "segfault" or (act == "flaky" and item.id not in before):
            os.kill(os.getpid(), signal.SIGSEGV)
        if act == "exit":
            print("the model says: no room for states", file=sys.stderr, flush=True)
            os._exit(255)
        if act == "hang":
            time.sleep(600)
        if act == "raise":
            raise ZeroDivisionError("division by zero")
        if act == "noise":
            print("a library prints here")
            os.write(1, b"and here\n")
        if act == "slow":
            time.sleep(0.01)
        return Recognised(item.input.upper(), -1.0)

    def open_stream(self, *, endpoints=False):
        raise NotImplementedError


def open_system(info, decoding):
    if "refuse" in info.bundle_path:
        raise ValueError("the model is of another kind")
    if "die" in info.bundle_path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return Fake(Path(info.bundle_path).with_suffix(".log"))


systems.open_system = open_system
sys.exit(worker.main())
