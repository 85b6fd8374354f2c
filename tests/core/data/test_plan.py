"""Orders that are computed place by place, and the two plans of batches over them."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.data.buckets import BucketPlan
from kdcompress.data.plan import BUCKET_BATCHES, PoolPlan
from kdcompress.data.shuffle import FEW, Permutation

KEYS = st.lists(st.integers(0, 2**40), min_size=1, max_size=3)
LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=120).map(lambda found: np.array(found, np.uint32))


def same(units: int) -> int:
    return units


def in_epoch(plan, epoch):
    return [plan(epoch * plan.batches + index) for index in range(plan.batches)]


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(1, FEW), st.integers(FEW, 5000)), KEYS)
def test_a_permutation_has_every_place_once(size, key):
    order = Permutation(size, *key)(np.arange(size))
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(size))


@settings(max_examples=50, deadline=None)
@given(st.integers(10**6, 2**40), KEYS, st.integers(0, 10**6 - 50))
def test_a_permutation_of_any_size_needs_only_the_places_asked_for(size, key, start):
    order = Permutation(size, *key)
    places = np.arange(start, start + 50)
    found = order(places)
    assert found.min() >= 0
    assert found.max() < size
    assert len(set(found.tolist())) == 50
    assert [int(order(np.array([place]))[0]) for place in places[:5]] == found[:5].tolist()


@pytest.mark.parametrize(("size", "keys"), [(2, 600), (12, 600), (3 * FEW, 60)])
def test_every_item_comes_everywhere_alike(size, keys):
    """Over many keys each item stands in each tenth of the order about as often."""
    parts = min(size, 10)
    at = np.zeros((parts, parts), int)
    for key in range(keys):
        order = Permutation(size, 5, key)(np.arange(size))
        np.add.at(at, (np.arange(size) * parts // size, order * parts // size), 1)
    share = np.bincount(np.arange(size) * parts // size)
    expected = keys * np.outer(share, share) / size
    assert (np.abs(at - expected) < 6 * np.sqrt(expected)).all()


def test_all_orders_of_few_items_come():
    seen = Counter(tuple(Permutation(4, key)(np.arange(4)).tolist()) for key in range(1200))
    assert len(seen) == 24
    assert min(seen.values()) > 15


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
def test_pools_hold_every_copy_at_most_once_in_batches_of_one_size(lengths, size, streams, seed):
    plan = PoolPlan(lengths, size, streams=streams, seed=seed)
    copies = np.concatenate(in_epoch(plan, 1))
    assert len(np.unique(copies)) == len(copies) == plan.batches * plan.smallest
    assert len(lengths) * streams - len(copies) < plan.smallest
    assert copies.max() < len(lengths) * streams


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.integers(1, 2000), st.integers(1, 3), st.integers(0, 99))
def test_batches_by_seconds_are_bounded_and_hold_every_copy_at_most_once(lengths, budget, streams, seed):
    plan = BucketPlan(lengths, budget, longest=same, streams=streams, seed=seed)
    for epoch in (0, 3):
        batches = in_epoch(plan, epoch)
        for batch in batches:
            longest = int(lengths[batch // streams].max())
            assert len(batch) * longest <= budget or len(batch) == 1
        copies = np.concatenate(batches)
        assert len(np.unique(copies)) == len(copies)
        assert copies.max() < len(lengths) * streams
        left_out = set(range(len(lengths) * streams)) - set(copies.tolist())
        last = plan.buckets[-1]
        assert len(left_out) < last.size
        assert all(lengths[copy // streams] <= np.sort(lengths)[::-1][last.first] for copy in left_out)
    assert plan.smallest == min(len(batch) for batch in batches)


@pytest.mark.parametrize(
    "make",
    [
        lambda lengths, seed: PoolPlan(lengths, 5, streams=1, seed=seed),
        lambda lengths, seed: BucketPlan(lengths, 900, longest=same, streams=1, seed=seed),
    ],
    ids=["pools", "seconds"],
)
def test_a_plan_follows_from_seed_and_step_alone(make):
    lengths = np.random.default_rng(1).integers(50, 300, 203).astype(np.uint32)
    plan = make(lengths, 7)
    steps = list(range(3 * plan.batches))
    found = [plan(step).tolist() for step in steps]
    for step in np.random.default_rng(2).permutation(steps)[:20]:  # as after restarts, in any order
        assert make(lengths, 7)(int(step)).tolist() == found[step]
    epochs = [found[epoch * plan.batches : (epoch + 1) * plan.batches] for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert make(lengths, 8)(0).tolist() != found[0]


def test_what_fits_no_batch_is_another_part_of_the_short_items_in_every_epoch():
    lengths = np.arange(100, 190, dtype=np.uint32)
    plan = BucketPlan(lengths, 1000, longest=same, streams=1, seed=1)
    left_out = [set(range(90)) - set(np.concatenate(in_epoch(plan, epoch)).tolist()) for epoch in range(40)]
    assert len({len(items) for items in left_out}) == 1
    assert len(set().union(*left_out)) > 3 * len(left_out[0])


def test_items_alike_in_length_meet_and_others_in_every_epoch():
    lengths = np.random.default_rng(3).integers(100, 2000, 4000).astype(np.uint32)
    plan = BucketPlan(lengths, 24_000, longest=same, streams=1, seed=1)
    batches = in_epoch(plan, 0)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    real = sum(int(lengths[batch].sum()) for batch in batches)
    assert real / padded > 0.9
    assert real / (24_000 * len(batches)) > 0.8  # the batches are full
    companions = [next(set(b.tolist()) for b in in_epoch(plan, epoch) if int(batches[0][0]) in b) for epoch in (1, 2)]
    assert len(companions[0] & companions[1]) < len(companions[0]) / 2
    means = [lengths[batch].mean() for batch in batches]
    neighbours = np.corrcoef(means[1:], means[:-1])[0, 1]
    assert abs(neighbours) < 0.2  # long and short batches are mixed


def test_an_item_longer_than_a_batch_is_a_batch_of_its_own():
    lengths = np.array([100, 5000, 90, 110, 95, 105], np.uint32)
    plan = BucketPlan(lengths, 1000, longest=same, streams=1, seed=1)
    assert plan.smallest == 1
    assert [1] in [batch.tolist() for batch in in_epoch(plan, 0)]


def test_equal_lengths_fill_their_batches_exactly():
    plan = BucketPlan(np.full(64, 250, np.uint32), 1000, longest=same, streams=1, seed=1)
    assert {len(batch) for batch in in_epoch(plan, 0)} == {4}
    assert plan.batches == 16


def test_a_pool_is_made_once_for_all_of_its_batches(monkeypatch):
    made = []
    original = PoolPlan._make_pool
    monkeypatch.setattr(PoolPlan, "_make_pool", lambda self, *key: made.append(key) or original(self, *key))
    plan = PoolPlan(np.ones(400, np.uint32), 5, streams=1, seed=1)
    in_epoch(plan, 0)
    assert made == [(0, pool) for pool in range(80 // BUCKET_BATCHES)]


def test_longer_than_recorded_is_reckoned_with():
    lengths = np.array([100] * 20, np.uint32)
    plan = BucketPlan(lengths, 1000, longest=lambda units: 2 * units, streams=1, seed=1)
    assert {len(batch) for batch in in_epoch(plan, 0)} == {5}


@pytest.mark.parametrize("size", [FEW, 2 * FEW])
def test_seeds_of_neighbours_have_nothing_in_common(size):
    orders = [Permutation(size, seed, epoch)(np.arange(size)) for seed in range(3) for epoch in range(3)]
    for one, two in itertools.combinations(orders, 2):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.15
