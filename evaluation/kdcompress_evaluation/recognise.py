"""Recognise manifests with one variant, in processes of its own, and keep one row an utterance."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.broken import add_broken, forget_broken
from kdcompress_evaluation.errors import WorkerCrashError, WorkerLoadError, WorkerTimeoutError
from kdcompress_evaluation.manifests import audio_seconds, read_entries
from kdcompress_evaluation.records import to_json
from kdcompress_evaluation.rows import (
    RETRIED,
    Row,
    RowWriter,
    StreamRow,
    drop_rows,
    files_of,
    open_rows,
    read_rows,
    row_identity,
    rows_path,
)
from kdcompress_evaluation.summary import BrokenVariant
from kdcompress_evaluation.worker_process import WorkerProcess
from kdcompress_runtime.errors import MissingDependencyError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.options import EvalOptions
    from kdcompress_evaluation.summary import ManifestInfo, RunInfo
    from kdcompress_evaluation.variants import VariantInfo
    from kdcompress_runtime.manifest import ManifestEntry

GIVE_UP_AFTER = 3
"""Crashes and time-outs in a row."""
LEAST_SECONDS, TIMES_REAL_TIME = 60.0, 20.0
"""Limit of an utterance, unless told otherwise: so many seconds, or so many times its length, whichever is more."""


def streaming_plan(options: EvalOptions) -> dict[str, Any]:
    """How streams are tried: rows that were made otherwise are not mixed in."""
    return {"every": options.stream_every if options.stream else 0, "thorough": options.split_utterances}


def recognise_variant(
    output: Path,
    run: RunInfo,
    variant: VariantInfo,
    options: EvalOptions,
    on_progress: Callable[[int, int], None],
    *,
    shard: tuple[int, int] | None = None,
) -> int:
    """Append the rows of a variant that are missing, over all manifests of the run.

    Every row is on its way to the disk before the next utterance begins, so a run that is killed loses one utterance
    of each process at most. An utterance that fails becomes a row with its ``error`` and the run goes on: input that
    cannot be read, an error of the model, a crash of its process, or too long a time. After three crashes or time-outs
    in a row, or when the model cannot be loaded, the other utterances become rows, too (``not attempted``), and the
    variant is noted as broken. Memory does not grow with the utterances.

    Args:
        output: folder of the report; ``rows/run.json`` is there already.
        run: what was asked for.
        variant: of the run.
        options: ``decoding``, ``jobs`` (processes at once), ``timeout_seconds``, ``retry``, ``stream``,
            ``stream_every`` and ``split_utterances`` count here.
        on_progress: called with (done, total) utterances of this shard.
        shard: ``(i, n)``: only utterances whose index in the manifest is i - 1 modulo n.

    Returns:
        Rows of this shard that are there now.

    Raises:
        OptionsError: there is no such shard.
        MissingDependencyError: inputs cannot be read at all here.
    """
    with _Recognition(output, run, variant, options, shard) as work:
        total = work.begin()
        on_progress(work.done, total)
        work.run(lambda: on_progress(work.done, total))
        return work.done


@dataclass(frozen=True)
class _Task:
    """One utterance to recognise."""

    manifest: ManifestInfo
    index: int
    entry: ManifestEntry
    stream: bool
    thorough: bool


class _Slot:
    """Room for one process, which is started when it is needed, and anew after a crash."""

    def __init__(self, variant: VariantInfo, decoding: Decoding) -> None:
        self._variant, self._decoding = variant, decoding
        self._worker: WorkerProcess | None = None

    def ask(self, request: dict[str, Any], limit_seconds: float) -> dict[str, Any]:
        """See ``WorkerProcess.ask``, and its constructor."""
        worker = self._worker = self._worker or WorkerProcess(self._variant, self._decoding)
        try:
            return worker.ask(request, limit_seconds)
        except (WorkerCrashError, WorkerTimeoutError):
            self._worker = None
            raise

    def close(self) -> None:
        """End the process, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


class _Recognition:
    """What the processes of one variant share."""

    def __init__(
        self, output: Path, run: RunInfo, variant: VariantInfo, options: EvalOptions, shard: tuple[int, int] | None
    ) -> None:
        if shard is not None and not 1 <= shard[0] <= shard[1]:
            raise OptionsError(f"shard {shard[0]}/{shard[1]}: expected i/n with i from 1 to n")
        self._output, self._run, self._variant, self._options = output, run, variant, options
        self._shard = shard
        self._content = to_json(run)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closing = ExitStack()
        self._there: dict[str, set[int]] = {}
        self._writers: dict[str, RowWriter] = {}
        self._tasks: Iterator[_Task] = iter(())
        self._in_a_row = 0
        self._given_up: str | None = None
        self.done = 0
        """Rows that are there."""

    def __enter__(self) -> _Recognition:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._closing.close()

    def begin(self) -> int:
        """Find out what is there already; returns how many utterances there are."""
        total = 0
        for manifest in self._run.manifests:
            identity = row_identity(self._content, self._variant.name, manifest.name)
            files = files_of(self._output, self._variant.name, manifest.name, identity)
            own = rows_path(self._output, self._variant.name, manifest.name, self._shard)
            if self._options.retry:
                for file in files:
                    if self._shard is None or file == own:
                        drop_rows(file, lambda row: row.error_kind in RETRIED)
            there = {row.index for file in files for row in read_rows(file) if self._mine(row.index)}
            there = {index for index in there if index < manifest.utterances}
            first, step = (0, 1) if self._shard is None else (self._shard[0] - 1, self._shard[1])
            wanted = len(range(first, manifest.utterances, step))
            if len(there) < wanted:
                self._writers[manifest.name] = self._closing.enter_context(open_rows(own, identity))
            self._there[manifest.name] = there
            self.done += len(there)
            total += wanted
        if self.done < total:
            forget_broken(self._output, {self._variant.name})
        self._tasks = self._open_tasks()
        return total

    def run(self, tell: Callable[[], None]) -> None:
        """Recognise what is missing, with as many processes as asked for."""
        slots = [_Slot(self._variant, self._options.decoding) for _ in range(self._options.jobs)]
        try:
            if len(slots) == 1:
                self._work(slots[0], tell)
                return
            with ThreadPoolExecutor(len(slots)) as pool:
                try:
                    waiting = [pool.submit(self._work, slot, tell) for slot in slots]
                    for one in wait(waiting, return_when=FIRST_EXCEPTION).done:
                        one.result()
                finally:
                    self._stop.set()
                    for slot in slots:
                        slot.close()  # the threads wait for these
        finally:
            for slot in slots:
                slot.close()

    def _work(self, slot: _Slot, tell: Callable[[], None]) -> None:
        """Take one task after the other."""
        while (task := self._next()) is not None:
            row = self._attempt(slot, task, _row_of(task))
            with self._lock:
                if self._stop.is_set():
                    return
                self._writers[task.manifest.name].add(row)
                self.done += 1
                tell()

    def _attempt(self, slot: _Slot, task: _Task, row: Row) -> Row:
        if self._given_up is not None:
            return self._not_attempted(row)
        try:
            filled = _fill(row, slot.ask(_request(task), self._limit(task.entry)))
        except WorkerLoadError as error:
            self._give_up(str(error))
            return self._not_attempted(row)
        except (WorkerCrashError, WorkerTimeoutError) as error:
            return self._failed(row, error)
        self._in_a_row = 0
        return filled

    def _next(self) -> _Task | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._tasks, None)

    def _open_tasks(self) -> Iterator[_Task]:
        options = self._options
        for manifest in self._run.manifests:
            there = self._there[manifest.name]
            thorough = _spread(manifest.utterances, options.stream_every, options.split_utterances)
            for index, entry in enumerate(read_entries(manifest.path)):
                if self._mine(index) and index not in there:
                    stream = options.stream and index % options.stream_every == 0
                    yield _Task(manifest, index, entry, stream, stream and index in thorough)

    def _mine(self, index: int) -> bool:
        return self._shard is None or index % self._shard[1] == self._shard[0] - 1

    def _limit(self, entry: ManifestEntry) -> float:
        """Seconds that an utterance may take, with everything that is done with it."""
        if self._options.timeout_seconds is not None:
            return self._options.timeout_seconds
        seconds = entry.duration
        if seconds is None and entry.kind == "audio":
            seconds = audio_seconds(entry.input)
        return max(LEAST_SECONDS, TIMES_REAL_TIME * (seconds or 0.0))

    def _failed(self, row: Row, error: WorkerCrashError | WorkerTimeoutError) -> Row:
        kind = "timeout" if isinstance(error, WorkerTimeoutError) else "crash"
        self._in_a_row += 1
        if self._in_a_row >= GIVE_UP_AFTER:
            self._give_up(f"{GIVE_UP_AFTER} crashes or time-outs in a row, the last on {row.id!r}: {error}")
        return replace(row, error=str(error), error_kind=kind)

    def _not_attempted(self, row: Row) -> Row:
        return replace(row, error=f"not attempted: {self._given_up}", error_kind="not attempted")

    def _give_up(self, why: str) -> None:
        with self._lock:
            if self._given_up is None and not self._stop.is_set():
                self._given_up = why
                add_broken(self._output, BrokenVariant(self._variant.name, why))


def _spread(utterances: int, every: int, count: int) -> Collection[int]:
    """At most ``count`` of the indices 0, every, 2 every..., spread evenly."""
    streamed = range(0, utterances, every)
    if len(streamed) <= count:
        return streamed
    return {streamed[int(place)] for place in np.linspace(0, len(streamed) - 1, count)}


def _request(task: _Task) -> dict[str, Any]:
    entry = task.entry
    return {
        "item": {
            "manifest": task.manifest.name,
            "index": task.index,
            "id": entry.id,
            "kind": entry.kind,
            "input": entry.input,
            "duration": entry.duration,
            "extra": dict(entry.extra),
        },
        "stream": task.stream,
        "thorough": task.thorough,
    }


def _row_of(task: _Task) -> Row:
    entry = task.entry
    return Row(
        id=entry.id,
        index=task.index,
        reference=entry.text,
        input=entry.input,
        duration=entry.duration,
        speaker=entry.speaker,
        extra={name: value for name, value in entry.extra.items() if name != "words"},
    )


def _fill(row: Row, answer: dict[str, Any]) -> Row:
    """Put an answer into a row.

    Raises:
        MissingDependencyError: what the worker lacks to read inputs.
    """
    if "missing" in answer:
        raise MissingDependencyError(answer["missing"])
    stream = answer.get("stream")
    if stream is not None:
        answer = {**answer, "stream": StreamRow(**{**stream, "delays": tuple(stream["delays"])})}
    return replace(row, **answer)
