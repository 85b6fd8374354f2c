"""Growing the tree: gains against brute force, the count, the occupancy, unseen contexts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kdcompress.units.senones import SILENCE, grow
from kdcompress.units.senones.growing import root_numbers
from kdcompress.units.senones.moments import (
    CENTRE,
    LEFT,
    RIGHT,
    likelihood_under,
    log_likelihood,
    statistics_of,
)
from kdcompress.units.senones.questions import masks_of, questions_for
from kdcompress_runtime.errors import OptionsError
from tests.core.senones.cases import PHONES, moments_of, random_rows, random_statistics

EVERYTHING = np.array(
    [*itertools.product(range(len(PHONES) + 1), range(len(PHONES)), range(len(PHONES) + 1), range(3))]
)


def density(frames: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> float:
    return float(-0.5 * (np.log(2 * np.pi * variance) + (frames - mean) ** 2 / variance).sum())


def test_likelihood_is_that_of_the_frames_one_by_one():
    rng = np.random.default_rng(0)
    frames, others = rng.normal(2.0, 3.0, (40, 5)), rng.normal(1.0, 2.0, (25, 5))
    floor = np.full(5, 1e-6)
    expected = density(frames, frames.mean(axis=0), frames.var(axis=0))
    assert log_likelihood(moments_of(frames), floor) == pytest.approx(expected, rel=1e-12)
    held_out = density(others, frames.mean(axis=0), frames.var(axis=0))
    assert likelihood_under(moments_of(others), moments_of(frames), floor) == pytest.approx(held_out, rel=1e-12)
    wide = np.full(5, 20.0)
    assert log_likelihood(moments_of(frames), wide) == pytest.approx(density(frames, frames.mean(axis=0), wide))
    assert log_likelihood(np.zeros(11), floor) == 0


def test_first_splits_are_the_best_of_all_questions_by_brute_force():
    keys, visits, moments, frames = random_rows(np.random.default_rng(1))
    statistics = statistics_of(PHONES, 1, keys, visits, moments)
    questions = questions_for(statistics)
    table = masks_of(questions, PHONES)
    gains = {}
    for phone, column, row in itertools.product(range(len(PHONES)), (LEFT, RIGHT), range(len(questions))):
        mine = [place for place, key in enumerate(keys) if key[CENTRE] == phone]
        sides = [[frames[place] for place in mine if table[row, keys[place, column]] == answer] for answer in (1, 0)]
        if min(sum(map(len, side)) for side in sides) < 60:
            continue
        parts = [np.concatenate(side) for side in (*sides, sides[0] + sides[1])]
        yes, no, both = (density(part, part.mean(axis=0), part.var(axis=0)) for part in parts)
        gains[phone, column, row] = yes + no - both
    growth = grow(statistics, len(PHONES) + 1, min_frames=60)
    best = max(gains, key=lambda key: gains[key])
    (asked,) = growth.asked
    assert asked.gain == pytest.approx(gains[best], rel=1e-9)
    assert (asked.phone, asked.factor) == (PHONES[best[0]], best[1])
    ties = [questions[key[2]].name for key in gains if key[:2] == best[:2] and gains[key] > gains[best] - 1e-6]
    assert asked.question == ties[0]
    assert growth.likelihood - growth.root_likelihood == pytest.approx(asked.gain, rel=1e-9)


def test_gains_add_up_and_come_best_first_among_what_is_open():
    statistics = random_statistics(2, states=2)
    growth = grow(statistics, 40, min_frames=20)
    leaf = growth.tree.leaves(statistics.contexts)
    whole = sum(
        float(log_likelihood(statistics.moments[leaf == one].sum(axis=0), statistics.floor))
        for one in range(len(growth.tree))
    )
    assert growth.likelihood == pytest.approx(whole, rel=1e-12)
    assert growth.likelihood - growth.root_likelihood == pytest.approx(sum(asked.gain for asked in growth.asked))
    assert growth.asked[0].gain == max(asked.gain for asked in growth.asked)
    more = grow(statistics, 55, min_frames=20)
    assert more.asked[: len(growth.asked)] == growth.asked


@pytest.mark.parametrize("count", [1, 3, 7, 8, 13, 21, 22, 40])
def test_count_is_exact_whatever_is_shared(count):
    statistics = random_statistics(3, states=3, contexts=400)
    growth = grow(statistics, count, min_frames=10)
    tree = growth.tree
    assert len(tree) == count
    assert growth.roots == len(np.unique(root_numbers(7, 3, count)))
    assert sorted(tree.question[tree.factor < 0].tolist()) == list(range(count))
    leaf = tree.leaves(statistics.contexts)
    assert tree.leaf_frames == pytest.approx(np.bincount(leaf, weights=statistics.frames, minlength=count))
    assert tree.leaf_visits == pytest.approx(np.bincount(leaf, weights=statistics.visits, minlength=count))
    if count >= 7:
        assert (tree.leaf_phone[leaf] == statistics.contexts[:, CENTRE]).all()
    if count >= 21:
        assert (tree.leaf_state[leaf] == statistics.contexts[:, 3]).all()


def test_no_split_leaves_less_than_asked_and_growing_stops_there():
    statistics = random_statistics(4)
    growth = grow(statistics, 10_000, min_frames=80)
    assert len(growth.tree) < 10_000
    whole = np.bincount(statistics.contexts[:, CENTRE], weights=statistics.frames)
    split = whole[growth.tree.leaf_phone] > growth.tree.leaf_frames
    assert (growth.tree.leaf_frames[split] >= 80).all()
    assert len(grow(statistics, 10_000, min_frames=20).tree) > len(growth.tree)


def test_order_of_the_rows_changes_nothing():
    rng = np.random.default_rng(5)
    keys, visits, moments, _ = random_rows(rng, 300, 2)
    whole = statistics_of(PHONES, 2, keys, visits, moments)
    assert len(whole.contexts) < len(keys)  # some rows are of the same context
    tree = grow(whole, 60, min_frames=20).tree.to_json()
    for _ in range(3):
        order = rng.permutation(len(keys))
        again = statistics_of(PHONES, 2, keys[order], visits[order], moments[order])
        assert (again.moments == whole.moments).all()
        assert grow(again, 60, min_frames=20).tree.to_json() == tree


def test_every_context_has_a_leaf_of_its_phone_and_state():
    statistics = random_statistics(6, states=3, contexts=60)
    tree = grow(statistics, 30, min_frames=10).tree
    leaf = tree.leaves(EVERYTHING)
    assert ((leaf >= 0) & (leaf < len(tree))).all()
    assert (tree.leaf_phone[leaf] == EVERYTHING[:, CENTRE]).all()
    assert (tree.leaf_state[leaf] == EVERYTHING[:, 3]).all()
    assert tree.leaves(np.zeros((0, 4), dtype=np.int64)).shape == (0,)


def test_a_phone_that_was_never_heard_is_a_leaf_without_frames():
    keys, visits, moments, _ = random_rows(np.random.default_rng(7), 100, 1)
    heard = keys[:, CENTRE] != PHONES.index("M")
    statistics = statistics_of(PHONES, 1, keys[heard], visits[heard], moments[heard])
    tree = grow(statistics, 12, min_frames=10).tree
    (nasal,) = np.flatnonzero(tree.leaf_phone == PHONES.index("M"))
    assert tree.leaf_frames[nasal] == 0
    assert tree.leaves(np.array([[0, PHONES.index("M"), 2, 0]])).tolist() == [nasal]
    assert len(tree) == 12


def test_unseen_neighbours_answer_as_their_class_does():
    """Frames of AH differ after stops; T was never seen before it, and goes with B and D."""
    rng = np.random.default_rng(8)
    after = {"B": 3.0, "D": 3.0, "M": -1.0, "S": -1.0, "IY": -1.0}
    keys = np.array([[PHONES.index(left), 0, len(PHONES), 0] for left in after])
    moments = np.array([moments_of(rng.normal(mean, 1.0, (200, 2))) for mean in after.values()])
    tree = grow(statistics_of(PHONES, 1, keys, np.ones(5), moments), 8, min_frames=50).tree
    stop, nasal, unseen = tree.leaves(np.array([[PHONES.index(left), 0, 7, 0] for left in ("B", "M", "T")]))
    assert unseen == stop != nasal


def test_what_cannot_be_grown_is_said():
    statistics = random_statistics(9)
    with pytest.raises(OptionsError, match="must be positive"):
        grow(statistics, 0)
    with pytest.raises(OptionsError, match="must be positive"):
        grow(statistics, 10, min_frames=0)
    nothing = statistics_of(PHONES, 1, np.zeros((0, 4), dtype=np.int64), np.zeros(0), np.zeros((0, 7)))
    with pytest.raises(OptionsError, match="no frame"):
        grow(nothing, 10)


def test_phonetic_questions_are_of_classes_and_single_phones_with_stress_or_without():
    questions = {question.name: question.members for question in questions_for(random_statistics(10))}
    assert questions["vowel"] == ("AH", "IY")
    assert questions["alveolar stop"] == ("D", "T")
    assert questions[SILENCE] == (SILENCE,)
    assert len(set(questions.values())) == len(questions)
    keys, visits, moments, _ = random_rows(np.random.default_rng(11), phones=("AH0", "AH1", "T"))
    stressed = questions_for(statistics_of(("AH0", "AH1", "T"), 1, keys, visits, moments))
    assert ("AH0", "AH1") in {question.members for question in stressed}


def test_classes_of_other_phones_are_found_in_the_data():
    phones = ("ka", "ki", "na", "ni")
    means = {"ka": -5.0, "ki": -4.5, "na": 4.0, "ni": 5.0}
    rng = np.random.default_rng(12)
    keys = np.array([[4, phone, 4, 0] for phone in range(4)])
    moments = np.array([moments_of(rng.normal(means[phone], 1.0, (300, 2))) for phone in phones])
    members = {question.members for question in questions_for(statistics_of(phones, 1, keys, np.ones(4), moments))}
    assert {("ka", "ki"), ("na", "ni")} < members
    assert {("ka",), ("sil",), ("ka", "ki", "na", "ni")} < members
    assert len(members) == 8
