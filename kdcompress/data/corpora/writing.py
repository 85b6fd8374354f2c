"""From a corpus to a folder: manifests, the audio that had to be written, and a report. Complete or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdcompress.data.corpora import report as reporting
from kdcompress.data.corpora.base import Found, ManifestRow, Source, Unusable
from kdcompress.data.corpora.lines import Lines
from kdcompress.data.corpora.ordered import ordered_map
from kdcompress.data.corpora.problems import OnUnusable, Problems
from kdcompress.data.corpora.recordings import Check, Placed, Recordings
from kdcompress.data.corpora.resumable import resumable
from kdcompress.data.corpora.splits import DEFAULT_SHARE, SplitBy, SplitRule
from kdcompress.data.corpora.texts import TEXT_RULES, TextRule
from kdcompress.data.prepared import PreparedFolder
from kdcompress.errors import VocabularyError
from kdcompress_runtime.errors import ManifestError, OptionsError

if TYPE_CHECKING:
    from kdcompress.data.corpora.base import Adapter

Progress = Callable[[str, int, int], None]

PREPARATION_VERSION = 1
"""Raised whenever the same settings would give other manifests or audio."""
REPORT_FILE, UNUSABLE_FILE = "report.json", "unusable.jsonl"
PROGRESS_EVERY = 100


@dataclass(frozen=True)
class PrepareOptions:
    """How a corpus is prepared, whatever corpus it is."""

    text: TextRule = "keep"
    sample_rate: int | None = None
    """Write all audio as FLAC at this rate (Hz); left out: files stay where they are, pieces of files are written."""
    check: Check = "headers"
    on_unusable: OnUnusable = "error"
    dev_share: float | None = None
    test_share: float | None = None
    split_by: SplitBy = "speaker"
    shared_speakers: Literal["error", "warn"] = "error"
    """Whether a speaker in training and in a held-out split is an error."""
    jobs: int = 1
    """Threads that look at and write audio; decides nothing but the time it takes."""

    def __post_init__(self) -> None:
        if self.text not in TEXT_RULES:
            raise OptionsError(f"text must be one of {', '.join(TEXT_RULES)}, found {self.text!r}")
        if self.shared_speakers not in {"error", "warn"}:
            raise OptionsError(f"shared_speakers must be error or warn, found {self.shared_speakers!r}")
        if self.jobs < 1:
            raise OptionsError(f"jobs must be 1 or more, found {self.jobs}")


@dataclass(frozen=True)
class Prepared:
    """What ``prepare_corpus`` made."""

    manifests: dict[str, Path]
    """Manifest by split."""
    report: dict[str, Any]
    reused: bool
    """The folder was there already, made from the same corpus with the same settings."""


@dataclass(frozen=True)
class Survey:
    """What a first look at a corpus, without its audio, says."""

    items: int
    digest: str
    splits: frozenset[str]
    """Those that the corpus names."""
    dealt: bool
    """It names no split for some items."""


def prepare_corpus(
    kind: str,
    adapter: Adapter,
    source: Source,
    output: str | Path,
    *,
    options: PrepareOptions | None = None,
    on_progress: Progress | None = None,
) -> Prepared:
    """Write a corpus to ``output``: one manifest a split, ``report.json``, ``settings.json``, audio where needed.

    The corpus is read twice, never held: memory does not grow with its items. Audio stays where it is, named by its
    absolute path, unless ``sample_rate`` is given or an item is a piece of a longer file; then it is written as FLAC
    and named relative to the manifest. ``output`` is complete or absent. A run that was interrupted after it wrote
    audio goes on with it; a folder made from the same corpus with the same settings is used as it is.

    Args:
        kind: name of the corpus, for messages and the report.
        adapter: reads it.
        source: where it lies.
        output: folder to make.
        options: what to do with it; the defaults when left out.
        on_progress: called with what is being done, items done, items in all.

    Raises:
        DataNotFoundError: the corpus is not there.
        ManifestError: a table is broken, items cannot be used and are not to be left out, nothing is left, or a
            speaker is in training and in a held-out split.
        OptionsError: an option makes no sense, or ``output`` holds something else.
        MissingDependencyError: soundfile or soxr is needed and not installed.
    """
    options = options or PrepareOptions()
    on_progress = on_progress or _silent
    output = Path(output).absolute()
    source = replace(source, path=source.path.absolute(), output=output)
    rule = SplitRule(options.dev_share, options.test_share, options.split_by)
    survey = _survey(kind, adapter, source, on_progress)
    rule.check(survey.splits)
    settings = _settings(kind, source, options, survey)
    folder = PreparedFolder(output, settings)
    if folder.is_ready():
        report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
        return Prepared({split: output / f"{split}.jsonl" for split in report["splits"]}, report, reused=True)
    audio = {key: settings[key] for key in ("version", "source", "items_sha256", "sample_rate")}
    with resumable(folder, json.dumps(audio)) as building:
        recordings = Recordings(building, options.sample_rate, options.check)
        writer = _Writer(building, options, rule, recordings, source)
        problems = Problems(building / UNUSABLE_FILE, options.on_unusable)
        lines = writer.write(adapter(source), problems, survey.items, on_progress)
        report = {"kind": kind, "source": str(source.path), "settings": settings, "unusable": problems.summary()}
        report |= reporting.describe(lines.manifests, building, lambda done: on_progress("report", done, lines.count))
        _check_speakers(report, options)
        report["warnings"] = reporting.warnings(report)
        content = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        (building / REPORT_FILE).write_text(content, encoding="utf-8")
        _copy_terms(source.path, building)
    return Prepared({split: output / f"{split}.jsonl" for split in lines.manifests}, report, reused=False)


def _silent(stage: str, done: int, total: int) -> None:
    """Show no progress."""


def _survey(kind: str, adapter: Adapter, source: Source, on_progress: Progress) -> Survey:
    """Read the corpus once without its audio: broken tables are found before the work begins."""
    digest, items, dealt, names = hashlib.sha256(), 0, False, set[str]()
    for split, item in adapter(source):
        if split is not None:
            names.add(split)
        if split is not None and not source.wants(split):
            continue
        items += 1
        dealt = dealt or (split is None and isinstance(item, ManifestRow))
        digest.update(_told(split, item).encode("utf-8", "surrogatepass"))
        if items % 100_000 == 0:
            on_progress("reading the corpus", items, items)
    unknown = [split for split in source.splits if split not in names]
    if unknown and (names or dealt):
        found = f"of those asked it has {', '.join(sorted(names))}" if names else "it names no splits of its own"
        raise OptionsError(f"{source.path}: no split {unknown[0]!r}; {found}")
    if not items:
        raise ManifestError(f"{source.path}: no items; it is not laid out as `kdcompress prepare {kind}` expects it")
    return Survey(items, digest.hexdigest(), frozenset(names), dealt)


def _told(split: str | None, item: ManifestRow | Unusable) -> str:
    if isinstance(item, Unusable):
        return f"{split}\0{item.where}\0{item.reason}\n"
    values = (split, item.id, item.input, item.text, item.speaker, item.duration, item.start, item.channel, item.raw)
    return f"{values}\0{item.fields}\n"


def _settings(kind: str, source: Source, options: PrepareOptions, survey: Survey) -> dict[str, Any]:
    """Everything that decides the content of the folder, as JSON values."""
    missing = DEFAULT_SHARE if survey.dealt else 0.0
    dev, test = (missing if share is None else share for share in (options.dev_share, options.test_share))
    return {
        "kind": kind,
        "version": PREPARATION_VERSION,
        "source": str(source.path),
        "items": survey.items,
        "items_sha256": survey.digest,
        "only_splits": list(source.splits),
        "without_texts": source.without_texts,
        "text": options.text,
        "sample_rate": options.sample_rate,
        "check": options.check,
        "on_unusable": options.on_unusable,
        "dealt": survey.dealt,
        "shares": {"train": 1.0 - dev - test, "dev": dev, "test": test},
        "split_by": options.split_by,
        "shared_speakers": options.shared_speakers,
    }


@dataclass(frozen=True)
class _Writer:
    """Turns items into manifest lines."""

    folder: Path
    options: PrepareOptions
    rule: SplitRule
    recordings: Recordings
    source: Source

    def write(self, items: Iterator[Found], problems: Problems, total: int, on_progress: Progress) -> Lines:
        """Write every item that can be used; see ``prepare_corpus`` for the errors."""
        wanted = (found for found in items if found[0] is None or self.source.wants(found[0]))
        with Lines(self.folder) as lines:
            made = ordered_map(self._made, wanted, self.options.jobs)
            for done, (split, item, placed) in enumerate(made, start=1):
                if isinstance(item, Unusable):
                    problems.add(split, item)
                elif split is not None:
                    unwritable = lines.add(split, item, placed)
                    if unwritable:
                        problems.add(split, unwritable)
                if done % PROGRESS_EVERY == 0 or done == total:
                    on_progress("items", done, total)
            for split, repeated in lines.repeated():
                problems.add(split, repeated)
            problems.check()
            lines.leave_out_repeated()
        if not lines.count:
            raise ManifestError(f"{self.source.path}: no item is left; all {problems.count} cannot be used")
        return lines

    def _made(self, found: Found) -> tuple[str | None, ManifestRow | Unusable, Placed]:
        """The split of an item, the item with its text as it is to be, and its input."""
        split, item = found
        if isinstance(item, Unusable):
            return split, item, _NOWHERE
        split = self.rule.split_of(split, item)
        try:
            text = "" if self.source.without_texts else TEXT_RULES[self.options.text](item.text)
        except VocabularyError as problem:
            return split, Unusable(item.where, "unusable text", str(problem), item.id), _NOWHERE
        placed = self.recordings.place(item)
        if isinstance(placed, Unusable):
            return split, placed, _NOWHERE
        return split, item if text == item.text else replace(item, text=text), placed


_NOWHERE = Placed("")


def _check_speakers(report: dict[str, Any], options: PrepareOptions) -> None:
    shared = report["speakers_in_several_splits"]
    if shared["leaking"] and options.shared_speakers == "error" and options.split_by == "speaker":
        named = ", ".join(f"{one['speaker']!r} ({' and '.join(one['splits'])})" for one in shared["first"][:NAMED])
        raise ManifestError(
            f"{report['source']}: {shared['leaking']} speaker(s) are in training and in a held-out split, such as "
            f"{named}; results would flatter the model. Move each speaker to one side, or accept it with "
            "--shared-speakers warn"
        )


NAMED = 3


def _copy_terms(source: Path, folder: Path) -> None:
    """Copy licences: texts, and audio that was written, are under them too."""
    for terms in sorted(source.glob("LICEN[CS]E*")) if source.is_dir() else ():
        if terms.is_file():
            shutil.copyfile(terms, folder / terms.name)
