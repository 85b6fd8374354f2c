"""What training, calibration and tuning sets share with a test set: found by content, without reading everything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdcompress_evaluation import overlap
from kdcompress_evaluation.overlap import (
    CLEAN,
    LEAK,
    UNKNOWN,
    WEAK,
    find_overlaps,
    severity,
    undeclared,
    write_overlaps,
)
from kdcompress_evaluation.records import load
from kdcompress_evaluation.summary import ManifestInfo, Overlap
from kdcompress_runtime.manifest import manifest_fingerprint

Item = tuple[bytes | None, str, str | None]
"""Content of the file (None: there is no file), text, speaker."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, items: list[Item], **fields: Any) -> str:
    """A manifest of files with that content, its path relative as a recipe has it."""
    folder = Path("data") / name
    folder.mkdir(parents=True)
    lines = []
    for number, (content, text, speaker) in enumerate(items):
        if content is not None:
            (folder / f"{number}.wav").write_bytes(content)
        line = {"audio_filepath": f"{number}.wav", "text": text, "id": f"{name}-{number}", "speaker": speaker}
        lines.append(json.dumps({**line, **fields}))
    path = folder / "m.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def info(name: str, path: str) -> ManifestInfo:
    lines = len(Path(path).read_text(encoding="utf-8").splitlines())
    return ManifestInfo(name, path, manifest_fingerprint(path), lines)


def bundle(name: str = "small", path: str = "runs/small", **data: Any) -> Any:
    """A variant as far as overlaps need it; each role names a manifest that lies here, or holds anything else."""
    rows = {
        role: {"manifest": value, "fingerprint": manifest_fingerprint(value)} if isinstance(value, str) else value
        for role, value in data.items()
    }
    return SimpleNamespace(bundle_name=name, bundle_path=path, provenance={"data": rows})


def one(variant: Any, manifest: ManifestInfo) -> Overlap:
    (found,) = find_overlaps([variant], [manifest])
    return found


TEST: list[Item] = [(b"RIFF" + bytes([n]) * 8000, f"Sentence, number {n}!", f"test-{n % 2}") for n in range(4)]
STRANGERS: list[Item] = [(b"RIFF" + bytes([n]) * (7000 + n), f"other words {n}", "stranger") for n in range(50, 60)]


def test_a_disjoint_set_is_shown_to_be_one() -> None:
    train, test = write("train", STRANGERS), write("test", TEST)
    found = one(bundle(train=train), info("test", test))
    assert (found.bundle, found.role, found.manifest, found.evidence) == ("small", "train", "test", "content")
    assert (found.inputs, found.speakers, found.texts) == (0, 0, 0)
    assert found.detail == f"10 items of {train}, one by one"
    assert severity(found) == CLEAN


def test_a_recording_under_another_name_is_a_leak() -> None:
    copies = [(TEST[2][0], "x", "a"), (TEST[2][0], "y", "b"), (TEST[0][0], "z", "c")]
    train, test = write("train", [*STRANGERS, *copies]), write("test", TEST)
    found = one(bundle(train=train), info("test", test))
    assert (found.inputs, found.speakers, found.texts) == (2, 0, 0)
    assert severity(found) == LEAK


def test_files_of_one_size_are_told_apart_wherever_they_differ() -> None:
    """Same size; the same in the middle, which is looked at first; different only at the end."""
    content = TEST[0][0] or b""
    almost = content[:-1] + b"?"
    other = b"?" * len(content)
    train, test = write("train", [(almost, "x", None), (other, "y", None)]), write("test", TEST)
    assert one(bundle(train=train), info("test", test)).inputs == 0


def test_only_files_of_a_test_files_size_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = write("train", [*STRANGERS, (b"?" * 8004, "x", None), TEST[1]]), write("test", TEST)
    read: list[str] = []
    for name in ("_glimpse", "_digest"):
        original = getattr(overlap, name)

        def spy(path: str, *rest: int, original: Any = original, name: str = name) -> bytes:
            read.append(f"{name} {path}")
            return original(path, *rest)

        monkeypatch.setattr(overlap, name, spy)
    found = one(bundle(train=train), info("test", test))
    assert found.inputs == 1
    ours = [line for line in read if "train" in line]
    assert [line.split("/")[-1] for line in ours] == ["10.wav", "11.wav", "11.wav"]
    assert [line.split()[0] for line in ours] == ["_glimpse", "_glimpse", "_digest"]


def test_shared_texts_and_speakers_are_the_weaker_leak() -> None:
    items: list[Item] = [
        (b"1", "sentence number 1", "new"),
        (b"2", "SENTENCE NUMBER 1.", "test-1"),
        (b"3", "", "x"),
    ]
    train, test = write("train", items), write("test", [*TEST, (b"4444", "", "y")])
    found = one(bundle(train=train), info("test", test))
    assert (found.inputs, found.speakers, found.texts) == (0, 1, 1)
    assert severity(found) == WEAK
    nobody = write("nobody", [(b"1", "new", None)])
    assert one(bundle(train=nobody), info("test", test)).speakers is None


def test_the_same_set_is_known_by_its_fingerprint_alone() -> None:
    test = write("test", TEST)
    named = {"manifest": "elsewhere/test.jsonl", "fingerprint": manifest_fingerprint(test)}
    found = one(bundle(tuning=named), info("test", test))
    assert (found.evidence, found.inputs, found.speakers, found.texts) == ("fingerprint", 4, 2, 4)
    assert "elsewhere/test.jsonl" in found.detail
    assert severity(found) == LEAK


def test_what_cannot_be_compared_says_so_and_what_to_do() -> None:
    train, test = write("train", STRANGERS), info("test", write("test", TEST))
    gone = one(bundle(train={"manifest": "gone/train.jsonl", "fingerprint": "ab" * 32}), test)
    changed = one(bundle(train={"manifest": train, "fingerprint": "ab" * 32}), test)
    nameless = one(bundle(train={"fingerprint": "ab" * 32}), test)
    broken = Path("data/broken.jsonl")
    broken.write_text("{]")
    unreadable = one(bundle(train={"manifest": str(broken), "fingerprint": "ab" * 32}), test)
    for found in (gone, changed, nameless, unreadable):
        assert (found.evidence, found.inputs, found.speakers, found.texts) == ("none", None, None, None)
        assert severity(found) == UNKNOWN
    assert "gone/train.jsonl is not here; evaluate where it lies" in gone.detail
    assert "has changed since" in changed.detail
    assert "line 1" in unreadable.detail


def test_a_test_set_that_is_gone_is_not_called_clean() -> None:
    train, test = write("train", STRANGERS), info("test", write("test", TEST))
    shutil.rmtree("data/test")
    found = one(bundle(train=train), test)
    assert (found.evidence, severity(found)) == ("none", UNKNOWN)
    assert "test cannot be read here" in found.detail


def test_missing_recordings_on_either_side_prove_nothing() -> None:
    lost: list[Item] = [*STRANGERS[:3], (None, "lost", "x"), (None, "lost too", "x")]
    train, test = write("train", lost), write("test", TEST)
    found = one(bundle(train=train), info("test", test))
    assert found.inputs is None
    assert found.texts == 0
    assert found.detail.endswith("; 2 of their files missing here")
    assert severity(found) == UNKNOWN
    Path("data/test/0.wav").unlink()
    whole = write("whole", STRANGERS)
    found = one(bundle(train=whole), info("test", test))
    assert found.inputs is None
    assert found.detail.endswith("; 1 file of the test set missing here")
    leaked = write("leaked", [TEST[3], (None, "lost", None)])
    assert one(bundle(train=leaked), info("test", test)).inputs == 1


def test_empty_files_are_not_the_same_recording() -> None:
    train, test = write("train", [(b"", "a", None)]), write("test", [(b"", "b", None), *TEST])
    assert one(bundle(train=train), info("test", test)).inputs == 0


def test_source_sentences_are_compared_as_texts() -> None:
    def translate(name: str, pairs: list[tuple[str, str]]) -> str:
        path = Path(f"{name}.jsonl")
        path.write_text("\n".join(json.dumps({"source": s, "target": t}) for s, t in pairs), encoding="utf-8")
        return str(path)

    train = translate("train", [("Han kom.", "He came."), ("Hon gick", "She left")])
    test = translate("test", [("han kom", "he arrived"), ("Vi sover.", "She left.")])
    found = one(bundle(train=train), info("test", test))
    assert (found.inputs, found.speakers, found.texts) == (1, None, 1)


def test_every_set_of_every_bundle_against_every_manifest_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    train, dev = write("train", STRANGERS), write("dev", [TEST[0]])
    first, second = info("first", write("first", TEST)), info("second", write("second", STRANGERS[:1]))
    opened: list[str] = []
    original = overlap.read_manifest

    def spy(path: Any) -> Any:
        opened.append(str(path))
        return original(path)

    monkeypatch.setattr(overlap, "read_manifest", spy)
    sets = {"train": train, "calibration": train, "dev": dev, "tuning": first.path}
    found = find_overlaps([bundle(**sets), bundle(**sets), bundle("small", "runs/other", train=train)], [first, second])
    assert opened.count(train) == 1
    told = [(o.bundle, o.role, o.manifest, o.inputs) for o in found]
    assert told[:8] == [
        ("small (runs/small)", "train", "first", 0),
        ("small (runs/small)", "train", "second", 1),
        ("small (runs/small)", "calibration", "first", 0),
        ("small (runs/small)", "calibration", "second", 1),
        ("small (runs/small)", "dev", "first", 1),
        ("small (runs/small)", "dev", "second", 0),
        ("small (runs/small)", "tuning", "first", 4),
        ("small (runs/small)", "tuning", "second", 0),
    ]
    assert told[8:] == [
        ("small (runs/other)", "train", "first", 0),
        ("small (runs/other)", "train", "second", 1),
    ]


def test_sets_of_the_training_run_count_too_and_odd_provenance_is_left_alone() -> None:
    train, test = write("train", [TEST[0]]), info("test", write("test", TEST))
    fingerprint = manifest_fingerprint(train)
    row = {"manifest": train, "fingerprint": fingerprint}
    variant = bundle()
    variant.provenance = {"data": "odd", "run": {"data": {"train": [row, "odd"], "dev": None}}}
    assert one(variant, test).inputs == 1
    variant.provenance = {"data": {"train": row, "odd": 3}, "run": {"data": {"train": row}}}
    assert one(variant, test).inputs == 1
    for nothing in ({}, {"data": []}, {"data": {"train": {"manifest": 3}}, "run": "odd"}):
        variant.provenance = nothing
        assert find_overlaps([variant], [test]) == ()


def test_findings_are_kept_beside_the_rows() -> None:
    train, test = write("train", [TEST[0], *STRANGERS]), info("test", write("test", TEST))
    run: Any = SimpleNamespace(variants=(bundle(train=train),), manifests=(test,))
    write_overlaps(Path("report"), run)
    kept = load(tuple[Overlap, ...], Path("report/rows/overlaps.json"))  # type: ignore[arg-type]
    assert kept == find_overlaps(run.variants, run.manifests)
    assert kept[0].inputs == 1


def test_who_does_not_name_a_training_set_is_named() -> None:
    train = write("train", STRANGERS)
    said = bundle("said", "a", train=train)
    half = bundle("half", "b", dev=train)
    silent = SimpleNamespace(bundle_name="zipformer", bundle_path="c", provenance={})
    assert undeclared([said, half, silent]) == ("half", "zipformer")
