"""Connected digits: strings of 3 to 7 digits joined from the recordings of the Free Spoken Digit Dataset.

The corpus's official split decides: takes 0-4 of every digit and speaker are the test set, the others are for
training. Takes 5-9 are held out of training as the dev set. The same speakers stand on every side (except
with ``test_speaker``), but no recording does. There is no coarticulation between the digits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.data.noise import limit_peak
from kdcompress.data.noisy_sets import read_set_noise
from kdcompress.data.prepared import PreparedFolder, write_flac
from kdcompress.files import file_sha256
from kdcompress_runtime.audio import read_audio
from kdcompress_runtime.errors import AudioError, ManifestError, OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from kdcompress.data.noise import Samples
    from kdcompress.data.noisy_sets import NoiseConfig, SetNoise

    Progress = Callable[[str, int, int], None]

SPLITS = ("train", "dev", "test")
DEFAULT_STRINGS: Mapping[str, int] = {"train": 2400, "dev": 240, "test": 300}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE = 8000
SHORTEST, LONGEST = 3, 7
"""Digits a string."""
DEV_TAKES = range(5, 10)
SPEECH_DBFS, FLOOR_DBFS = -25.0, -60.0
GAP_SECONDS, EDGE_SECONDS = (0.05, 0.2), (0.1, 0.3)
FADE_SAMPLES = 40
"""5 ms at each edge of a recording: no click, and no onset lost (the recordings are trimmed tightly)."""
PREPARATION_VERSION = 1
"""Raised whenever the same settings would give other audio."""


@dataclass(frozen=True)
class Recording:
    """One line of the corpus's index."""

    file: str
    start: int
    length: int
    digit: int
    speaker: str
    take: int
    official_split: str

    @property
    def name(self) -> str:
        """The corpus's own name, ``{digit}_{speaker}_{take}``."""
        return f"{self.digit}_{self.speaker}_{self.take}"


def prepare_digits(
    source: str | Path,
    output: str | Path,
    *,
    seed: int = 1,
    strings: Mapping[str, int] | None = None,
    noise: NoiseConfig | None = None,
    test_speaker: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Path]:
    """Join digit strings and write them to ``output``: audio, one manifest a split, ``settings.json``.

    String ``i`` of a split depends on the seed, the split and ``i`` alone, so a larger set begins with the
    smaller one, and a noisy set holds the strings of the clean one. ``output`` is complete or absent: it is
    built beside its place and moved there. A folder made with the same settings is used as it is.

    Args:
        source: the packed corpus (``index.jsonl`` and its FLAC files), ``data/fsdd`` of the repository.
        output: folder to make.
        seed: draws strings, recordings, gaps and noise.
        strings: number of strings by split; 2400 train, 240 dev, 300 test when left out.
        noise: noise for dev and test; all clean when left out.
        test_speaker: leave this speaker out of train and dev, and test on him alone, with all his takes.
        on_progress: called with split, strings done, strings in all.

    Returns:
        Path of the manifest by split. Besides the usual fields a line has ``recordings`` (names, in order)
        and, where noise was added, ``snr_db`` and ``noise_type``.

    Raises:
        OptionsError: a count, split, seed or speaker makes no sense, or ``output`` holds something else.
        ManifestError: the index or the noise manifest cannot be used.
        AudioError: a recording cannot be read.
        MissingDependencyError: soundfile, or for noise soxr, is not installed.
    """
    source = Path(source)
    counts = _checked_strings(DEFAULT_STRINGS if strings is None else strings)
    if seed < 0:
        raise OptionsError(f"seed must be 0 or more, found {seed}")
    index = read_index(source)
    pools = {split: _pool(index, split, test_speaker) for split in counts}
    settings = _settings(source, seed, counts, noise, test_speaker)
    folder = PreparedFolder(Path(output), settings)
    manifests = {split: folder.path / f"{split}.jsonl" for split in counts}
    if folder.is_ready():
        return manifests
    audio = read_recordings(source, index)
    with folder.writing() as building:
        for split, count in counts.items():
            maker = _SplitMaker(split, seed, pools[split], audio, read_set_noise(noise, split, SAMPLE_RATE))
            maker.write(building, count, on_progress)
    return manifests


def read_index(source: Path) -> list[Recording]:
    """Read ``index.jsonl`` of the packed corpus.

    Raises:
        ManifestError: it is missing or has a line that cannot be read.
    """
    path = source / "index.jsonl"
    if not path.is_file():
        raise ManifestError(f"no digit recordings at {source}; give the repository's folder data/fsdd")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _parse(line: str, where: str) -> Recording:
    try:
        return Recording(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise ManifestError(f"{where}: cannot be read ({error}); get the file from the repository again") from error


def read_recordings(source: Path, index: Sequence[Recording]) -> dict[str, Samples]:
    """Read the corpus: samples (float32, shape ``(n,)``, 8 kHz) by the name of the recording.

    Raises:
        AudioError: a FLAC file cannot be read, or is shorter than the index says.
    """
    files = {file: read_audio(source / file, SAMPLE_RATE)[0] for file in {row.file for row in index}}
    audio = {row.name: files[row.file][row.start : row.start + row.length] for row in index}
    for row in index:
        if not row.length or len(audio[row.name]) != row.length:
            raise AudioError(f"{source / row.file}: no whole recording {row.name}; get the file again")
    return audio


def join_string(recordings: Sequence[Recording], audio: Mapping[str, Samples], rng: np.random.Generator) -> Samples:
    """Join recordings over a bed of faint noise, with gaps of 50-200 ms, lead-in and tail of 0.1-0.3 s.

    Every recording is brought to -25 dBFS RMS; the bed, at -60 dBFS, leaves no digital zero anywhere.

    Returns:
        Shape ``(n,)``, float32, 8 kHz, scaled down as a whole where it would clip.
    """
    edges = [round(SAMPLE_RATE * rng.uniform(*EDGE_SECONDS)) for _ in range(2)]
    gaps = [round(SAMPLE_RATE * rng.uniform(*GAP_SECONDS)) for _ in recordings[1:]]
    starts, position = [], edges[0]
    for recording, gap in zip(recordings, [*gaps, edges[1]], strict=True):
        starts.append(position)
        position += recording.length + gap
    # Uniform noise has an RMS of its limit over the square root of 3.
    limit = 3.0**0.5 * 10.0 ** (FLOOR_DBFS / 20.0)
    joined = rng.uniform(-limit, limit, size=position)
    for recording, start in zip(recordings, starts, strict=True):
        joined[start : start + recording.length] += _levelled(audio[recording.name])
    return limit_peak(joined.astype(np.float32))


def _levelled(recording: Samples) -> NDArray[np.float64]:
    """A recording at -25 dBFS RMS with short fades; silence stays silence."""
    samples = recording.astype(np.float64)
    rms = float(np.sqrt(np.square(samples).mean()))
    if rms > 0.0:
        samples *= 10.0 ** (SPEECH_DBFS / 20.0) / rms
    fade = min(FADE_SAMPLES, len(samples) // 2)
    ramp = (np.arange(fade) + 0.5) / max(fade, 1)
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    return samples


@dataclass(frozen=True)
class _SplitMaker:
    """Makes the strings of one split."""

    split: str
    seed: int
    pool: Mapping[str, Mapping[int, Sequence[Recording]]]
    """Recordings by speaker and digit."""
    audio: Mapping[str, Samples]
    noise: SetNoise

    def write(self, folder: Path, count: int, on_progress: Progress | None) -> None:
        """Write the audio and the manifest of ``count`` strings below ``folder``."""
        (folder / "audio" / self.split).mkdir(parents=True)
        lines = []
        for number in range(count):
            row, samples = self.make(number)
            write_flac(folder / row["audio_filepath"], samples, SAMPLE_RATE)
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
            if on_progress:
                on_progress(self.split, number + 1, count)
        (folder / f"{self.split}.jsonl").write_text("".join(lines), encoding="utf-8")

    def make(self, number: int) -> tuple[dict[str, Any], Samples]:
        """Return the manifest row and the samples of string ``number``; speakers take turns."""
        # The split's own number, not its place in ``strings``, keeps the strings the same.
        key = (self.seed, SPLITS.index(self.split), number)
        rng = np.random.default_rng(key)
        speaker = sorted(self.pool)[number % len(self.pool)]
        digits = rng.integers(0, len(WORDS), size=int(rng.integers(SHORTEST, LONGEST + 1)))
        takes = [self.pool[speaker][int(digit)] for digit in digits]
        recordings = [choices[int(rng.integers(len(choices)))] for choices in takes]
        samples = join_string(recordings, self.audio, rng)
        name = f"{self.split}-{number:05d}-{speaker}"
        row = {
            "audio_filepath": f"audio/{self.split}/{name}.flac",
            "duration": len(samples) / SAMPLE_RATE,
            "text": " ".join(WORDS[recording.digit] for recording in recordings),
            "speaker": speaker,
            "id": name,
            "recordings": [recording.name for recording in recordings],
        }
        # All speakers get one ratio before the next turn, so that speaker and ratio do not go together.
        samples, fields = self.noise.mixed(samples, SAMPLE_RATE, key, number // len(self.pool))
        return row | fields, samples


def _checked_strings(strings: Mapping[str, int]) -> dict[str, int]:
    """The counts in the order of ``SPLITS``, or an OptionsError."""
    unknown = sorted(set(strings) - set(SPLITS))
    if unknown or not strings:
        raise OptionsError(f"strings: unknown or no split {unknown}; the splits are {', '.join(SPLITS)}")
    for split, count in strings.items():
        if count < 1:
            raise OptionsError(f"strings: {split} needs at least 1 string, found {count}; leave the split out")
    return {split: strings[split] for split in SPLITS if split in strings}


def _pool(index: Sequence[Recording], split: str, test_speaker: str | None) -> dict[str, dict[int, list[Recording]]]:
    """The recordings a split may use, by speaker and digit, in the order of takes."""
    speakers = sorted({row.speaker for row in index})
    if test_speaker is not None and test_speaker not in speakers:
        raise OptionsError(f"test_speaker {test_speaker!r} is unknown; the speakers are {', '.join(speakers)}")
    pool: dict[str, dict[int, list[Recording]]] = {}
    for row in sorted(index, key=lambda row: (row.speaker, row.digit, row.take)):
        if _belongs(row, split, test_speaker):
            pool.setdefault(row.speaker, {}).setdefault(row.digit, []).append(row)
    if not pool or any(len(digits) < len(WORDS) for digits in pool.values()):
        raise ManifestError(f"the index lacks recordings of some digits for {split}; get data/fsdd again")
    return pool


def _belongs(row: Recording, split: str, test_speaker: str | None) -> bool:
    """Whether a split may use a recording; every recording belongs to one split at most."""
    if test_speaker is not None and (row.speaker == test_speaker) != (split == "test"):
        return False
    if test_speaker is not None and split == "test":
        return True
    if split == "test" or row.official_split == "test":
        return split == row.official_split
    return (row.take in DEV_TAKES) == (split == "dev")


def _settings(
    source: Path, seed: int, strings: Mapping[str, int], noise: NoiseConfig | None, test_speaker: str | None
) -> dict[str, Any]:
    """Everything that decides the content of the folder, as JSON values; no paths, so it may be moved."""
    files = sorted([source / "index.jsonl", *source.glob("*.flac")])
    return {
        "kind": "connected digits",
        "version": PREPARATION_VERSION,
        "licence": "CC BY-SA 4.0",
        "attribution": "made from the Free Spoken Digit Dataset, Zohar Jackson and contributors",
        "source_sha256": {file.name: file_sha256(file) for file in files},
        "seed": seed,
        "strings": dict(strings),
        "noise": noise.recorded() if noise else None,
        "test_speaker": test_speaker,
    }
