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
from kdcompress_evaluation.report import write_report
from kdcompress_evaluation.rows import ROWS, RUN
from kdcompress_evaluation.speed import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress_evaluation.summary import RunInfo, Summary

    Progress = Callable[[str, int, int], None]


def evaluate(
    systems: Sequence[Path],
    manifests: Mapping[str, Path],
    output: Path,
    options: EvalOptions | None = None,
    on_progress: Progress | None = None,
) -> Summary:
    """Evaluate every system on every manifest and write the report.

    Rows that a run before left in ``output`` are kept when they were made by the same model, manifest and decoder, so a
    killed run goes on where it stopped, and shards are completed; so are measured times on the same machine. A system
    that cannot be opened, or breaks half way, is reported as broken and the others go on.

    Args:
        systems: bundles (folders or ``.zip``), Hugging Face exports, sherpa-onnx models, ``.jsonl`` files with
            the texts of other systems.
        manifests: by name.
        output: folder of the report: ``report.html``, ``report.md``, ``report.json``, ``report.csv``, ``rows/``.
        options: see ``EvalOptions``.
        on_progress: called with (stage, done, total).

    Raises:
        OptionsError: no system or manifest, an unknown baseline or candidate, a manifest name that cannot name a file.
        KdcompressError: none of the systems can be opened.
        ManifestError: a manifest is missing, empty, or has a broken line; raised before anything is recognised.
        RowsError: ``output`` cannot hold a report.
    """
    options = options or EvalOptions()
    report = on_progress or _silent
    run = _begin(systems, manifests, output, options)
    _recognise(output, run, options, report, None)
    if options.speed_utterances:
        measure(output, run, options, report)
    report("overlaps", 0, 1)
    write_overlaps(output, run)
    report("overlaps", 1, 1)
    report("report", 0, 1)
    summary = summarise(output)
    write_report(summary, output)
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
    run = _begin(systems, manifests, output, options)
    return _recognise(output, run, options, on_progress or _silent, shard)


def _begin(systems: Sequence[Path], manifests: Mapping[str, Path], output: Path, options: EvalOptions) -> RunInfo:
    run, broken = plan([Path(system) for system in systems], manifests, options)
    try:
        (output / ROWS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RowsError(f"cannot write the report into {output} ({error.strerror}); name another folder") from error
    write_text(output / ROWS / RUN, dumps(run))
    note_broken(output, broken)
    return run


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
