"""Proof that what a bundle was made with (training, development, calibration, tuning) is not what it is tested on.

A shared recording is a leak. A shared speaker or a shared text is a weaker one; ``severity`` tells them apart.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.records import dumps, write_text
from kdcompress_evaluation.rows import ROWS
from kdcompress_evaluation.scoring import plain
from kdcompress_evaluation.summary import Overlap
from kdcompress_evaluation.words import plural
from kdcompress_runtime.errors import ManifestError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kdcompress_evaluation.summary import ManifestInfo, RunInfo
    from kdcompress_evaluation.variants import VariantInfo
    from kdcompress_runtime.manifest import ManifestEntry

LEAK, WEAK, CLEAN, UNKNOWN = "leak", "weak", "clean", "unknown"
WHY = (
    "A shared input is a leak: the model has met the answer, and its rates there say nothing about new data. A shared "
    "speaker or text is a weaker one: the rates hold for new recordings of known voices or known sentences, and are a "
    "little too good for strangers and for new texts. Inputs are the same when their bytes are (a recording that was "
    "stored anew in another format is not found); texts, when they are equal as scored."
)
"""What each kind of overlap means, for reports."""
OVERLAPS = "overlaps.json"
"""Where the findings are kept, inside ``rows.ROWS``."""
_GLIMPSE = 4096
"""Bytes from the middle of a file that are compared before its hash: fixed-length recordings all have one size."""


def find_overlaps(variants: Sequence[VariantInfo], manifests: Sequence[ManifestInfo]) -> tuple[Overlap, ...]:
    """Compare every set that the bundles name in their provenance with every test manifest.

    The test side is kept in memory as hashes; a named set is streamed, once however many bundles name it. Of its files
    only sizes are looked at, and the content of those that have the size of a test file.

    Args:
        variants: of the report; the precisions of a bundle count once.
        manifests: the test sets; paths are relative to the working directory, as they are in provenances.

    Returns:
        One for each bundle, named set and test manifest. What cannot be compared says so (evidence ``none``).
    """
    tests = [_Test.read(manifest) for manifest in manifests]
    known: dict[_Set, dict[str, _Found] | str] = {}
    overlaps = []
    for bundle, provenance in _bundles(variants):
        for role, named in named_sets(provenance):
            if named not in known:
                known[named] = _compare(named, tests)
            overlaps += [_overlap(bundle, role, named, test, known[named]) for test in tests]
    return tuple(overlaps)


def _overlap(bundle: str, role: str, named: _Set, test: _Test, compared: Mapping[str, _Found] | str) -> Overlap:
    if test.info.fingerprint == named.fingerprint:
        return test.same_set(bundle, role, named)
    why = test.gone or (compared if isinstance(compared, str) else "")
    if why or isinstance(compared, str):
        return Overlap(bundle, role, test.info.name, "none", why, None, None, None)
    return compared[test.info.name].overlap(bundle, role, named)


def write_overlaps(output: Path, run: RunInfo) -> None:
    """Find the overlaps of a run and keep them beside its rows: who derives the report again may not have the data."""
    write_text(output / ROWS / OVERLAPS, dumps(find_overlaps(run.variants, run.manifests)))


def severity(overlap: Overlap) -> str:
    """Return ``leak`` (inputs in both), ``weak`` (only speakers or texts), ``clean``, or ``unknown``."""
    if overlap.evidence == "fingerprint" or overlap.inputs:
        return LEAK
    if overlap.evidence == "none" or overlap.inputs is None:
        return UNKNOWN
    return WEAK if overlap.speakers or overlap.texts else CLEAN


def undeclared(variants: Sequence[VariantInfo]) -> tuple[str, ...]:
    """Names of bundles and other systems that do not say what they were trained on: nothing is known about them."""
    return tuple(
        name for name, provenance in _bundles(variants) if all(role != "train" for role, _ in named_sets(provenance))
    )


@dataclass(frozen=True)
class _Set:
    """A set as a provenance names it."""

    manifest: str
    fingerprint: str


def named_sets(provenance: Mapping[str, Any]) -> list[tuple[str, _Set]]:
    """Roles and sets that a provenance names, of the bundle and of its training run; it may hold anything."""
    run = provenance.get("run")
    found: dict[tuple[str, str], _Set] = {}
    for data in (provenance.get("data"), run.get("data") if isinstance(run, dict) else None):
        for role, value in data.items() if isinstance(data, dict) else ():
            for row in value if isinstance(value, list) else [value]:
                if isinstance(row, dict) and isinstance(row.get("fingerprint"), str):
                    named = _Set(str(row.get("manifest") or ""), row["fingerprint"])
                    found.setdefault((str(role), named.fingerprint), named)
    return [(role, named) for (role, _), named in found.items()]


def _bundles(variants: Iterable[VariantInfo]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each bundle once, with its provenance; those that share a name get their path behind it."""
    found = {variant.bundle_path: variant for variant in variants}
    counts = Counter(variant.bundle_name for variant in found.values())
    return [
        (v.bundle_name if counts[v.bundle_name] == 1 else f"{v.bundle_name} ({path})", v.provenance)
        for path, v in found.items()
    ]


def _compare(named: _Set, tests: Sequence[_Test]) -> dict[str, _Found] | str:
    """What the named set shares with each other test set by its name; or, in words, why it cannot be told."""
    found = {t.info.name: _Found(t) for t in tests if not t.gone and t.info.fingerprint != named.fingerprint}
    if not found:
        return {}
    path = Path(named.manifest)
    where = named.manifest or "its manifest"
    if not named.manifest or not path.is_file():
        return f"{where} is not here; evaluate where it lies under this path, seen from the working directory"
    try:
        if manifest_fingerprint(path) != named.fingerprint:
            return (
                f"{where} has changed since (another fingerprint than {named.fingerprint[:16]}); put back the version "
                "that the bundle was made with"
            )
        for entry in read_manifest(path):
            for one in found.values():
                one.add(entry)
    except (ManifestError, OSError) as error:
        return f"{where} cannot be read: {error}"
    return found


@dataclass
class _Test:
    """A test manifest: what is looked up for every line of another set."""

    info: ManifestInfo
    gone: str = ""
    sentences: set[bytes] = field(default_factory=set)
    files: dict[int, list[str]] = field(default_factory=dict)
    unread: int = 0
    speakers: set[str] = field(default_factory=set)
    texts: set[bytes] = field(default_factory=set)
    _glimpses: dict[int, dict[bytes, list[str]]] = field(default_factory=dict)
    _digests: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, info: ManifestInfo) -> _Test:
        """Read the manifest and the sizes of its files."""
        test = cls(info)
        try:
            for entry in read_manifest(info.path):
                test._add(entry)
        except (ManifestError, OSError) as error:
            return cls(info, gone=f"{info.name} cannot be read here: {error}")
        return test

    def _add(self, entry: ManifestEntry) -> None:
        self.texts.update(_keys(entry.text))
        if entry.speaker is not None:
            self.speakers.add(entry.speaker)
        if entry.kind == "text":
            self.sentences.update(_keys(entry.input))
            return
        size = _size(entry.input)
        if size is None:
            self.unread += 1
        else:
            self.files.setdefault(size, []).append(entry.input)

    def same_set(self, bundle: str, role: str, named: _Set) -> Overlap:
        """The named set is this one."""
        detail = f"the very same set, there called {named.manifest}" if named.manifest else "the very same set"
        return Overlap(
            bundle=bundle,
            role=role,
            manifest=self.info.name,
            evidence="fingerprint",
            detail=detail,
            inputs=self.info.utterances,
            speakers=len(self.speakers) or None,
            texts=None if self.gone else len(self.texts),
        )

    def find_file(self, path: str, size: int) -> bytes | None:
        """SHA-256 of a file when one of the test files has the same content; only files of one size are read.

        Raises:
            OSError: it cannot be read.
        """
        if not size or size not in self.files:  # empty files are alike, and say nothing
            return None
        if size not in self._glimpses:
            self._glimpses[size] = {}
            for own in self.files[size]:
                self._glimpses[size].setdefault(_glimpse(own, size), []).append(own)
        alike = self._glimpses[size].get(_glimpse(path, size))
        if not alike:
            return None
        digest = _digest(path)
        for own in alike:
            if own not in self._digests:
                self._digests[own] = _digest(own)
        return digest if any(self._digests[own] == digest for own in alike) else None


@dataclass
class _Found:
    """What one set shares with a test manifest, line by line."""

    test: _Test
    lines: int = 0
    unread: int = 0
    inputs: set[bytes] = field(default_factory=set)
    speakers: set[str] = field(default_factory=set)
    texts: set[bytes] = field(default_factory=set)
    names_speakers: bool = False

    def add(self, entry: ManifestEntry) -> None:
        """Look up one line of the set."""
        self.lines += 1
        self.texts.update(key for key in _keys(entry.text) if key in self.test.texts)
        if entry.speaker is not None:
            self.names_speakers = True
            if entry.speaker in self.test.speakers:
                self.speakers.add(entry.speaker)
        if entry.kind == "text":
            self.inputs.update(key for key in _keys(entry.input) if key in self.test.sentences)
            return
        size = _size(entry.input)
        try:
            digest = None if size is None else self.test.find_file(entry.input, size)
        except OSError:
            size = digest = None
        self.unread += size is None
        self.inputs.update(() if digest is None else (digest,))

    def overlap(self, bundle: str, role: str, named: _Set) -> Overlap:
        """The finding. Nothing is claimed about inputs when one side has files that could not be read."""
        missing = self.unread or self.test.unread
        detail = f"{self.lines:,} items of {named.manifest}, one by one"
        if self.unread:
            detail += f"; {self.unread:,} of their files missing here"
        if self.test.unread:
            detail += f"; {plural(self.test.unread, 'file')} of the test set missing here"
        return Overlap(
            bundle=bundle,
            role=role,
            manifest=self.test.info.name,
            evidence="content",
            detail=detail,
            inputs=None if missing and not self.inputs else len(self.inputs),
            speakers=len(self.speakers) if self.names_speakers and self.test.speakers else None,
            texts=len(self.texts),
        )


@lru_cache(maxsize=65536)
def _keys(text: str) -> tuple[bytes, ...]:
    """The key of a text as scored; none for an empty one, which says nothing."""
    scored = plain(text)
    return (hashlib.blake2b(scored.encode(errors="replace"), digest_size=16).digest(),) if scored else ()


def _size(path: str) -> int | None:
    """Bytes of a file; ``None`` when it is not here."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a million times
    except (OSError, ValueError):
        return None


def _glimpse(path: str, size: int) -> bytes:
    with Path(path).open("rb", buffering=0) as file:
        file.seek(max(0, (size - _GLIMPSE) // 2))
        return hashlib.blake2b(file.read(_GLIMPSE), digest_size=16).digest()


def _digest(path: str) -> bytes:
    found = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.digest()
