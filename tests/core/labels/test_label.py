"""``label``: what a store holds, how it goes on, and what it refuses."""

from __future__ import annotations

import errno
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kdcompress.errors import LabelStoreError, RecipeError, VocabularyError
from kdcompress.labels import estimate as estimates
from kdcompress.labels import folder as folders
from kdcompress.labels.entries import survey
from kdcompress.labels.estimate import estimate
from kdcompress.labels.job import open_job
from kdcompress.labels.label import label
from kdcompress.teachers.stored import StoredTeacher
from kdcompress_runtime.errors import AudioError, ManifestError
from kdcompress_runtime.manifest import manifest_fingerprint


def rows_of(manifest: Path) -> list[dict]:
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [{**row, "audio_filepath": str(manifest.parent / row["audio_filepath"])} for row in rows]


def write_rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"data.train={path}"


@pytest.mark.parametrize(
    ("kind", "settings", "bytes_a_frame"),
    [
        ("full", {}, 10),
        ("top_k", {"top_k": 3}, 12),
        ("occupancy", {}, 8),
        ("codebook", {"codebooks": 2, "entries": 8, "teacher_layer": 0}, 2),
        ("nbest", {"size": 2, "beam_width": 3}, None),
    ],
)
def test_every_kind_can_be_stored_and_says_what_it_is(  # noqa: PLR0917
    kind, settings, bytes_a_frame, labelling, corpus, tmp_path
):
    told = []
    index = label(labelling(kind, **settings), tmp_path / "s", shard_items=5, on_estimate=told.append)
    assert index["kind"] == "kdcompress-labels"
    assert index["labels"]["kind"] == kind
    assert index["manifest"] == {"fingerprint": manifest_fingerprint(corpus["train"]), "items": 12}
    assert index["teacher"]["name"] == "loud"
    assert index["teacher"]["frame"] == "1/25"
    assert index["heard"]["augmentation"].startswith("none")
    assert [shard["items"] for shard in index["shards"]] == [5, 5, 2]
    assert sum(shard["frames"] for shard in index["shards"]) == index["frames"]
    there = {path.name for path in (tmp_path / "s").iterdir()}
    shards = {f"labels-00000{number}.safetensors" for number in range(3)}
    assert there == {"index.json", "items.npy", *shards, *(["codebooks.safetensors"] if kind == "codebook" else [])}
    (found,) = told
    if bytes_a_frame is not None:
        assert found.bytes_per_frame == bytes_a_frame
    real = sum(path.stat().st_size for path in (tmp_path / "s").iterdir())
    assert 0.4 * real < found.bytes < 2.5 * real
    assert abs(found.frames - index["frames"]) < 0.2 * index["frames"]
    store = StoredTeacher(tmp_path / "s")
    assert store.info.kind == "labels of python"
    assert store.info.codebooks == ((2, 8) if kind == "codebook" else None)
    assert not store.answers_anything


def test_a_complete_store_is_returned_as_it_is(labelling, store, content_of):
    before = content_of(store)
    index = label(labelling(top_k=2), store, shard_items=3)
    assert content_of(store) == before
    assert index == json.loads(before["index.json"])


def test_how_it_came_about_does_not_show(labelling, kept, tmp_path, content_of, monkeypatch):
    calls = []

    def interrupted(done: int, total: int) -> None:
        calls.append(done)
        if done == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        label(labelling(top_k=2), tmp_path / "s", shard_items=3, on_progress=interrupted)
    assert calls[-1] == 6
    assert not (tmp_path / "s" / "index.json").exists()
    finished = {name: content for name, content in content_of(tmp_path / "s").items() if "work" not in name}
    assert sorted(finished) == ["labels-000000.safetensors", "labels-000001.safetensors"]
    # the next one starts elsewhere, as a second process of torchrun would
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    label(labelling(top_k=2), tmp_path / "s", shard_items=3)
    assert content_of(tmp_path / "s") == content_of(kept)


def test_progress_counts_what_is_finished(labelling, tmp_path):
    seen = []
    label(labelling(), tmp_path / "s", shard_items=5, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert sorted(seen) == seen


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"top_k": 3}, "labels.top_k is 2 there, 3 here"),
        ({"kind": "full"}, "labels.kind is top_k there, full here"),
        ({"shard_items": 4}, "shard_items is 3 there, 4 here"),
        ({"override": "data.max_duration=9"}, "heard.max_duration is 30.0 there, 9.0 here"),
        ({"dev": True}, "manifest.fingerprint"),
        ({"teacher": True}, "teacher.fingerprint"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_labels_are_not_mixed_in(  # noqa: PLR0917
    finished, change, named, labelling, store, corpus, loud, tmp_path
):
    if not finished:
        (store / "work").mkdir()
        plan = json.loads((store / "index.json").read_text(encoding="utf-8"))
        (store / "work" / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        (store / "index.json").unlink()
        (store / "labels-000001.safetensors").unlink()
    kind = change.get("kind", "top_k")
    overrides = [change["override"]] if "override" in change else []
    overrides += [f"data.train={corpus['dev']}"] if "dev" in change else []
    extra = {}
    if "teacher" in change:
        extra["teacher"] = tmp_path / "other.py"
        extra["teacher"].write_text(loud.read_text().replace('SEED = 320, "abc▁", 1', 'SEED = 320, "abc▁", 2'))
    settings = {} if kind == "full" else {"top_k": change.get("top_k", 2)}
    with pytest.raises(LabelStoreError, match="holds other labels") as error:
        label(labelling(kind, *overrides, **extra, **settings), store, shard_items=change.get("shard_items", 3))
    assert named in str(error.value)
    assert "choose another folder" in str(error.value)


def test_shards_of_another_store_are_never_removed(labelling, store):
    (store / "index.json").unlink()
    (store / "items.npy").unlink()
    with pytest.raises(LabelStoreError, match="belongs to a store of other labels"):
        label(labelling(top_k=3), store, shard_items=3)
    assert len(list(store.glob("labels-*"))) == 4


def test_a_folder_of_something_else(labelling, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LabelStoreError, match="not empty and holds no labels"):
        label(labelling(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_items_that_cannot_be_used(labelling, corpus, tmp_path):
    rows = rows_of(corpus["train"])
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "long.wav", np.zeros(8000 * 4, np.float32), 8000)
    rows[2] |= {"audio_filepath": str(tmp_path / "broken.wav")}
    rows[4] |= {"audio_filepath": str(tmp_path / "long.wav"), "duration": 4.0}
    rows[7] |= {"audio_filepath": str(tmp_path / "long.wav")}
    rows[7].pop("duration")
    manifest = write_rows(tmp_path / "some.jsonl", rows)
    asked = [manifest, "data.max_duration=3"]
    with pytest.raises(AudioError, match=r"4\.0 s is longer than data\.max_duration 3\.0 s.*on_unusable"):
        label(labelling("top_k", *asked), tmp_path / "s", shard_items=6)
    with pytest.raises(AudioError, match=r"broken\.wav"):
        label(labelling("top_k", manifest), tmp_path / "t", shard_items=6)
    skipping = labelling("top_k", *asked, "data.on_unusable=skip")
    index = label(skipping, tmp_path / "s", shard_items=6)
    assert index["left_out"] == 3
    assert [shard["left_out"] for shard in index["shards"]] == [2, 1]
    store = StoredTeacher(tmp_path / "s")
    unlabelled = np.flatnonzero(store.store.rows["length"] < 0).tolist()
    assert unlabelled == [2, 4, 7]
    assert store.store.item(3)[1]["ids"].any()
    for place in unlabelled:
        with pytest.raises(LabelStoreError, match=f"entry {place + 1} of the manifest has no labels"):
            store.store.item(place)
    store.check(skipping)
    with pytest.raises(LabelStoreError, match=r"3 items have no labels.*set data\.max_duration to 3"):
        store.check(labelling("top_k", manifest, "data.on_unusable=skip"))


def test_who_can_label_what(labelling, make_recipe, corpus, tmp_path):
    with pytest.raises(RecipeError, match="nobody to label"):
        label(make_recipe("student"), tmp_path / "s")
    with pytest.raises(RecipeError, match=r"label\.teacher_layer 3: there is no such block.* shows 1"):
        label(labelling("codebook", teacher_layer=3), tmp_path / "s")
    rows = rows_of(corpus["train"])
    rows[5]["text"] = "xyz"
    manifest = write_rows(tmp_path / "some.jsonl", rows)
    with pytest.raises(VocabularyError, match=r"item train5\.wav: 'x'"):
        label(labelling("occupancy", manifest), tmp_path / "s")
    # who does not look at the text does not need to spell it, and what came to nothing is in nobody's way
    assert label(labelling("top_k", manifest), tmp_path / "s")["left_out"] == 0


def test_a_store_can_be_labelled_from_another(labelling, tmp_path):
    label(labelling("full"), tmp_path / "full", shard_items=5)
    label(labelling(top_k=2, teacher=tmp_path / "full"), tmp_path / "less", shard_items=5)
    label(labelling(top_k=2), tmp_path / "direct", shard_items=5)
    for place in range(12):
        (_, less), (_, direct) = (StoredTeacher(tmp_path / name).store.item(place) for name in ("less", "direct"))
        assert np.array_equal(less["log_probs"], direct["log_probs"])
    with pytest.raises(RecipeError, match=r"is made from hidden, and .*full gives log_probs"):
        label(labelling("codebook", teacher=tmp_path / "full"), tmp_path / "codes")


def test_several_teachers_with_one_answer(labelling, loud, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(loud.read_text().replace('"abc▁", 1', '"abc▁", 2'))
    slow = tmp_path / "slow.py"
    slow.write_text(loud.read_text().replace("FRAME, SYMBOLS, SEED = 320", "FRAME, SYMBOLS, SEED = 640"))

    def ensemble(kind: str, second: Path):
        teachers = f"distill.teachers={json.dumps([str(loud), str(second)])}"
        return labelling("full", teachers, f"distill.combine.kind={kind}")

    label(ensemble("interpolation", other), tmp_path / "both")
    label(labelling("full"), tmp_path / "one")
    label(labelling("full", teacher=other), tmp_path / "two")
    both, one, two = (StoredTeacher(tmp_path / name).store.item(3)[1]["log_probs"] for name in ("both", "one", "two"))
    mean = (np.exp(one.astype(np.float64)) + np.exp(two.astype(np.float64))) / 2
    assert np.abs(np.exp(both.astype(np.float64)) - mean).max() < 2e-3
    assert StoredTeacher(tmp_path / "both").info.name == "loud + loud"
    assert label(ensemble("hybrid", other), tmp_path / "hybrid")["teacher"]["kind"] == "hybrid"
    remedy = "label each into a store of its own"
    with pytest.raises(LabelStoreError, match=f"switching has no one answer.*{remedy}"):
        label(ensemble("switching", other), tmp_path / "no")
    with pytest.raises(LabelStoreError, match=f"differ in frame; {remedy}"):
        label(ensemble("interpolation", slow), tmp_path / "no")


def test_an_oracle_is_shown_the_references(labelling, runs, corpus, tmp_path):
    label(labelling("full", teacher=runs["oracle"]), tmp_path / "s")
    rows = rows_of(corpus["train"])
    for row in rows:
        row["text"] = "cab"
    manifest = write_rows(tmp_path / "lies.jsonl", rows)
    label(labelling("full", manifest, teacher=runs["oracle"]), tmp_path / "lies")
    store, lies = StoredTeacher(tmp_path / "s"), StoredTeacher(tmp_path / "lies")
    assert store.info.sees_labels
    assert store.info.kind == "labels of oracle"
    assert not np.array_equal(store.store.item(0)[1]["log_probs"], lies.store.item(0)[1]["log_probs"])


def test_nothing_starts_that_does_not_fit_on_the_disk(labelling, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(estimates.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(LabelStoreError, match=r"needs [\d.]+ kB, and 1\.0 kB are free"):
        label(labelling("full"), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_disk_that_fills_up_leaves_nothing_half(labelling, kept, tmp_path, content_of, monkeypatch):
    flush, shards = folders.os.fsync, []

    def full(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").resolve().name
        if "labels-" in name:
            shards.append(name)
            if len(shards) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        flush(handle)

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(LabelStoreError, match=r"labels-000002.*no room for .* what is finished is kept"):
        label(labelling(top_k=2), tmp_path / "s", shard_items=3)
    left = sorted(path.name for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert left == ["000000.json", "000001.json", "labels-000000.safetensors", "labels-000001.safetensors", "plan.json"]
    monkeypatch.undo()
    label(labelling(top_k=2), tmp_path / "s", shard_items=3)
    assert content_of(tmp_path / "s") == content_of(kept)


def test_an_estimate_knows_what_is_left(labelling, tmp_path):
    recipe = labelling("full", "data.on_unusable=skip")
    whole = estimate(open_job(recipe, tmp_path / "s", 3), processes=2)
    assert whole.left == 1
    assert whole.processes == 2
    assert "2 processes" in whole.sentence()
    assert whole.items == 12
    label(recipe, tmp_path / "s", shard_items=3)
    (tmp_path / "s" / "labels-000003.safetensors").unlink()
    some = estimate(open_job(recipe, tmp_path / "s", 3))
    assert some.left == 0.25
    assert "75 % is done" in some.sentence()


def test_entries_by_block(tmp_path):
    lines = [
        json.dumps({"audio_filepath": f"é{number}.wav", "text": "a", "duration": 0.5}, ensure_ascii=False)
        for number in range(7)
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(lines[:4]) + "\n\n  \n" + "\n".join(lines[4:]), encoding="utf-8")
    entries = survey(path, 3)
    assert entries.count == 7
    assert entries.seconds == 3.5
    assert entries.fingerprint == manifest_fingerprint(path)
    names = [[entry.id for entry in entries.of_block(block)] for block in range(3)]
    assert names == [[f"é{n}.wav" for n in block] for block in ((0, 1, 2), (3, 4, 5), (6,))]
    assert [place for place, _ in entries.spread(3)] == [0, 2, 4]
    assert [(place, entry.id) for place, entry in entries.spread(50)] == [(n, f"é{n}.wav") for n in range(7)]
    path.write_text(path.read_text(encoding="utf-8").replace("é5", "é9"), encoding="utf-8")
    assert entries.of_block(0)
    with pytest.raises(ManifestError, match="was changed while it was in use"):
        entries.of_block(1)


def test_a_manifest_that_cannot_be_read(tmp_path):
    with pytest.raises(ManifestError, match="not found"):
        survey(tmp_path / "none.jsonl", 3)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ManifestError, match="empty"):
        survey(tmp_path / "empty.jsonl", 3)
