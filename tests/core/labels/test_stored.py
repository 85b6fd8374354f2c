"""A store as a teacher: what it answers is what the teacher said, and it refuses what it cannot know."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import soundfile
import torch

from kdcompress.data.task import TASKS
from kdcompress.errors import LabelStoreError
from kdcompress.hearing import Heard
from kdcompress.labels import store as stores
from kdcompress.labels.label import label
from kdcompress.losses.codebook import NO_CODE
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.stored import StoredTeacher

PLAIN = ["augment.speed=[1.0]", "augment.lead_in_s=[0,0]", "augment.spec=null"]


def heard(batch, recipe, views=1) -> Heard:
    """A batch as a student of 40 ms frames hears it; teachers that are asked here look at its inputs alone."""
    lens = -(-batch.input_lens // 320).repeat(views)
    labels = batch.labels.repeat(views, 1)
    return Heard(batch, recipe, torch.zeros(len(lens), 0, 1), lens, labels, batch.label_lens.repeat(views), views)


@pytest.fixture(scope="module")
def batches(labelling, vocabulary):
    """Training batches of a recipe, by overrides."""

    def make(*overrides):
        recipe = labelling("full", *overrides)
        return recipe, TASKS["speech"].training_batches(recipe, vocabulary, units_per_frame=320)

    return make


@pytest.mark.parametrize("kind", ["full", "top_k"])
def test_stored_and_online_targets_are_equal(kind, labelling, batches, loud, tmp_path):
    label(labelling(kind, **({"top_k": 5} if kind == "top_k" else {})), tmp_path / "s", shard_items=5)
    online, stored = open_teacher(loud), open_teacher(tmp_path / "s")
    assert isinstance(stored, StoredTeacher)
    assert stored.info.frame == online.info.frame
    assert stored.info.vocabulary == online.info.vocabulary
    assert stored.info.gives == {"log_probs"}
    recipe, plain = batches(*PLAIN, "augment.gain_db=[0,0]")
    for step in range(3):
        one = heard(plain[step], recipe)
        told, said = stored.answer(one), online.answer(one)
        assert torch.equal(told.frame_lens, said.frame_lens)
        assert told.times is None
        for row, wanted, length in zip(told.log_probs, said.log_probs, said.frame_lens, strict=True):
            torch.testing.assert_close(row[:length].exp(), wanted[:length].exp(), rtol=0, atol=2e-3)


def test_views_are_repeated_and_items_chosen(store, batches):
    teacher = open_teacher(store)
    recipe, plain = batches(*PLAIN)
    once, twice = (teacher.answer(heard(plain[0], recipe, views)) for views in (1, 2))
    assert torch.equal(twice.log_probs, once.log_probs.repeat(2, 1, 1))
    assert torch.equal(twice.frame_lens, once.frame_lens.repeat(2))
    some = teacher.answer(heard(plain[0], recipe, 2), torch.tensor([5, 0]))
    wanted = once.frame_lens[[1, 0]]
    assert torch.equal(some.frame_lens, wanted)
    longest = int(wanted.max())
    assert torch.equal(some.log_probs, once.log_probs[[1, 0], :longest])


def test_texts_of_views_belong_to_their_copies(labelling, batches, tmp_path):
    label(labelling("nbest", size=2, beam_width=3), tmp_path / "s")
    recipe, plain = batches(*PLAIN)
    found = open_teacher(tmp_path / "s").answer(heard(plain[0], recipe, 2)).hypotheses
    assert found.items.tolist() == [item for item in range(8) for _ in range(2)]
    assert torch.equal(found.labels[:8], found.labels[8:])


def test_codes_in_padding_do_not_count(labelling, batches, tmp_path):
    label(labelling("codebook", codebooks=2, entries=8), tmp_path / "s", shard_items=5)
    recipe, plain = batches(*PLAIN)
    said = open_teacher(tmp_path / "s").answer(heard(plain[0], recipe))
    for codes, length in zip(said.codes, said.frame_lens, strict=True):
        assert codes[:length].min() >= 0
        assert (codes[length:] == NO_CODE).all()


def test_faster_slower_and_later(store, batches):
    """The answer says where its moments are in what the student hears, and knows the recording by its length."""
    teacher = open_teacher(store)
    recipe, moved = batches("augment.speed=[0.9,1.0,1.1]", "augment.lead_in_s=[0.1,0.3]")
    for step in range(3):
        batch = moved[step]
        said = teacher.answer(heard(batch, recipe, 2))
        assert torch.equal(said.times, batch.times.repeat(2, 1))
        assert (said.times[:, 1] >= 0.1).all()
        for item, place in enumerate(batch.items.tolist()):
            _, arrays = teacher.store.item(place)
            assert said.frame_lens[item] == len(arrays["ids"])


def test_another_recording_under_the_same_id(store, corpus, batches):
    recipe, plain = batches(*PLAIN)
    batch = plain[0]
    longer = torch.nn.functional.pad(batch.inputs, (0, 800))
    other = replace(batch, inputs=longer, input_lens=batch.input_lens + 800)
    with pytest.raises(LabelStoreError, match=r"entry \d+ of the manifest is [\d.]+ s long, and was [\d.]+ s when"):
        open_teacher(store).answer(heard(other, recipe))
    with pytest.raises(LabelStoreError, match=r"has no entry \d+; there are 12"):
        open_teacher(store).answer(heard(replace(batch, items=batch.items + 12), recipe))


def test_other_texts_and_other_tasks(store, labelling, corpus, tmp_path):
    teacher = open_teacher(store)
    teacher.check(labelling("full", "augment.speed=[0.9,1.1]", "augment.lead_in_s=[0,1]"))
    rows = [json.loads(line) for line in corpus["train"].read_text(encoding="utf-8").splitlines()]
    folder = corpus["train"].parent
    moved = [{**row, "audio_filepath": str(folder / row["audio_filepath"])} for row in rows]
    path = tmp_path / "elsewhere.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in moved), encoding="utf-8")
    teacher.check(labelling("full", f"data.train={path}"))
    for wrong in (moved[::-1], moved[1:], [{**moved[0], "text": "b"}, *moved[1:]]):
        path.write_text("".join(json.dumps(row) + "\n" for row in wrong), encoding="utf-8")
        with pytest.raises(LabelStoreError, match=r"labels of another manifest \(its 12 ids and texts are not those"):
            teacher.check(labelling("full", f"data.train={path}"))


@pytest.mark.parametrize("kind", ["full", "top_k", "occupancy", "nbest", "codebook"])
@pytest.mark.parametrize("moving", ["augment.speed=[0.9,1.0]", "augment.lead_in_s=[0,0.5]"])
def test_what_moves_in_time_is_refused_where_labels_cannot_follow(kind, moving, labelling, stores_of):
    teacher = open_teacher(stores_of(kind))
    still = labelling(kind, *PLAIN[:2], "augment.gain_db=[-9,9]", "augment.spec.time_masks=5")
    teacher.check(still)
    asked = labelling(kind, *PLAIN[:2], moving)
    if kind != "codebook":
        teacher.check(asked)
        return
    with pytest.raises(LabelStoreError, match=r"set augment\.speed=\[1\.0\] and augment\.lead_in_s=\[0,0\]"):
        teacher.check(asked)


@pytest.fixture(scope="module")
def stores_of(labelling, tmp_path_factory):
    """A store of each kind, made when first asked for."""
    folder = tmp_path_factory.mktemp("kinds")

    def make(kind):
        extra = {"codebook": {"codebooks": 2, "entries": 8}, "nbest": {"size": 2, "beam_width": 2}}.get(kind, {})
        label(labelling(kind, **extra), folder / kind, shard_items=6)
        return folder / kind

    return make


def test_few_shards_stay_open(store, monkeypatch):
    monkeypatch.setattr(stores, "OPEN_SHARDS", 2)
    teacher = open_teacher(store)
    first = {place: teacher.store.item(place)[1]["ids"].tolist() for place in range(12)}
    assert len(teacher.store._shards) == 2
    assert {place: teacher.store.item(place)[1]["ids"].tolist() for place in reversed(range(12))} == first


def test_the_student_may_hear_another_rate(store, corpus, vocabulary, labelling):
    recipe = labelling("full", *PLAIN, "frontend.sample_rate=16000")
    wide = TASKS["speech"].training_batches(recipe, vocabulary, units_per_frame=640)
    said = open_teacher(store).answer(heard(wide[0], recipe))
    assert said.times is None
    assert soundfile.info(str(corpus["train"].parent / "train0.wav")).samplerate == 8000
