"""Scores are distributions, see what they may see, and do not depend on what stands beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdcompress.errors import TextModelError
from kdcompress.text_models.ngram_model import NgramTextModel, estimate_ngrams
from kdcompress.text_models.opening import open_text_model
from kdcompress.text_models.remembering import Remembering
from kdcompress.text_models.scoring import by_length
from kdcompress.text_models.top_k import spread, top_k
from tests.core.text_models.conftest import KINDS

TEXTS = ["ab cab bad", "a", "", "dab ada bc ab", "a"]
NETWORKS = [kind for kind in KINDS if kind != "ngram"]


@pytest.fixture(params=list(KINDS))
def model(request, runs):
    return open_text_model(runs[request.param])


def spelled(model, texts=TEXTS):
    return [model.inventory.spell(text).ids for text in texts]


def test_every_place_has_a_distribution_over_the_units(model):
    ids = spelled(model)
    for text, scores in zip(ids, model.score(ids), strict=True):
        assert scores.log_probs.shape == (len(text), len(model.inventory.symbols))
        assert scores.log_probs.dtype == torch.float32
        assert torch.allclose(scores.log_probs.exp().sum(1), torch.ones(len(text)), atol=1e-5)
        if model.state_dim:
            assert scores.states.shape == (len(text), model.state_dim)


def test_texts_do_not_see_each_other(model):
    ids = spelled(model)
    together = model.score(ids)
    for text, scores in zip(ids, together, strict=True):
        alone = model.score([text])[0]
        assert torch.allclose(alone.log_probs, scores.log_probs, atol=1e-5)
        if model.state_dim:
            assert torch.allclose(alone.states, scores.states, atol=1e-5)


def test_what_a_place_sees(model):
    """Never itself; what precedes always; what follows only where the model reads both ways."""
    one, two, three = spelled(model, ["ab ab ab", "ab bb ab", "ab ab ac"])
    first, second, third = (scores.log_probs for scores in model.score([one, two, three]))
    assert one[3] != two[3]
    assert torch.allclose(first[3], second[3], atol=1e-5)
    assert not torch.allclose(first[4], second[4], atol=1e-5)
    assert torch.allclose(first[3], third[3], atol=1e-5) != model.reads_both_ways


def test_masked_scores_hide_each_unit_in_its_turn(runs):
    model = open_text_model(runs["masked_transformer"])
    text = spelled(model)[0]
    found = model.score([text])[0]
    network = model._trained
    for place in range(len(text)):
        ids = torch.tensor([[network.sentence, *text, network.sentence]])
        ids[0, place + 1] = network.mask
        logits = network.logits(network.hidden(ids, torch.tensor([ids.shape[1]])))[0, place + 1]
        assert torch.allclose(logits[: network.num_units].log_softmax(0), found.log_probs[place], atol=1e-5)
    ids = torch.tensor([[network.sentence, *text, network.sentence]])
    seen = network.hidden(ids, torch.tensor([ids.shape[1]]))[0, 1:-1]
    assert torch.allclose(seen, found.states, atol=1e-5)


@pytest.mark.parametrize("kind", ["causal_lstm", "causal_transformer"])
def test_causal_states_are_those_that_predict(runs, kind):
    model = open_text_model(runs[kind])
    scores = model.score(spelled(model)[:1])[0]
    again = model._trained.logits(scores.states)[:, :-1].log_softmax(1)
    assert torch.allclose(again, scores.log_probs, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_little_room_changes_nothing(runs, kind):
    model = open_text_model(runs[kind])
    wide = model.score(spelled(model))
    model.network.batch_tokens = 20
    for before, after in zip(wide, model.score(spelled(model)), strict=True):
        assert torch.allclose(before.log_probs, after.log_probs, atol=1e-5)


def test_groups_are_of_like_length_and_hold_each_once():
    lengths = [5, 1, 9, 3, 3, 40]
    groups = list(by_length(lengths, 12))
    assert sorted(place for group in groups for place in group) == list(range(6))
    assert all(len(group) == 1 or len(group) * max(lengths[place] for place in group) <= 12 for group in groups)


def test_ngram_rows_are_those_of_the_runtime():
    from kdcompress.units.characters import CharacterInventory

    rng = np.random.default_rng(0)
    letters = "abcdef▁"
    texts = [tuple(rng.integers(0, 7, size=rng.integers(1, 9)).tolist()) for _ in range(60)]
    inventory = CharacterInventory(letters + "z")
    for order in (1, 2, 4):
        ngrams = estimate_ngrams(texts, inventory.symbols, order)
        model = NgramTextModel(ngrams, inventory, source="model", name="m", fingerprint="")
        text = texts[0]
        rows = model.score([text])[0].log_probs
        words = [ngrams.ids.get(symbol, 0) for symbol in inventory.symbols]
        for place in range(len(text)):
            context = (ngrams.bos, *(words[unit] for unit in text[:place]))
            wanted = torch.tensor([ngrams.score(context, word) for word in words]).log_softmax(0)
            assert torch.allclose(wanted, rows[place], atol=1e-5)


def test_units_of_another_inventory_are_refused(model):
    with pytest.raises(TextModelError, match="none of its 5 characters"):
        model.score([[0, 5]])


def test_answers_are_kept_and_forgotten(runs):
    class Counting:
        def __init__(self, model):
            self.model, self.asked = model, []

        def __getattr__(self, name):
            return getattr(self.model, name)

        def score(self, texts):
            self.asked += list(texts)
            return self.model.score(texts)

    counting = Counting(open_text_model(runs["causal_lstm"]))
    texts = [text for text in spelled(counting.model) if text]
    kept = Remembering(counting)
    first = kept.score(texts)
    second = kept.score(texts[::-1])[::-1]
    assert len(counting.asked) == len(set(texts))
    assert all(torch.equal(one.log_probs, two.log_probs) for one, two in zip(first, second, strict=True))
    small = Remembering(counting, most_bytes=kept.bytes // 2)
    for _ in range(2):
        for text in texts:
            assert len(small.score([text])[0].log_probs) == len(text)
    assert small.bytes <= small.most_bytes


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_and_back(k):
    log_probs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    kept = top_k(log_probs, k)
    assert kept.ids.dtype == torch.int64
    assert kept.log_probs.shape == (4, min(k, 5))
    whole = spread(kept, 5)
    assert torch.allclose(whole.exp().sum(1), torch.ones(4), atol=1e-6)
    assert torch.equal(whole.gather(1, kept.ids), kept.log_probs)
    rest = whole.scatter(1, kept.ids, -math.inf)
    if k == 2:
        assert torch.allclose(rest.exp().amax(1), (1 - kept.log_probs.exp().sum(1)) / 3, atol=1e-6)
    if k >= 5:
        assert torch.allclose(whole, log_probs)


def test_spread_survives_certainty():
    assert torch.isfinite(spread(top_k(torch.tensor([[0.0, -200.0, -200.0]]), 1), 3)).all()
