"""Tiny corpora of every kind, laid out as their publishers do it."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    from pathlib import Path

RATE = 8000


def sound(path: Path, seconds: float = 0.5, rate: int = RATE, channels: int = 1, **options) -> Path:
    """Write a noise of its own at ``path``; the suffix chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.name))
    samples = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    kind = {".sph": "NIST", ".opus": "OGG"}.get(path.suffix.lower(), path.suffix[1:].upper())
    if path.suffix == ".opus":
        options["subtype"] = "OPUS"
    soundfile.write(path, samples, rate, format=kind, **options)
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def manifest(path: Path, *rows: dict) -> Path:
    return write(path, *(json.dumps(row) for row in rows))


def librispeech(root: Path) -> Path:
    write(
        root / "SPEAKERS.TXT", "; a remark", "14 | F | train-clean-100 | 25.0 | One", "7  | M | dev-clean | 8.0 | Two"
    )
    for subset, speaker in (("train-clean-100", "14"), ("dev-clean", "7")):
        chapter = root / subset / speaker / "208"
        names = [f"{speaker}-208-000{number}" for number in range(2)]
        for name in names:
            sound(chapter / f"{name}.flac")
        write(chapter / f"{speaker}-208.trans.txt", *(f"{name} A CAT SAT ON {name[-1] * 2}" for name in names))
    write(root / "LICENSE.TXT", "yours")
    return root


def an4(root: Path, suffix: str = ".sph") -> Path:
    for split, folder, speaker in (("train", "an4_clstk", "fash"), ("test", "an4test_clstk", "mblw")):
        names = [f"an25{number}-{speaker}-b" for number in range(2)]
        write(root / "etc" / f"an4_{split}.fileids", *(f"{folder}/{speaker}/{name}" for name in names))
        marks = ("<s> ", " </s>") if split == "train" else ("", "")
        lines = (f"{marks[0]}GO FORTY{marks[1]} ({name})" for name in names)
        write(root / "etc" / f"an4_{split}.transcription", *lines)
        for name in names:
            sound(root / "wav" / folder / speaker / f"{name}{suffix}", rate=16000)
    return root


def speechocean762(root: Path) -> Path:
    for split, speaker in (("train", "0001"), ("test", "0003")):
        names = [f"{speaker}0001{number}" for number in range(2)]
        folder = root / split
        write(folder / "wav.scp", *(f"{name}\tWAVE/SPEAKER{speaker}/{name}.WAV" for name in names))
        write(folder / "text", *(f"{name}\tWE CALL IT BEAR" for name in names))
        write(folder / "utt2spk", *(f"{name}\t{speaker}" for name in names))
        write(folder / "spk2utt", f"{speaker} {' '.join(names)}")
        write(folder / "spk2age", f"{speaker}\t6")
        write(folder / "spk2gender", f"{speaker}\tm")
        for name in names:
            sound(root / "WAVE" / f"SPEAKER{speaker}" / f"{name}.WAV")
    write(root / "scores.json", json.dumps({"000100010": {"accuracy": 8, "total": 7, "words": []}}))
    return root


def common_voice(root: Path) -> Path:
    head = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment"
    tables: dict[str, list[str]] = {"train": [], "dev": [], "test": [], "validated": []}
    for split in ("train", "dev", "test"):
        for number in range(2):
            name = f"common_voice_en_{split}{number}.mp3"
            sound(root / "clips" / name, rate=16000)
            row = f'client-{split}\t{name}\t"Hello," she said.\t2\t0\ttwenties\t\tScottish\t\ten\t'
            tables[split].append(row)
            tables["validated"].append(row)
    sound(root / "clips" / "extra.mp3", rate=16000)
    tables["validated"].append("client-train\textra.mp3\tMore\t2\t0\t\t\t\t\ten\t")
    for split, rows in tables.items():
        write(root / f"{split}.tsv", head, *rows)
    return root


def kaldi(root: Path, speakers: int = 3) -> Path:
    names = [f"s{speaker}-u{number}" for speaker in range(speakers) for number in range(2)]
    write(root / "wav.scp", *(f"{name} {sound(root / 'audio' / f'{name}.wav')}" for name in names))
    write(root / "text", *(f"{name} one two {name[-1]}" for name in names))
    write(root / "utt2spk", *(f"{name} {name.split('-')[0]}" for name in names))
    return root


def kaldi_segments(root: Path) -> Path:
    """One recording of 3 s, cut into two utterances."""
    sound(root / "long.flac", 3.0)
    write(root / "wav.scp", f"rec {root / 'long.flac'}")
    write(root / "segments", "rec-a rec 0.25 1.00", "rec-b rec 1.00 -1")
    write(root / "text", "rec-a first", "rec-b second")
    write(root / "utt2spk", "rec-a anna", "rec-b bert")
    return root


def nemo(root: Path) -> Path:
    sound(root / "long.wav", 2.0)
    sound(root / "short.wav")
    rows = [
        {"audio_filepath": "long.wav", "duration": 0.75, "offset": 0.5, "text": "a piece", "speaker": "x"},
        {"audio_filepath": "long.wav", "duration": 0.5, "text": "the start", "speaker": "x", "id": "start"},
        {"audio_filepath": "short.wav", "duration": 0.5, "text": "all", "speaker": "x", "lang": "en"},
    ]
    manifest(root / "train_manifest.json", *rows)
    manifest(root / "dev.jsonl", {"audio_filepath": str(sound(root / "d.wav")), "text": "dev", "speaker": "y"})
    return root


def cut(name: str, source: Path, start: float = 0.0, duration: float = 0.5, **fields) -> dict:
    """A MonoCut as lhotse writes it."""
    info = soundfile.info(source)
    channels = list(range(info.channels))
    recording = {
        "id": source.stem,
        "sources": [{"type": "file", "channels": channels, "source": str(source)}],
        "sampling_rate": info.samplerate,
        "num_samples": info.frames,
        "duration": info.duration,
        "channel_ids": channels,
    }
    supervision = {
        "id": name,
        "recording_id": source.stem,
        "start": 0.0,
        "duration": duration,
        "channel": 0,
        "text": f"text of {name}",
        "speaker": "z",
        "gender": "F",
    }
    base = {"id": name, "start": start, "duration": duration, "channel": 0, "supervisions": [supervision]}
    return {**base, "recording": recording, "type": "MonoCut", **fields}


def lhotse(root: Path) -> Path:
    long, stereo = sound(root / "long.flac", 2.0), sound(root / "stereo.wav", 0.5, channels=2)
    cuts = [cut("piece", long, 0.5, 0.75), cut("all", long, 0.0, 2.0), cut("right", stereo, channel=1)]
    with gzip.open(root / "cuts_train.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(one) + "\n" for one in cuts)
    return root


def folder(root: Path) -> Path:
    for speaker in ("anna", "bert"):
        for number, suffix in enumerate((".wav", ".mp3", ".opus")):
            path = sound(root / speaker / f"{number}{suffix}", rate=16000)
            path.with_suffix(".txt").write_text(f"Text {number}\n", encoding="utf-8")
    return root
