"""Batches divided into parts: what is cut, how it is weighed, and that the update stays the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdcompress.data.batch import collate
from kdcompress.distill import Updates, fit
from kdcompress.errors import RecipeError
from kdcompress.parallel import parts_of, processes
from kdcompress.run import RunFolder, build_network
from kdcompress.trainer import setup


@pytest.fixture
def batch():
    lengths = [800, 2400, 1600, 1601, 3300]
    return collate(
        [np.full(length, 0.1 * index, np.float32) for index, length in enumerate(lengths)],
        [(1,) * index for index in range(5)],
        ["a" * index for index in range(5)],
        [10, 11, 12, 13, 14],
        items=[4, 3, 2, 1, 0],
        times=[(1.0, 0.1 * index) for index in range(5)],
        streams=[0, 1, 0, 1, 0],
        sample_rate=8000,
        others={16000: [np.full(2 * length, 0.1 * index, np.float32) for index, length in enumerate(lengths)]},
    )


def test_parts_hold_every_item_once_and_weigh_as_much_as_their_frames(make_recipe, batch):
    network = build_network(make_recipe("student"), 5)
    parts = parts_of(batch, network, 2, processes())
    frames = [3, 8, 5, 6, 11]  # of 320 samples, the last one of each may be incomplete
    assert [part.weight for part in parts] == [sum(frames[:2]) / 33, sum(frames[2:]) / 33]
    assert [part.number for part in parts] == [0, 1]
    for name in ("inputs", "input_lens", "labels", "label_lens", "streams", "items", "times"):
        pieces = [getattr(part.batch, name) for part in parts]
        assert [len(piece) for piece in pieces] == [2, 3]
        assert torch.equal(torch.cat(pieces), getattr(batch, name))
    for name in ("texts", "seeds"):
        assert getattr(parts[0].batch, name) + getattr(parts[1].batch, name) == getattr(batch, name)
    for index in (0, 1):
        pieces = [part.batch.at_rate(16000) for part in parts]
        assert torch.equal(torch.cat([piece.inputs for piece in pieces]), batch.others[16000][0])
        assert torch.equal(torch.cat([piece.input_lens for piece in pieces]), batch.others[16000][1])
        assert parts[index].batch.sample_rate == 8000


def test_no_more_parts_than_items(make_recipe, batch):
    network = build_network(make_recipe("student"), 5)
    parts = parts_of(batch, network, 8, processes())
    assert [len(part.batch.items) for part in parts] == [1] * 5
    assert sum(part.weight for part in parts) == pytest.approx(1)
    (whole,) = parts_of(batch, network, 1, processes())
    assert (whole.batch, whole.weight, whole.number) == (batch, 1.0, 0)


def test_padding_is_silence_behind_the_items(batch):
    padded = batch.padded(4000)
    assert padded.inputs.shape == (5, 4000)
    assert torch.equal(padded.inputs[:, :3300], batch.inputs)
    assert not padded.inputs[:, 3300:].any()
    assert padded.input_lens is batch.input_lens
    assert batch.padded(3300) is batch


@pytest.mark.parametrize("combine", ["single", "multi_stream"])
def test_the_update_is_that_of_the_undivided_batch(make_recipe, runs, tmp_path, combine):
    """Batch norms keep their statistics here, and nothing is dropped; masks are of each item."""
    losses = [{"kind": "ctc"}, {"kind": "frame_kl"}, {"kind": "cr_ctc", "ramp": None}, {"kind": "peak_first"}]
    teachers = [str(runs["conventional"]), *([str(runs["oracle"])] if combine == "multi_stream" else [])]
    distill = {"teachers": teachers, "combine": {"kind": combine}}
    settings = [f"losses={json.dumps(losses)}", f"distill={json.dumps(distill)}", "model.dropout=0"]
    rows = []
    for accumulate in (1, 3):
        recipe = make_recipe("student", *settings, "quantization_aware={}", steps=3, accumulate=accumulate)
        folder = RunFolder(tmp_path / str(accumulate))
        fit(recipe, folder.path)
        rows.append([json.loads(line) for line in folder.metrics.read_text().splitlines()])
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 3]
    for whole, divided in zip(*rows, strict=True):
        assert whole.keys() == divided.keys()
        for name in whole.keys() - {"seconds"}:
            assert divided[name] == pytest.approx(whole[name], rel=1e-5), name
    one, two = (load_file(tmp_path / folder / "model.safetensors") for folder in "13")
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=1e-5)


def test_parts_draw_different_dropout(make_recipe, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("kdcompress.distill.set_seed", drawn.append)
    updates = Updates(setup(make_recipe("student", accumulate=2), RunFolder(tmp_path)))
    for batch, _ in zip(updates.batches(), range(2), strict=False):
        updates.apply(batch)
    assert len(set(drawn)) == 4


def test_more_parts_than_items_are_refused(make_recipe, tmp_path):
    with pytest.raises(
        RecipeError, match=r"batch_size 4 is too small for 1 process, which divides its share into 5 parts"
    ):
        fit(make_recipe("student", accumulate=5), tmp_path / "run")
    assert not (tmp_path / "run").exists()
