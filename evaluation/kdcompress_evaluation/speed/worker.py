"""Times every variant, interleaved, in a process of its own; what is done is written down at once.

The process says where it is before each visit to a variant, so that its parent knows who crashed it.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from kdcompress_evaluation.cost import Peaks
from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.engines import THREADS, Engine, RecognizerEngine, open_engine
from kdcompress_evaluation.machine import load_average
from kdcompress_evaluation.records import dumps, load, write_text
from kdcompress_evaluation.speed.pace import pace
from kdcompress_evaluation.speed.profile import profile_model
from kdcompress_evaluation.speed.record import SpeedRecord, TimedUtterance, VariantCosts
from kdcompress_evaluation.speed.roofline import measure_peaks
from kdcompress_evaluation.speed.timing import time_once, time_parts, together
from kdcompress_runtime.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress_evaluation.inputs import Value

    Say = Callable[[str, str, int, int], None]

AGAIN = "the second copy of the baseline"
"""Name under which the baseline is timed once more."""
_PART_UTTERANCES = 5
_LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Request:
    """What to time."""

    record: str
    """File of the ``SpeedRecord``, which says what is done already."""
    variants: dict[str, dict[str, Any]]
    """``VariantInfo`` as JSON, by name."""
    decoding: dict[str, Any]
    """See ``Decoding.from_json``."""
    rounds: int
    """Repeats of each utterance."""


class Notebook:
    """The record on disk, kept current."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = load(SpeedRecord, path)

    def costs(self, name: str) -> VariantCosts:
        """What is known of a variant, or of the second copy."""
        found = self.record.again if name == AGAIN else self.record.variants.get(name)
        return found or VariantCosts()

    def update(self, name: str, **fields: Any) -> None:  # noqa: ANN401
        """Change fields of a variant's costs; ``save`` writes them."""
        costs = replace(self.costs(name), **fields)
        if name == AGAIN:
            self.record = replace(self.record, again=costs)
        else:
            self.record = replace(self.record, variants={**self.record.variants, name: costs})

    def change(self, **fields: Any) -> None:  # noqa: ANN401
        """Change fields of the record, and write it."""
        self.record = replace(self.record, **fields)
        self.save()

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.record.notes:
            self.change(notes=(*self.record.notes, text))

    def save(self) -> None:
        """Write the record."""
        write_text(self.path, dumps(self.record))


def run(request: Request, say: Say) -> None:
    """Measure whatever the record does not hold yet.

    Args:
        request: what to time.
        say: called with (stage, variant, done, total) before each visit to a variant.
    """
    book = Notebook(Path(request.record))
    book.change(pinned=_pin(), threads=THREADS)
    _raise_peaks(book, say)
    engines = _open(request, book, say)
    _time_all(engines, request.rounds, book, say)
    _look_inside(engines, request, book, say)
    engines.pop(AGAIN, None)
    _pace_all(engines, book, say)
    _raise_peaks(book, say)
    book.change(load_after=load_average())


def _raise_peaks(book: Notebook, say: Say) -> None:
    """Measure the peaks, and keep the higher ones: at any one moment neighbours may take their part."""
    say("peaks", "", 0, 1)
    found, before = measure_peaks(book.record.machine.cache_bytes), book.record.peaks
    if before is not None:
        found = Peaks(**{name: max(rate, getattr(before, name)) for name, rate in vars(found).items()})
    book.change(peaks=found)


def _pin() -> tuple[int, ...]:
    """Hold the process to the CPU that has least to do; returns it, or nothing where the system cannot."""
    process = psutil.Process()
    if not hasattr(process, "cpu_affinity"):
        return ()
    allowed = process.cpu_affinity()
    busy = psutil.cpu_percent(_LOOK_SECONDS, percpu=True)
    chosen = min(allowed, key=lambda cpu: (busy[cpu] if cpu < len(busy) else 0.0, -cpu))
    try:
        process.cpu_affinity([chosen])
    except (psutil.Error, OSError):
        return ()
    return (chosen,)


def _open(request: Request, book: Notebook, say: Say) -> dict[str, Engine]:
    """Open every variant and the second copy, and run each once on the first utterance, so that all are warm."""
    decoding, opened = Decoding.from_json(request.decoding), {}
    wanted = dict(request.variants)
    if book.record.baseline in wanted:
        wanted[AGAIN] = wanted[book.record.baseline]
    for number, (name, variant) in enumerate(wanted.items()):
        say("open", name, number, len(wanted))
        try:
            engine = open_engine(variant, decoding)
            time_once(engine, engine.read(book.record.utterances[0].path))
        except Exception as error:  # noqa: BLE001 - whatever a system does, the others are timed
            book.note(f"{name} could not be timed: {error}.")
            continue
        opened[name] = engine
    return opened


def _time_all(engines: Mapping[str, Engine], rounds: int, book: Notebook, say: Say) -> None:
    """Back-to-back times, utterance by utterance, variants in turn."""
    names, utterances = list(engines), book.record.utterances
    done = min((len(book.costs(name).timings) for name in names), default=len(utterances))
    for name in names:  # a variant that was ahead when the run was cut short
        book.update(name, timings=book.costs(name).timings[:done])
    for number in range(done, len(utterances)):
        values = {engine.form: engine.read(utterances[number].path) for engine in engines.values()}
        taken: dict[str, list[Any]] = {name: [] for name in names}
        for turn in range(rounds):
            for name in rotated(names, number + turn):
                say("speed", name, number, len(utterances))
                taken[name].append(time_once(engines[name], values[engines[name].form]))
        for name in names:
            book.update(name, timings=(*book.costs(name).timings, together(taken[name])))
        book.save()


def _look_inside(engines: Mapping[str, Engine], request: Request, book: Notebook, say: Say) -> None:
    """Parts of a chunk and the profile of the graph, for bundles."""
    names = [name for name, engine in engines.items() if isinstance(engine, RecognizerEngine) and name != AGAIN]
    utterances = spread(book.record.utterances, _PART_UTTERANCES)
    for number, name in enumerate(names):
        if book.costs(name).profile is not None:
            continue
        say("profile", name, number, len(names))
        variant = request.variants[name]
        clocked = open_engine(variant, Decoding.from_json(request.decoding))
        inputs = [clocked.read(utterance.path) for utterance in utterances]
        try:
            if isinstance(clocked, RecognizerEngine):
                book.update(name, parts=time_parts(clocked, inputs))
            value = _typical(inputs, chunked=clocked.rate > 0)
            bundle = Bundle.open(Path(variant["bundle_path"]))
            profile = profile_model(bundle, variant["precision"], value)
        except Exception as error:  # noqa: BLE001 - a graph that cannot be profiled costs two columns, no report
            book.note(f"The graph of {name} could not be profiled: {error}.")
            continue
        book.update(name, profile=profile)
        book.save()
        if profile.uncounted:
            book.note(f"Multiply-accumulates of {name} leave out {', '.join(profile.uncounted)}.")


def _pace_all(engines: Mapping[str, Engine], book: Notebook, say: Say) -> None:
    """Times of chunks that come in real time, one variant after the other on each utterance."""
    names = [name for name, engine in engines.items() if engine.piece is not None]
    utterances = book.record.paced
    for number, utterance in enumerate(utterances):
        for name in rotated(names, number):
            if len(book.costs(name).pacings) > number:
                continue
            say("paced", name, number, len(utterances))
            engine = engines[name]
            samples = engine.read(utterance.path)[: round((utterance.duration or 0.0) * engine.rate)]
            book.update(name, pacings=(*book.costs(name).pacings, pace(engine, samples)))
        book.save()


def _typical(values: Sequence[Value], *, chunked: bool) -> Value:
    """The input whose graph is profiled: the longest where a part of it will do, else one of middle length."""
    ordered = sorted(values, key=lambda value: len(value) if isinstance(value, str) else value.size)
    return ordered[-1] if chunked else ordered[len(ordered) // 2]


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """``names`` beginning with another one each turn, so that none always follows the same neighbour."""
    first = turn % len(names) if names else 0
    return [*names[first:], *names[:first]]


def spread(utterances: Sequence[TimedUtterance], limit: int) -> list[TimedUtterance]:
    """At most ``limit`` of the utterances, evenly spread over them; the same ones every time."""
    if len(utterances) <= limit:
        return list(utterances)
    return [utterances[round(place)] for place in np.linspace(0, len(utterances) - 1, limit)]


def main(arguments: list[str]) -> int:
    """Read a request from a file and time; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    request = Request(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not get between the lines

    def say(stage: str, variant: str, done: int, total: int) -> None:
        channel.write(json.dumps([stage, variant, done, total]) + "\n")
        channel.flush()

    run(request, say)
    return 0
