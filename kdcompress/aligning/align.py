"""Align a manifest: a finished run says where in every item the units of its reference are. Repeat it after a kill."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from kdcompress.aligning.aligned import (
    INPUT_UNITS,
    SECONDS,
    Aligned,
    Header,
    item_line,
    read_alignments,
    read_header,
)
from kdcompress.aligning.aligner import Aligner, Unusable
from kdcompress.errors import AlignmentError, RunError
from kdcompress.files import file_sha256, replacing, write_text
from kdcompress.interrupt import DeferredInterrupt
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcompress.aligning.segments import SegmentOptions
    from kdcompress.data.lexicon import Lexicon
    from kdcompress.run import TrainedRun

OnUnusable = Literal["error", "skip"]
PART_ITEMS = 256
"""Entries of the manifest that are finished together."""
SUSPECTS = 10
"""So many low scores are listed."""
DEVIATIONS = 5.0
"""A score is low so many times the mean absolute deviation below the median."""


@dataclass(frozen=True)
class AlignOptions:
    """How a manifest is aligned."""

    segments: SegmentOptions | None = None
    """How blank frames are given to units; what suits the run's tokens when left out."""
    lexicon: Lexicon | None = None
    """Tells the words of texts that are phones; without one every unit of ``units: words`` is a word."""
    on_unusable: OnUnusable = "error"
    """What to do with an item that cannot be aligned."""
    batch_size: int = 16
    """Items that are heard together."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OptionsError: one is impossible.
        """
        if self.on_unusable not in {"error", "skip"} or self.batch_size < 1:
            raise OptionsError(
                f"on_unusable is error or skip, batch_size 1 or more; found {self.on_unusable!r}, {self.batch_size}"
            )


class Suspect(NamedTuple):
    """An item whose score is low: its text may not be what is said."""

    id: str
    score: float


@dataclass(frozen=True)
class AlignmentFolder:
    """Names of the files of an alignment."""

    path: Path

    @property
    def alignment(self) -> Path:
        """All items; there when the alignment is finished."""
        return self.path / "alignment.jsonl"

    @property
    def skipped(self) -> Path:
        """Items that could not be aligned, one JSON object a line: place, id, problem."""
        return self.path / "skipped.jsonl"

    @property
    def work(self) -> Path:
        """What is finished of an alignment that is not."""
        return self.path / "work"

    @property
    def plan(self) -> Path:
        """What the parts belong to."""
        return self.work / "plan.json"

    def part(self, number: int) -> Path:
        """Some entries of the manifest."""
        return self.work / f"{number:06d}.jsonl"


@dataclass(frozen=True)
class AlignSummary:
    """What came out."""

    path: Path
    """``alignment.jsonl``."""
    items: int
    units: int
    mean_score: float
    """Mean over items of ``Aligned.score``; NaN without any."""
    skipped: tuple[Unusable, ...]
    """Items that could not be aligned, in the order of the manifest."""
    suspects: tuple[Suspect, ...]
    """Items of low score, lowest first."""


def align_manifest(
    run: TrainedRun,
    manifest: str | Path,
    output: str | Path,
    options: AlignOptions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AlignSummary:
    """Write ``output/alignment.jsonl``: where the units of every item's reference are.

    What is finished is kept: after Ctrl-C or a kill the same call goes on. A finished alignment of the same run,
    manifest and options is used as it is.

    Args:
        run: any finished run that does not see the labels; its tokens are the units.
        manifest: JSONL file.
        output: folder to write to.
        options: see there.
        on_progress: called as ``(entries done, entries)``.

    Raises:
        RunError: the run sees the labels.
        AlignmentError: ``output`` holds another alignment; or an item's text needs more frames than it has, or is
            phones whose words are unknown (``on_unusable`` is ``error``).
        InputError, VocabularyError: an item cannot be read, or holds an unknown symbol (likewise).
        ManifestError: the manifest cannot be used.
    """
    options, manifest, output = options or AlignOptions(), Path(manifest), Path(output)
    if run.recipe.model.sees_labels:
        raise RunError(
            f"{run.folder.path}: a {run.recipe.model.kind} teacher sees the reference and need not hear where it is; "
            "align with a run that has to listen"
        )
    aligner = Aligner.of(run, options.segments, options.lexicon, options.batch_size)
    folder, entries = AlignmentFolder(Path(output)), list(read_manifest(manifest))
    header = _header(run, aligner, manifest_fingerprint(manifest), options)
    if folder.alignment.exists():
        _check_same(folder.alignment, read_header(folder.alignment), header)
        return summary(folder)
    with DeferredInterrupt() as interrupt:

        def stop() -> None:
            if interrupt.requested:
                raise KeyboardInterrupt

        _settle_plan(folder, header, options.on_unusable)
        for start in range(0, len(entries), PART_ITEMS):
            part = folder.part(start // PART_ITEMS)
            if not part.is_file():
                there = list(enumerate(entries[start : start + PART_ITEMS], start=start))
                found = aligner.align(there, str(manifest), skip=options.on_unusable == "skip", between=stop)
                write_text(part, "".join(map(_part_line, found)))
            if on_progress:
                on_progress(min(start + PART_ITEMS, len(entries)), len(entries))
            stop()
        _join(folder, header, -(-len(entries) // PART_ITEMS))
    return summary(folder)


def _part_line(item: Aligned | Unusable) -> str:
    return item_line(item) if isinstance(item, Aligned) else item.line()


def _header(run: TrainedRun, aligner: Aligner, fingerprint: str, options: AlignOptions) -> Header:
    lexicon = options.lexicon
    source = {
        "run": run.recipe.name,
        "sha256": file_sha256(run.folder.weights),
        "lexicon_sha256": file_sha256(lexicon.path) if lexicon else None,
        "options": asdict(aligner.options),
    }
    return Header(aligner.kind, SECONDS if aligner.hears_audio else INPUT_UNITS, fingerprint, source)


def _check_same(path: Path, found: Header, wanted: Header) -> None:
    if found != wanted:
        other = [name for name, value in asdict(wanted).items() if asdict(found)[name] != value]
        raise AlignmentError(
            f"{path}: is another alignment (other {', '.join(other)}); give another folder, or remove this one"
        )


def _settle_plan(folder: AlignmentFolder, header: Header, on_unusable: str) -> None:
    """See that finished parts are of this alignment; or begin it."""
    wanted = {"header": json.loads(header.line()), "on_unusable": on_unusable, "part_items": PART_ITEMS}
    if any(folder.work.glob("[0-9]*.jsonl")):
        if _plan(folder) == wanted:
            return
        raise AlignmentError(
            f"{folder.work}: unfinished, and of another run, manifest or other options; finish it with those, or "
            "remove this folder"
        )
    write_text(folder.plan, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")


def _plan(folder: AlignmentFolder) -> object:
    try:
        return json.loads(folder.plan.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _join(folder: AlignmentFolder, header: Header, parts: int) -> None:
    """Make one file of all parts, and remove them."""
    left_out: list[str] = []
    with replacing(folder.alignment) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(header.line())
        for number in range(parts):
            lines = _lines(folder.part(number))
            file.writelines(line for line in lines if not Unusable.is_line(line))
            left_out += [line for line in lines if Unusable.is_line(line)]
        # before the alignment is there, so that a finished one never lacks it
        write_text(folder.skipped, "".join(left_out))
    shutil.rmtree(folder.work, ignore_errors=True)


def _lines(path: Path) -> list[str]:
    # a text may hold what str.splitlines takes for the end of a line
    with path.open(encoding="utf-8") as file:
        return file.readlines()


def summary(folder: AlignmentFolder) -> AlignSummary:
    """Read what is in a folder through.

    Raises:
        AlignmentError: it is damaged.
    """
    scores, units, items = [], 0, []
    for item in read_alignments(folder.alignment):
        scores.append(item.score)
        units += len(item.segments)
        items.append((item.score, item.id, item.place))
    skipped = _lines(folder.skipped) if folder.skipped.is_file() else []
    return AlignSummary(
        path=folder.alignment,
        items=len(scores),
        units=units,
        mean_score=float(np.mean(scores)) if scores else float("nan"),
        skipped=tuple(map(Unusable.of_line, skipped)),
        suspects=_suspects(items),
    )


def _suspects(items: list[tuple[float, str, int]]) -> tuple[Suspect, ...]:
    if not items:
        return ()
    scores = np.array([score for score, _, _ in items])
    median = np.median(scores)
    limit = median - DEVIATIONS * np.abs(scores - median).mean()
    return tuple(Suspect(name, score) for score, name, _ in sorted(items)[:SUSPECTS] if score < limit)
