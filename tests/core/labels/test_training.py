"""Students that learn from a store: nearly as from the teacher itself, by every kind of label."""

from __future__ import annotations

import json
import math

import pytest
import torch

from kdcompress.distill import fit
from kdcompress.errors import LabelStoreError, RecipeError
from kdcompress.labels.label import label
from kdcompress.losses.base import Shapes, Signals, TeacherSignals
from kdcompress.losses.codebook import NO_CODE, CodebookLoss, codebook, encode, stored_codebook

STILL = ["augment.speed=[1.0]", "augment.lead_in_s=[0,0]"]

SMALL = ["losses.codebook.codebooks=2", "losses.codebook.entries=8"]


def losses_of(run) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize(("kind", "settings", "nearly"), [("full", {}, 2e-3), ("top_k", {"top_k": 3}, 5e-2)])
def test_a_store_teaches_what_its_teacher_does(kind, settings, nearly, labelling, tmp_path):
    plain = [*STILL, "augment.gain_db=[0,0]", "augment.spec=null"]
    recipe = labelling(kind, *plain, **settings)
    label(recipe, tmp_path / "store", shard_items=5)
    online = fit(recipe, tmp_path / "online")
    stored = fit(labelling(kind, *plain, teacher=tmp_path / "store", **settings), tmp_path / "stored")
    assert losses_of(tmp_path / "stored") == pytest.approx(losses_of(tmp_path / "online"), rel=nearly)
    assert stored["teachers"][0]["kind"] == "labels of python"
    assert "alignment" not in stored
    assert online["teachers"][0]["name"] == stored["teachers"][0]["name"]


@pytest.mark.parametrize(
    ("kind", "settings", "overrides"),
    [
        ("occupancy", {}, ["augment.speed=[0.9,1.1]"]),
        ("nbest", {"size": 2, "beam_width": 3}, ["augment.lead_in_s=[0,0.2]"]),
        ("top_k", {"top_k": 2}, ["augment.speed=[0.9,1.1]", "augment.lead_in_s=[0,0.2]"]),
        ("codebook", {"codebooks": 2, "entries": 8}, [*STILL, *SMALL]),
    ],
)  # fmt: skip
def test_every_kind_teaches(kind, settings, overrides, labelling, tmp_path):
    label(labelling(kind, **settings), tmp_path / "store", shard_items=5)
    fit(labelling(kind, *overrides, teacher=tmp_path / "store", **settings), tmp_path / "run")
    found = losses_of(tmp_path / "run")
    assert len(found) == 6
    assert all(math.isfinite(one) and one > 0 for one in found)


def test_other_codebooks_than_the_stored_ones(labelling, tmp_path):
    label(labelling("codebook", codebooks=2, entries=8), tmp_path / "store")
    asked = labelling("codebook", *STILL, "losses.codebook.codebooks=4", teacher=tmp_path / "store")
    with pytest.raises(RecipeError, match="have 2 codebooks of 8 entries; set codebooks to 2 and entries to 8"):
        fit(asked, tmp_path / "run")


def test_a_damaged_store_stops_training(store, labelling, tmp_path):
    path = store / "labels-000001.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)
    with pytest.raises(LabelStoreError, match=r"labels-000001\.safetensors: damaged"):
        fit(labelling("top_k", teacher=store), tmp_path / "run")


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("delay_frames", [0, 2])
def test_stored_codes_teach_as_the_block_they_were_made_from(delay_frames):
    logits, block, centroids = drawn(2, 6, 12, seed=1).requires_grad_(), drawn(2, 6, 5, seed=2), drawn(3, 4, 5, seed=3)
    lens = torch.tensor([6, 4])
    codes = encode(block, centroids)
    codes[1, 4:] = NO_CODE
    wanted = codebook(logits, block, centroids, lens, delay_frames=delay_frames)
    found = stored_codebook(logits, codes, lens, delay_frames=delay_frames)
    torch.testing.assert_close(found, wanted)
    (gradient,) = torch.autograd.grad(found, logits)
    assert not gradient[1, 4 + delay_frames :].any()
    assert gradient[0].any()
    missing = codes.clone()
    missing[0] = NO_CODE
    (gradient,) = torch.autograd.grad(stored_codebook(logits, missing, lens), logits)
    assert not gradient[0].any()


def test_the_loss_takes_codes_before_blocks():
    loss = CodebookLoss(kind="codebook", codebooks=3, entries=4)
    shapes = Shapes(num_tokens=5, hidden_dims=(7,), teacher_codebooks=(3, 4))
    head = loss.head(shapes)
    assert not list(head.named_buffers())
    loss.prepare(head, [], 1)  # there is nothing to fit
    codes, logits, lens = torch.ones(2, 6, 3, dtype=torch.int64), drawn(2, 6, 12, seed=1), torch.tensor([6, 4])
    signals = Signals(drawn(2, 6, 5, seed=2), (), lens, torch.zeros(2, 1), lens, 0, TeacherSignals(codes=codes), logits)
    torch.testing.assert_close(loss(signals), stored_codebook(logits, codes, lens))
    with pytest.raises(ValueError, match="3 codebooks of 16 entries"):
        loss.head(Shapes(num_tokens=5, hidden_dims=(7,), teacher_codebooks=(3, 16)))
