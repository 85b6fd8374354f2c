"""Language models in a recipe: asked while training or stored before, on the frames of their units, gone at the end."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from kdcompress.aligning.aligned import read_alignments, write_alignments
from kdcompress.distill import fit, loss_of
from kdcompress.errors import AlignmentError, LabelStoreError, MismatchError, RecipeError, TextModelError
from kdcompress.hearing import hear
from kdcompress.labels.label import label
from kdcompress.run import RunFolder, load_run
from kdcompress.trainer import setup


def reads(path, alignment=None, losses=None) -> list[str]:
    """Overrides: a head that learns from the language model at ``path``."""
    distill = {"language_models": {"letters": str(path)}, **({"alignment": str(alignment)} if alignment else {})}
    losses = losses or [{"kind": "ctc"}, {"kind": "lm_head", "lm": "letters", "layer": 0, "weight": 0.3}]
    return [f"losses={json.dumps(losses)}", f"distill={json.dumps(distill)}"]


STILL = ["augment.speed=[1.0]", "augment.lead_in_s=[0, 0]", "augment.spec=null"]


def test_each_frame_has_the_unit_that_sounds_in_it(make_recipe, text_model, alignment, tmp_path):
    recipe = make_recipe("student", *reads(text_model, alignment), *STILL)
    trainer = setup(recipe, RunFolder(tmp_path))
    batch = trainer.batches[0]
    found = trainer.texts(hear(trainer.network, recipe, batch))["letters"]
    aligned = {item.place: item for item in read_alignments(alignment)}
    seconds = 0.04
    for row, place in enumerate(batch.items.tolist()):
        symbols = trainer.texts.sources["letters"].info.symbols
        assert [symbols[unit] for unit in found.units[row, : found.unit_lens[row]]] == [
            one.unit for one in aligned[place].segments
        ]
        for frame, unit in enumerate(found.frames[row].tolist()):
            middle = (frame + 0.5) * seconds
            inside = [i for i, one in enumerate(aligned[place].segments) if one.start <= middle < one.end]
            assert inside == ([unit] if unit >= 0 else []), (place, frame)
    torch.testing.assert_close(found.log_probs.exp().sum(dim=2)[0, 0], torch.tensor(1.0))


def test_units_move_with_the_recording(make_recipe, text_model, alignment, tmp_path):
    """Slower, and later: a frame's unit is the one that sounds in it all the same."""
    moved = ["augment.speed=[0.5]", "augment.lead_in_s=[0.4, 0.4]", "augment.spec=null"]
    recipe = make_recipe("student", *reads(text_model, alignment), *moved)
    trainer = setup(recipe, RunFolder(tmp_path))
    batch = trainer.batches[0]
    found = trainer.texts(hear(trainer.network, recipe, batch))["letters"]
    aligned = {item.place: item for item in read_alignments(alignment)}
    place = int(batch.items[0])
    first = aligned[place].segments[0]
    frames = (found.frames[0] == 0).nonzero()[:, 0] * 0.04
    assert float(frames[0]) == pytest.approx((0.4 + first.start) / 0.5, abs=0.05)
    assert float(frames[-1]) == pytest.approx((0.4 + first.end) / 0.5, abs=0.09)


def test_the_heads_are_gone_from_the_run(make_recipe, runs, text_model, alignment, tmp_path):
    """What is exported is made of ``model.safetensors``, which has the tensors of a student that had no heads."""
    three = [
        {"kind": "ctc"},
        {"kind": "lm_head", "name": "low", "lm": "letters", "layer": 0},
        {"kind": "lm_head", "name": "top", "lm": "letters", "layer": -1, "ctc": 0.3, "placement": "path"},
        {"kind": "representation", "lm": "letters"},
        {"kind": "label_interpolation", "lm": "letters", "share": 0.3},
    ]
    summary = fit(make_recipe("student", *reads(text_model, alignment, three)), tmp_path / "with")
    told = summary["language_models"]["letters"]
    assert (told["kind"], told["units"]) == ("masked_transformer", "characters")
    assert summary["losses"] == ["ctc", "low", "top", "representation", "label_interpolation"]
    with_heads, without = (load_file(path / "model.safetensors") for path in (tmp_path / "with", runs["student"]))
    assert {name: tensor.shape for name, tensor in with_heads.items()} == {
        name: tensor.shape for name, tensor in without.items()
    }
    assert (tmp_path / "with" / "model.safetensors").stat().st_size == (
        runs["student"] / "model.safetensors"
    ).stat().st_size
    assert load_run(tmp_path / "with").summary["parameters"] == load_run(runs["student"]).summary["parameters"]


def test_a_run_that_was_stopped_goes_on_the_same(make_recipe, text_model, alignment, tmp_path):
    recipe = make_recipe("student", *reads(text_model, alignment), steps=4, checkpoint_every=2)
    fit(recipe, tmp_path / "whole")

    def stop(step: int, steps: int, scalars: dict) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "parts", stop)
    fit(recipe, tmp_path / "parts")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_stored_teaches_what_the_model_itself_would(make_recipe, text_model, alignment, tmp_path):
    """But for float16; and a store that was made of other texts is refused."""
    stored = ['distill={"teachers": ["' + str(text_model) + '"]}', 'label={"kind": "units", "states": true}']
    frame_kl = 'losses=[{"kind": "frame_kl"}]'
    index = label(make_recipe("student", frame_kl, *stored), tmp_path / "store")
    assert index["left_out"] == 0
    losses = [
        {"kind": "lm_head", "lm": "letters"},
        {"kind": "representation", "lm": "letters", "pooling": "attention"},
    ]
    values = []
    for number, path in enumerate((text_model, tmp_path / "store")):
        recipe = make_recipe("student", *reads(path, alignment, losses), "model.dropout=0")
        trainer = setup(recipe, RunFolder(tmp_path / f"run{number}"))
        values.append(loss_of(trainer, trainer.model, trainer.batches[0], 0)[1])
    for key, value in values[0].items():
        torch.testing.assert_close(values[1][key], value, rtol=2e-3, atol=1e-5)
    anywhere = [{"kind": "lm_head", "lm": "letters", "ctc": 1.0, "placement": "path"}]
    other = make_recipe("student", *reads(tmp_path / "store", losses=anywhere), f"data.train={recipe.data.dev}")
    with pytest.raises(LabelStoreError, match="labels of another manifest"):
        setup(other, RunFolder(tmp_path / "other"))


@pytest.mark.parametrize(
    ("losses", "distill", "sentence"),
    [
        ('[{"kind": "lm_head", "lm": "phones"}]', None, "there is none"),
        (
            '[{"kind": "lm_head", "lm": "phones"}]',
            {"language_models": {"letters": "x"}, "alignment": "y"},
            "learns from 'phones' of distill.language_models; it has 'letters'",
        ),
        ('[{"kind": "lm_head", "lm": "letters"}]', {"language_models": {"letters": "x"}}, "set distill.alignment"),
        ('[{"kind": "ctc"}]', {"language_models": {"letters": "x"}}, "no loss learns from 'letters'"),
        ('[{"kind": "frame_kl"}]', {"language_models": {"letters": "x"}}, "add distill.teachers"),
        ('[{"kind": "lm_head"}]', None, "key 'losses.lm_head.lm' is missing"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(make_recipe, losses, distill, sentence):
    with pytest.raises(RecipeError, match=sentence):
        make_recipe("student", f"losses={losses}", *([f"distill={json.dumps(distill)}"] if distill else []))


def test_a_language_model_of_other_tokens_cannot_interpolate(make_recipe, text_model, tmp_path):
    losses = [{"kind": "label_interpolation", "lm": "letters"}]
    recipe = make_recipe("student", *reads(text_model, losses=losses), "data.units=words")
    with pytest.raises(MismatchError, match=r"which are no\s+tokens of the student"):
        setup(recipe, RunFolder(tmp_path))


def test_what_is_missing_or_of_other_data_is_named(make_recipe, text_model, alignment, tmp_path):
    with pytest.raises(TextModelError, match="not found"):
        setup(make_recipe("student", *reads(tmp_path / "none", alignment)), RunFolder(tmp_path / "a"))
    with pytest.raises(AlignmentError, match="alignment not found"):
        setup(make_recipe("student", *reads(text_model, tmp_path / "none.jsonl")), RunFolder(tmp_path / "b"))
    recipe = make_recipe("student", *reads(text_model, alignment))
    swapped = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": recipe.data.dev})})
    with pytest.raises(AlignmentError, match="aligned another manifest"):
        setup(swapped, RunFolder(tmp_path / "c"))


def test_items_that_were_left_out_of_the_alignment_have_no_units(make_recipe, text_model, alignment, tmp_path):
    kept = [item for item in read_alignments(alignment) if item.place != 3]
    write_alignments(tmp_path / "alignment.jsonl", kept)
    recipe = make_recipe("student", *reads(text_model, tmp_path / "alignment.jsonl"), *STILL)
    trainer = setup(recipe, RunFolder(tmp_path / "run"))
    for step in range(3):
        batch = trainer.batches[step]
        frames = trainer.texts(hear(trainer.network, recipe, batch))["letters"].frames
        for row, place in enumerate(batch.items.tolist()):
            assert bool((frames[row] >= 0).any()) == (place != 3)


def test_language_models_stand_beside_teachers_that_listen(make_recipe, runs, text_model, alignment, tmp_path):
    """An oracle for when, a conventional teacher for what, and a language model, in one recipe."""
    losses = [
        {"kind": "ctc"},
        {"kind": "frame_kl", "weight": 0.5},
        {"kind": "lm_head", "lm": "letters", "weight": 0.1},
    ]
    distill = {
        "teachers": [str(runs["oracle"]), str(runs["conventional"])],
        "combine": {"kind": "hybrid"},
        "language_models": {"letters": str(text_model)},
        "alignment": str(alignment),
    }
    recipe = make_recipe("student", f"losses={json.dumps(losses)}", f"distill={json.dumps(distill)}")
    summary = fit(recipe, tmp_path / "run")
    assert [teacher["kind"] for teacher in summary["teachers"]] == ["oracle", "conventional"]
    assert list(summary["language_models"]) == ["letters"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["lm_head"] > 0 and row["frame_kl"] > 0 for row in rows if "loss" in row)
