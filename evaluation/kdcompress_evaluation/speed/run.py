"""The speed run as the pipeline sees it: choose inputs, have them timed by other processes, keep what they say."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.broken import read_broken
from kdcompress_evaluation.cost import Memory
from kdcompress_evaluation.footprint import ask
from kdcompress_evaluation.inputs import read_input, save_input
from kdcompress_evaluation.machine import describe_machine
from kdcompress_evaluation.records import dumps, load, to_json, write_text
from kdcompress_evaluation.rows import ROWS, iterate_rows
from kdcompress_evaluation.speed.record import SPEED, ColdTimes, SpeedRecord, TimedUtterance, VariantCosts
from kdcompress_evaluation.speed.sizes import measure_sizes
from kdcompress_evaluation.tasks import AUDIO, TASKS
from kdcompress_runtime.errors import KdcompressError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

    from kdcompress_evaluation.options import EvalOptions
    from kdcompress_evaluation.speed.record import Sizes
    from kdcompress_evaluation.summary import RunInfo
    from kdcompress_evaluation.variants import VariantInfo

    Progress = Callable[[str, int, int], None]

COLD_STARTS = 3
"""Processes started for each variant."""
_SILENCE, _PATIENCE = 600.0, 50.0
"""Seconds without a word, and times the longest recording on top, after which the timing process is given up."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_SHORTEST = 0.5
"""Seconds; shorter recordings are not worth pacing."""


def measure(output: Path, run: RunInfo, options: EvalOptions, on_progress: Progress) -> None:
    """Measure speed, memory, start-up and sizes into ``rows/speed.json``; what stands there already is kept.

    Whatever cannot be measured is left out, and a note in the record says why. Variants that gave up before are not
    timed, nor are texts of other systems.

    Args:
        output: folder of the report, with its rows.
        run: what is evaluated.
        options: ``speed_utterances``, ``speed_rounds``, ``paced_seconds`` and ``decoding`` count.
        on_progress: called with (stage, done, total).

    Raises:
        RowsError: rows are missing.
    """
    path = output / ROWS / SPEED
    broken = {variant.name for variant in read_broken(output)}
    timed = [v for v in run.variants if v.kind != "predictions" and v.name not in broken]
    identity = speed_identity(run, options)
    record = _read_same(path, identity)
    if record is not None and record.done:
        return
    if record is None:
        record = _begin(output, run, options, timed, identity)
        write_text(path, dumps(record))
    if record.utterances:
        _time(path, timed, options, on_progress)
        _footprints(path, timed, options, on_progress)
    record = load(SpeedRecord, path)
    write_text(path, dumps(replace(record, done=True)))


def speed_identity(run: RunInfo, options: EvalOptions) -> dict[str, Any]:
    """What decides the measured figures; the load of the moment does not count."""
    plain: dict[str, Any] = to_json(
        {
            "schema": run.schema,
            "baseline": run.baseline,
            "models": {v.name: [v.model_sha256, v.geometry_sha256] for v in run.variants},
            "manifests": {m.name: m.fingerprint for m in run.manifests},
            "decoder": run.decoder,
            "utterances": options.speed_utterances,
            "rounds": options.speed_rounds,
            "paced_seconds": options.paced_seconds,
            "machine": [run.machine.cpu, run.machine.cores, run.machine.system, run.machine.python],
            "versions": run.machine.versions,
        }
    )
    return plain


def _read_same(path: Path, identity: dict[str, Any]) -> SpeedRecord | None:
    try:
        found = load(SpeedRecord, path)
    except KdcompressError:
        return None
    return found if found.identity == identity else None


def _begin(
    output: Path, run: RunInfo, options: EvalOptions, timed: Sequence[VariantInfo], identity: dict[str, Any]
) -> SpeedRecord:
    """Choose what is timed, and write down what needs no clock."""
    utterances, notes = choose_utterances(output, run, timed, options.speed_utterances)
    costs = {variant.name: VariantCosts(sizes=_sizes(variant, notes)) for variant in run.variants}
    return SpeedRecord(
        identity=identity,
        machine=describe_machine(),
        baseline=run.baseline,
        utterances=tuple(utterances),
        paced=choose_paced(utterances, options.paced_seconds),
        variants=costs,
        notes=tuple(notes),
    )


def _sizes(variant: VariantInfo, notes: list[str]) -> Sizes | None:
    try:
        return measure_sizes(variant)
    except (KdcompressError, OSError) as error:
        notes.append(f"The size of {variant.name} could not be measured: {error}.")
        return None


def choose_utterances(
    output: Path, run: RunInfo, timed: Sequence[VariantInfo], limit: int
) -> tuple[list[TimedUtterance], list[str]]:
    """Inputs that every variant recognised, at most ``limit``, evenly spread over the manifests.

    A variant that recognised nothing of what the others did is left aside, and named in the notes.
    """
    candidates: list[tuple[str, int]] = []
    notes: list[str] = []
    for manifest in run.manifests:
        common: set[int] | None = None
        for variant in timed:
            rows = iterate_rows(output, variant.name, manifest.name)
            good = {r.index for r in rows if not r.error and (r.duration or variant.input_kind != AUDIO)}
            both = good if common is None else common & good
            if both or not common:
                common = both
            else:
                notes.append(f"{variant.name} recognised nothing of {manifest.name} that the others did.")
        candidates += [(manifest.name, index) for index in sorted(common or ())]
    if not candidates:
        notes.append(f"Nothing was timed: no {TASKS[run.task].medium} was recognised by every variant.")
        return [], notes
    places = range(len(candidates))
    if len(candidates) > limit:
        places = sorted({round(place) for place in np.linspace(0, len(candidates) - 1, limit)})  # type: ignore[assignment]
    chosen = {candidates[place]: place for place in places}
    found: dict[int, TimedUtterance] = {}
    for manifest in run.manifests:
        for row in iterate_rows(output, timed[0].name, manifest.name):
            place = chosen.get((manifest.name, row.index))
            if place is not None:
                found[place] = TimedUtterance(manifest.name, row.id, row.input, row.duration)
    return [found[place] for place in sorted(found)], notes


def choose_paced(utterances: Sequence[TimedUtterance], seconds: float) -> tuple[TimedUtterance, ...]:
    """Some of the utterances, spread over them, that last ``seconds`` together; the last one is cut to fit.

    Only audio comes in real time.
    """
    worth = [utterance for utterance in utterances if _seconds(utterance) >= _SHORTEST]
    # Every other one, then those between: spread over the manifests however few are needed.
    step = next((step for step in range(len(worth), 0, -1) if _lasts(worth[::step], seconds)), 1)
    chosen: list[TimedUtterance] = []
    left = seconds
    for utterance in worth[::step]:
        if left < _SHORTEST:
            break
        chosen.append(replace(utterance, duration=min(_seconds(utterance), left)))
        left -= _seconds(utterance)
    return tuple(chosen)


def _lasts(utterances: Sequence[TimedUtterance], seconds: float) -> bool:
    return sum(_seconds(utterance) for utterance in utterances) >= seconds


def _seconds(utterance: TimedUtterance) -> float:
    return utterance.duration or 0.0


@dataclass
class _Visit:
    """Where the timing process was last."""

    stage: str = "open"
    variant: str = ""
    total: int = 0


def _time(path: Path, timed: Sequence[VariantInfo], options: EvalOptions, on_progress: Progress) -> None:
    """Run the timing process until it is through; a variant at which it dies is left out."""
    waiting = {variant.name: to_json(variant) for variant in timed}
    longest = max(_seconds(utterance) for utterance in load(SpeedRecord, path).utterances)
    while waiting:
        request = {
            "record": str(path),
            "variants": waiting,
            "decoding": options.decoding.to_json(),
            "rounds": options.speed_rounds,
        }
        visit = _Visit()
        why = _run_worker(request, _SILENCE + _PATIENCE * longest, visit, on_progress)
        if why is None:
            on_progress(visit.stage, visit.total, visit.total)
            return
        record = load(SpeedRecord, path)
        if visit.variant in record.variants:
            cleared = replace(record.variants[visit.variant], timings=(), pacings=(), parts=None, profile=None)
            record = replace(record, variants={**record.variants, visit.variant: cleared})
        note = f"{visit.variant or 'The timing process'} could not be timed ({visit.stage}): {why}."
        write_text(path, dumps(replace(record, notes=(*record.notes, note))))
        if waiting.pop(visit.variant, None) is None:
            return


def _run_worker(request: dict[str, Any], silence: float, visit: _Visit, on_progress: Progress) -> str | None:
    """Run the timing process once; returns why it did not end well, or ``None``."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "stderr").open("w+b") as errors:
        path = Path(folder, "request.json")
        path.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "kdcompress_evaluation.speed", str(path)]
        environment = {**os.environ, **_ONE_THREAD}
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, encoding="utf-8"
        )
        try:
            heard = _listen(process.stdout, silence, visit, on_progress)
            code = process.wait(silence) if heard else -1
        except subprocess.TimeoutExpired:
            heard, code = False, -1
        finally:
            process.kill()
            process.wait()
        if not heard:
            return f"no answer in {silence:.0f} seconds"
        if not code:
            return None
        errors.seek(0)
        lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1].rstrip(".") if lines and code > 0 else f"the process ended with exit code {code}"


def _listen(lines: IO[str] | None, silence: float, visit: _Visit, on_progress: Progress) -> bool:
    """Follow the process until it closes its output; false when it falls silent for too long."""
    heard: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in lines or ():
            heard.put(line)
        heard.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = heard.get(timeout=silence)
        except queue.Empty:
            return False
        if line is None:
            return True
        stage, visit.variant, done, total = json.loads(line)
        if visit.total and visit.stage != stage:
            on_progress(visit.stage, visit.total, visit.total)
        visit.stage, visit.total = stage, total
        on_progress(stage, done, total)


def _footprints(path: Path, timed: Sequence[VariantInfo], options: EvalOptions, on_progress: Progress) -> None:
    """Memory and cold start of each variant, each in processes of their own."""
    for number, variant in enumerate(timed):
        record = load(SpeedRecord, path)
        costs = record.variants.get(variant.name, VariantCosts())
        if costs.memory is not None and costs.cold_starts:
            continue
        on_progress("memory", number, len(timed))
        longest = max(record.utterances, key=_seconds)
        request = {"variant": to_json(variant), "decoding": options.decoding.to_json(), "input": longest.path}
        notes = list(record.notes)
        if variant.kind == "sherpa-onnx":
            notes.append(f"Memory and cold start of {variant.name} include onnxruntime's library beside its own.")
        found, why = ask("footprint", request)
        if found is None:
            notes.append(f"Memory of {variant.name} could not be measured: {why.rstrip('.')}.")
        starts, why = _cold_starts(request, record.utterances[0], variant)
        if why:
            notes.append(f"The cold start of {variant.name} could not be measured: {why.rstrip('.')}.")
        costs = replace(costs, memory=None if found is None else Memory(**found), cold_starts=starts)
        kept = {**record.variants, variant.name: costs}
        write_text(path, dumps(replace(record, variants=kept, notes=tuple(notes))))
    on_progress("memory", len(timed), len(timed))


def _cold_starts(
    request: dict[str, Any], utterance: TimedUtterance, variant: VariantInfo
) -> tuple[tuple[ColdTimes, ...], str]:
    """Start so many processes; returns their times, or none and why."""
    starts = []
    with tempfile.TemporaryDirectory() as folder:
        saved = save_input(read_input(variant.input_kind, utterance.path, variant.sample_rate), Path(folder))
        for _ in range(COLD_STARTS):
            found, why = ask("cold", {**request, "input": str(saved)})
            if found is None:
                return (), why
            starts.append(ColdTimes(**found))
    return tuple(starts), ""
