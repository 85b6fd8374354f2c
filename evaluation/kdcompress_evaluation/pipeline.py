"""Systems x manifests -> rows -> summary -> report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_evaluation.broken import note_broken
from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.errors import RowsError
from kdcompress_evaluation.options import EvalOptions
from kdcompress_evaluation.overlap import write_overlaps
from kdcompress_evaluation.plan import plan
from kdcompress_evaluation.recognise import recognise_variant
from kdcompress_evaluation.records import dumps, write_text
from kdcompress_evaluation.report import write_report, write_reports
from kdcompress_evaluation.rows import ROWS, RUN
from kdcompress_evaluation.several import Report, collect
from kdcompress_evaluation.speed import measure
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress_evaluation.summary import BrokenVariant, RunInfo, Summary

    Progress = Callable[[str, int, int], None]


def evaluate(
    systems: Sequence[Path],
    manifests: Mapping[str, Path],
    output: Path,
    options: EvalOptions | None = None,
    on_progress: Progress | None = None,
) -> Summary:
    """Evaluate every system of one task on every manifest and write the report; see ``evaluate_tasks``.

    Raises:
        OptionsError: as there; or there are several tasks.
    """
    options = options or EvalOptions()
    runs, broken = plan([Path(system) for system in systems], manifests, options)
    if len(runs) > 1:
        raise OptionsError(
            f"the manifests feed {' and '.join(run.task for run in runs)}; evaluate each alone, or use evaluate_tasks"
        )
    summary = _evaluate(output, runs[0], broken, options, on_progress or _silent)
    write_report(summary, output)
    return summary


def evaluate_tasks(
    systems: Sequence[Path],
    manifests: Mapping[str, Path],
    output: Path,
    options: EvalOptions | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Evaluate every system on every manifest of its kind and write one report.

    Rows that a run before left in ``output`` are kept when they were made by the same model, manifest and decoder, so a
    killed run goes on where it stopped, and shards are completed; so are measured times on the same machine. A system
    that cannot be opened, or breaks half way, is reported as broken and the others go on.

    Args:
        systems: bundles (folders or ``.zip``) of any task, Hugging Face exports, sherpa-onnx models, ``.jsonl`` files
            with the texts of other systems.
        manifests: by name; of recordings, images or sentences.
        output: folder of the report: ``report.html``, ``report.md``, ``report.json``, ``report.csv``, ``rows/``. Of
            several tasks, each has its ``rows/`` and a ``report.json`` of its own in a folder of its name.
        options: see ``EvalOptions``.
        on_progress: called with (stage, done, total).

    Raises:
        OptionsError: no system or manifest, an unknown baseline or candidate, a manifest name that cannot name a file,
            a system without a manifest of its kind, or a manifest without a system.
        KdcompressError: none of the systems can be opened.
        ManifestError: a manifest is missing, empty, or has a broken line; raised before anything is recognised.
        RowsError: ``output`` cannot hold a report.
    """
    options = options or EvalOptions()
    runs, broken = plan([Path(system) for system in systems], manifests, options)
    report = collect(
        [
            _evaluate(folder_of(output, run, runs), run, () if number else broken, options, on_progress or _silent)
            for number, run in enumerate(runs)
        ]
    )
    write_reports(report, output)
    return report


def folder_of(output: Path, run: RunInfo, runs: Sequence[RunInfo]) -> Path:
    """Where the rows of a run lie: of several tasks, each has a folder of its name."""
    return output / run.task if len(runs) > 1 else output


def _evaluate(
    output: Path, run: RunInfo, broken: Sequence[BrokenVariant], options: EvalOptions, report: Progress
) -> Summary:
    """Recognise, measure and derive one task."""
    _begin(output, run, broken)
    _recognise(output, run, options, report, None)
    if options.speed_utterances:
        measure(output, run, options, report)
    report("overlaps", 0, 1)
    write_overlaps(output, run)
    report("overlaps", 1, 1)
    report("report", 0, 1)
    summary = summarise(output)
    report("report", 1, 1)
    return summary


def recognise_shard(
    systems: Sequence[Path],
    manifests: Mapping[str, Path],
    output: Path,
    shard: tuple[int, int],
    *,
    options: EvalOptions | None = None,
    on_progress: Progress | None = None,
) -> int:
    """Recognise every ``shard[1]``-th utterance, beginning with number ``shard[0]`` (from 1); write rows only.

    Shards may run at once, into one folder or into several; ``evaluate`` into a folder with the rows of all shards
    recognises nothing anew, and ``rederive`` merges folders. The numbers are those of one process.

    Returns:
        Rows of this shard that are there now.

    Raises:
        KdcompressError: see ``evaluate``.
    """
    options = options or EvalOptions()
    runs, broken = plan([Path(system) for system in systems], manifests, options)
    total = 0
    for number, run in enumerate(runs):
        folder = folder_of(output, run, runs)
        _begin(folder, run, () if number else broken)
        total += _recognise(folder, run, options, on_progress or _silent, shard)
    return total


def _begin(output: Path, run: RunInfo, broken: Sequence[BrokenVariant]) -> None:
    try:
        (output / ROWS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RowsError(f"cannot write the report into {output} ({error.strerror}); name another folder") from error
    write_text(output / ROWS / RUN, dumps(run))
    note_broken(output, broken)


def _recognise(
    output: Path, run: RunInfo, options: EvalOptions, report: Progress, shard: tuple[int, int] | None
) -> int:
    return sum(
        recognise_variant(
            output,
            run,
            variant,
            options,
            lambda done, total, name=variant.name: report(f"recognise {name}", done, total),  # type: ignore[misc]
            shard=shard,
        )
        for variant in run.variants
    )


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report to nobody."""
