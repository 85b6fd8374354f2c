"""Sentences: a corpus of read speech with its own splits, such as speechocean762, made ready for training.

The corpus is a folder with ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl`` (those that are there are taken), and for
phones a ``lexicon.txt``. Its audio is decoded once: Ogg Opus costs eight times as much to read as FLAC, at every step.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kdcompress.data.lexicon import Lexicon, normalised, read_lexicon
from kdcompress.data.noisy_sets import read_set_noise
from kdcompress.data.prepared import PreparedFolder, write_flac
from kdcompress.errors import VocabularyError
from kdcompress.files import file_sha256
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import AudioError, AudioFileNotFoundError, ManifestError, OptionsError
from kdcompress_runtime.manifest import ManifestEntry, read_manifest
from kdcompress_runtime.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcompress.data.noise import Samples
    from kdcompress.data.noisy_sets import NoiseConfig, SetNoise

    Progress = Callable[[str, int, int], None]

logger = logging.getLogger(__name__)

Units = Literal["characters", "phones"]
SPLITS = ("train", "dev", "test")
SNR_DB = (5.0, 10.0, 15.0)
"""Ratios for sentences, as in the test sets of Aurora-4; connected speech bears less noise than digits."""
NOISE_SEED = 1
PREPARATION_VERSION = 1
"""Raised whenever the same settings would give other texts or audio."""


@dataclass(frozen=True)
class Sentence:
    """One item of the corpus."""

    number: int
    """Place in the corpus's manifest; the noise of the item follows from it."""
    entry: ManifestEntry
    words: str
    """Normalised text."""
    text: str
    """What becomes the reference: the words, or their phones."""


def prepare_sentences(
    source: str | Path,
    output: str | Path,
    *,
    units: Units = "characters",
    sample_rate: int = 16000,
    noise: NoiseConfig | None = None,
    on_unusable: Literal["error", "skip"] = "error",
    on_progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the corpus to ``output``: FLAC audio, one manifest a split, ``settings.json``.

    Texts are normalised (see ``normalised``); with phones, a line also has its ``words``. ``output`` is complete or
    absent: it is built beside its place and moved there. A folder made with the same settings is used as it is.
    Items keep their noise whatever the units are and whatever is left out.

    Args:
        source: folder of the corpus.
        output: folder to make.
        units: ``characters`` leaves words; ``phones`` turns them into phones through ``lexicon.txt``.
        sample_rate: Hz of the audio written; no file may have less.
        noise: noise for dev and test; all clean when left out.
        on_unusable: ``error``, or ``skip`` items whose text cannot be used; a warning and ``settings.json`` count them.
        on_progress: called with split, items done, items in all.

    Returns:
        Path of the manifest by split.

    Raises:
        OptionsError: an option makes no sense, or ``output`` holds something else.
        ManifestError: the folder, a manifest or the lexicon is missing or broken; or a speaker is in two splits.
        VocabularyError: a text holds something else than letters, or a word that the lexicon lacks.
        AudioError: a recording cannot be read, or has a lower rate.
        MissingDependencyError: soundfile, or where rates change soxr, is not installed.
    """
    source = Path(source)
    _check_options(units, sample_rate, on_unusable)
    entries = read_corpus(source)
    lexicon = read_lexicon(source / "lexicon.txt") if units == "phones" else None
    sentences, left_out = {}, {}
    for split, items in entries.items():
        sentences[split] = _sentences(items, lexicon, on_unusable, f"{source / split}.jsonl")
        left_out[split] = len(items) - len(sentences[split])
    settings = {
        "kind": "sentences",
        "version": PREPARATION_VERSION,
        "source_sha256": _source_sha256(source, entries, lexicon),
        "audio_bytes": sum(_bytes(entry) for items in entries.values() for entry in items),
        "units": units,
        "sample_rate": sample_rate,
        "noise": noise.recorded() if noise else None,
        "on_unusable": on_unusable,
        "left_out": left_out,
    }
    folder = PreparedFolder(Path(output), settings)
    manifests = {split: folder.path / f"{split}.jsonl" for split in entries}
    if folder.is_ready():
        return manifests
    with folder.writing() as building:
        for terms in sorted(source.glob("LICENSE*")):
            shutil.copyfile(terms, building / terms.name)
        for split, kept in sentences.items():
            writer = _SplitWriter(split, sample_rate, read_set_noise(noise, split, sample_rate))
            writer.write(building, kept, on_progress)
    return manifests


def read_corpus(source: Path) -> dict[str, list[ManifestEntry]]:
    """Read the manifests of a corpus that are there, by split.

    Raises:
        ManifestError: the folder or all manifests are missing, a line is broken or names no speaker, or a speaker is
            in two splits.
    """
    if not source.is_dir():
        raise ManifestError(f"no corpus at {source}: there is no such folder; check the path")
    paths = {split: source / f"{split}.jsonl" for split in SPLITS}
    entries = {split: list(read_manifest(path)) for split, path in paths.items() if path.is_file()}
    if not entries:
        raise ManifestError(f"no corpus at {source}: it needs train.jsonl, dev.jsonl or test.jsonl")
    speakers = {split: {_speaker(entry, paths[split]) for entry in items} for split, items in entries.items()}
    for one, other in combinations(entries, 2):
        if shared := sorted(speakers[one] & speakers[other]):
            raise ManifestError(
                f"{source}: {len(shared)} speaker(s), such as {shared[0]!r}, are in {one}.jsonl and in {other}.jsonl; "
                "results would flatter the model; move each speaker to one split"
            )
    return entries


def _speaker(entry: ManifestEntry, path: Path) -> str:
    if not entry.speaker:
        raise ManifestError(f"{path}, item {entry.id}: no speaker; name one, so that splits can be kept apart")
    return entry.speaker


def _check_options(units: str, sample_rate: int, on_unusable: str) -> None:
    if units not in {"characters", "phones"}:
        raise OptionsError(f"units must be characters or phones, found {units!r}")
    if on_unusable not in {"error", "skip"}:
        raise OptionsError(f"on_unusable must be error or skip, found {on_unusable!r}")
    if not 4000 <= sample_rate <= 48000:
        raise OptionsError(f"sample_rate must lie between 4000 and 48000 Hz, found {sample_rate}")


def _sentences(
    entries: Sequence[ManifestEntry], lexicon: Lexicon | None, on_unusable: str, where: str
) -> list[Sentence]:
    """The items whose texts can be used."""
    kept = []
    for number, entry in enumerate(entries):
        sentence = _sentence(number, entry, lexicon)
        if isinstance(sentence, Sentence):
            kept.append(sentence)
        elif on_unusable == "error":
            raise VocabularyError(f"{where}, item {entry.id}: {sentence}, or skip unusable items")
    if not kept:
        raise ManifestError(f"{where}: the text of no item can be used; look at them without skipping")
    if len(kept) < len(entries):
        logger.warning("%s: left out %d of %d items", where, len(entries) - len(kept), len(entries))
    return kept


def _sentence(number: int, entry: ManifestEntry, lexicon: Lexicon | None) -> Sentence | VocabularyError:
    """The item, or why its text cannot be used."""
    try:
        words = normalised(entry.text)
        return Sentence(number, entry, words, lexicon.phones(words) if lexicon else words)
    except VocabularyError as problem:
        return problem


def _source_sha256(
    source: Path, entries: Mapping[str, Sequence[ManifestEntry]], lexicon: Lexicon | None
) -> dict[str, str]:
    files = [source / f"{split}.jsonl" for split in entries] + ([lexicon.path] if lexicon else [])
    return {file.name: file_sha256(file) for file in files}


def _bytes(entry: ManifestEntry) -> int:
    """Size of an item's audio: cheap to compare, and a missing file is found before the work begins."""
    path = Path(entry.input)
    if not path.is_file():
        raise AudioFileNotFoundError(f"audio file not found: {path}; check the manifest, or get the corpus again")
    return path.stat().st_size


@dataclass(frozen=True)
class _SplitWriter:
    """Writes the audio and the manifest of one split."""

    split: str
    sample_rate: int
    noise: SetNoise

    def write(self, folder: Path, sentences: Sequence[Sentence], on_progress: Progress | None) -> None:
        """Write everything below ``folder``."""
        (folder / "audio" / self.split).mkdir(parents=True)
        lines = []
        for done, sentence in enumerate(sentences, start=1):
            row, samples = self.make(sentence)
            write_flac(folder / row["audio_filepath"], samples, self.sample_rate)
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
            if on_progress:
                on_progress(self.split, done, len(sentences))
        (folder / f"{self.split}.jsonl").write_text("".join(lines), encoding="utf-8")

    def make(self, sentence: Sentence) -> tuple[dict[str, Any], Samples]:
        """Return the manifest row and the samples of an item; ratios go in turn, so each speaker gets all."""
        entry = sentence.entry
        key = (NOISE_SEED, SPLITS.index(self.split), sentence.number)
        samples, fields = self.noise.mixed(self._read(entry), self.sample_rate, key, sentence.number)
        row = {
            **entry.extra,
            "audio_filepath": f"audio/{self.split}/{sentence.number:06d}.flac",
            "duration": len(samples) / self.sample_rate,
            "text": sentence.text,
            "speaker": entry.speaker,
            "id": entry.id,
        }
        if sentence.text != sentence.words:
            row["words"] = sentence.words
        return row | fields, samples

    def _read(self, entry: ManifestEntry) -> Samples:
        samples, rate = read_audio(entry.input)
        if rate < self.sample_rate:
            raise AudioError(f"{entry.input}: has {rate} Hz, less than the {self.sample_rate} Hz asked; ask for {rate}")
        return resample(samples, rate, self.sample_rate)
