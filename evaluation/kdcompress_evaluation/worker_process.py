"""The other side of ``worker``: starts it, asks it, and ends it when it takes too long."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.errors import WorkerCrashError, WorkerLoadError, WorkerTimeoutError
from kdcompress_evaluation.records import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.variants import VariantInfo

COMMAND: Sequence[str] = (sys.executable, "-m", "kdcompress_evaluation.worker")
LOAD_SECONDS = 600.0
"""For opening a model."""
_STDERR_SHOWN = 2000
_END_SECONDS = 10.0


class WorkerProcess:
    """One variant in a process of its own."""

    def __init__(self, variant: VariantInfo, decoding: Decoding) -> None:
        """Start the process and load the variant.

        Raises:
            WorkerLoadError: it cannot be loaded, or its process died or hung while it was.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            list(COMMAND),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            first = self.ask({"variant": to_json(variant), "decoding": decoding.to_json()}, LOAD_SECONDS)
        except (WorkerCrashError, WorkerTimeoutError) as error:
            self.close()
            raise WorkerLoadError(f"the model cannot be loaded: {error}") from error
        except BaseException:
            self.close()
            raise
        if not first.get("ready"):
            self.close()
            raise WorkerLoadError(f"the model cannot be loaded: {first.get('error')}")

    def ask(self, request: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
        """Send one request and wait for its answer; after an error the process is gone.

        Raises:
            WorkerCrashError: the process died.
            WorkerTimeoutError: it took longer than ``timeout_seconds``.
        """
        pipe = self._process.stdin
        try:
            if pipe is not None:
                pipe.write(json.dumps(request).encode() + b"\n")
                pipe.flush()
            line = self._answers.get(timeout=timeout_seconds)
        except queue.Empty:
            self.close()
            raise WorkerTimeoutError(f"no answer within {timeout_seconds:g} s") from None
        except OSError:
            line = b""
        try:
            answer = json.loads(line)
        except ValueError:
            raise WorkerCrashError(self._epitaph()) from None
        return dict(answer)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in filter(None, (self._process.stdin, self._process.stdout)):
            with suppress(OSError):  # what was not sent yet is of no interest any more
                pipe.close()
        self._errors.close()

    def _listen(self) -> None:
        pipe = self._process.stdout
        with suppress(OSError, ValueError):  # closed under our hands
            for line in pipe or ():
                self._answers.put(line)
        self._answers.put(b"")

    def _epitaph(self) -> str:
        """How the process ended, and what it said last."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"signal {-code}"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _STDERR_SHOWN))
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        return f"its process ended with {how}" + (f" ({said[-1].strip()[:300]})" if said else "")
