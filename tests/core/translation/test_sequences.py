"""Sequence-level targets from a translator to a student, through a store: `kdcompress label`, then `distill`."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from kdcompress.cli import main
from kdcompress.distill import fit
from kdcompress.errors import LabelStoreError
from kdcompress.labels.label import label
from kdcompress.labels.store import LabelStore
from kdcompress.run import load_run
from kdcompress.teachers.opening import open_teacher
from tests.core.translation.conftest import TRAIN, write_pairs

NBEST = "label={kind: nbest, size: 2, beam_width: 3}"
LOSSES = "losses=[{kind: nbest, weight: 0.9}, {kind: ctc, weight: 0.1}]"


def taught_by(path):
    return f"distill.teachers={path}"


@pytest.fixture(scope="module")
def store(recipe_of, marian, tmp_path_factory):
    path = tmp_path_factory.mktemp("sequences") / "store"
    label(recipe_of("student", taught_by(marian), LOSSES, NBEST), path, shard_items=16)
    return path


def test_a_store_keeps_texts_as_they_were_written(store):
    kept = LabelStore(store)
    assert kept.plan.heard["measure"] == "characters"
    assert "frontend" not in kept.plan.heard
    symbols, said = kept.plan.teacher["vocabulary"], []
    for place, (source, _) in enumerate(TRAIN):
        row, arrays = kept.item(place)
        assert row["length"] == len(source)
        said.append("".join(symbols[index] for index in arrays["tokens"][: arrays["token_lens"][0]]).replace("▁", " "))
    right = sum(text == target for text, (_, target) in zip(said, TRAIN, strict=True))
    assert right > 0.9 * len(TRAIN)
    assert kept.untold == 0


def test_a_student_learns_from_it_with_a_table_of_its_own(store, recipe_of, tmp_path):
    for subwords in (40, 50):
        folder = tmp_path / str(subwords)
        summary = fit(recipe_of("student", taught_by(store), LOSSES, f"frontend.subwords={subwords}"), folder)
        assert len(load_run(folder).recipe.frontend.table()) == subwords
        (told,) = summary["teachers"]
        assert told["bridged"] == [
            "its texts are in characters, and the student's subwords: they are written in the student's tokens"
        ]
        assert "lost" not in told


def test_a_translator_can_be_asked_while_training(marian, recipe_of, tmp_path):
    losses = "losses=[{kind: nbest, size: 1, beam_width: 1}]"
    summary = fit(recipe_of("student", taught_by(marian), losses), tmp_path / "run")
    assert summary["teachers"][0]["kind"] == "autoregressive marian"


def test_the_command_goes_on_and_says_what_has_no_text(recipe_of, marian, pairs, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(recipe_of("student", taught_by(marian), LOSSES).dumps())))
    long = write_pairs(tmp_path / "long.jsonl", [*TRAIN[:5], ("fish " * 60, "fisk fisk fisk")])
    words = ["label", str(path), "--manifest", str(long), "-o", str(tmp_path / "s"), "--shard-items", "2"]
    assert main([*words, "--estimate"]) == 0
    assert "items a second" in capsys.readouterr().out
    assert main(words) == 0
    assert "nbest labels of 6 items, 1 without a text" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0  # it is all there
    assert json.loads(capsys.readouterr().out)["without_texts"] == 1
    more = ["data.max_duration=500", "data.dev=null", f"data.train={long}", taught_by(tmp_path / "s"), LOSSES]
    summary = fit(recipe_of("student", *more, "train.batch_size=6", "data.subwords=40"), tmp_path / "run")
    lost = "2 times an item was left without a text, and learned from its reference"
    assert lost in summary["teachers"][0]["lost"]


def test_a_source_that_was_replaced_is_noticed(store, recipe_of, pairs, tmp_path):
    rows = [json.loads(line) for line in pairs["train"].read_text(encoding="utf-8").splitlines()]
    rows[3]["source"] += " Or not."
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_of("student", taught_by(store), LOSSES, f"data.train={tmp_path / 't.jsonl'}", "train.batch_size=40")
    with pytest.raises(LabelStoreError, match=r"entry 4 .* characters long.*the input was replaced"):
        fit(recipe, tmp_path / "run")


def test_texts_longer_than_a_students_frames_give_way_to_the_reference(store, recipe_of, tmp_path):
    short = [
        "data.units=characters",
        "data.subwords=256",
        "data.on_unusable=skip",
        "frontend.upsampling=2",
        "train.batch_size=20",
    ]
    summary = fit(recipe_of("student", taught_by(store), LOSSES, *short), tmp_path / "run")
    assert any("texts were left out: they need more frames" in sentence for sentence in summary["teachers"][0]["lost"])


def test_labels_of_frames_bring_their_table(recipe_of, tmp_path):
    fit(recipe_of("conventional"), tmp_path / "teacher")
    label(recipe_of("student", taught_by(tmp_path / "teacher"), "losses=[{kind: frame_kl}]"), tmp_path / "store")
    told = open_teacher(tmp_path / "store").frontend
    assert told.symbols == load_run(tmp_path / "teacher").recipe.frontend.symbols
    frames = [taught_by(tmp_path / "store"), "losses=[{kind: frame_kl}]"]
    fit(recipe_of("student", *frames, "frontend.subwords=40"), tmp_path / "student")
    assert load_run(tmp_path / "student").recipe.frontend.symbols == told.symbols
    fit(recipe_of("student", *frames, "frontend.upsampling=4"), tmp_path / "more")  # frames are averaged
    with pytest.raises(LabelStoreError, match=r"frontend\.symbols is another one here; leave frontend\.symbols out"):
        fit(recipe_of("student", *frames, "frontend.symbols=<mask> <unk> a b"), tmp_path / "other")


def test_one_table_for_both_languages(recipe_of, tmp_path):
    apart, joint = (
        fit(recipe_of("student", f"frontend.joint={joint}", "frontend.subwords=60"), tmp_path / joint)
        and load_run(tmp_path / joint).recipe.frontend
        for joint in ("false", "true")
    )
    assert "ä" not in "".join(apart.table())
    assert "ä" in "".join(joint.table())
    assert len(joint.table()) == 60
    again = load_run(tmp_path / "true")
    assert again.network.frontend.symbols == 60
    assert torch.isfinite(next(again.network.parameters())).all()
