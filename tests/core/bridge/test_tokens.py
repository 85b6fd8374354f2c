"""Tokens that have their counterpart: in another order, or several that fold into one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.bridge import build_bridge
from kdcompress.bridge.spelling import Spelling
from kdcompress.bridge.tokens import fates, token_map
from kdcompress.losses.base import Hypotheses
from kdcompress_runtime.vocabulary import Vocabulary
from tests.core.bridge.sides import CHARACTERS, random_log_probs, said, student, teacher, vocabulary

ABC = vocabulary("a", "b", "c", "▁")


def brought(its, log_probs, mine=ABC, units="characters"):
    bridge = build_bridge(student(mine, units), teacher(its, units), {"a", "b"})
    return bridge, bridge(said(log_probs), torch.tensor([log_probs.shape[1]] * len(log_probs))).log_probs


def test_the_same_tokens_need_nothing():
    log_probs = random_log_probs(2, 4, 5)
    bridge, found = brought(ABC, log_probs)
    assert bridge.report == ()
    assert bridge.gives == {"log_probs", "hidden"}
    assert found.data_ptr() == log_probs.data_ptr()


@given(order=st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_another_order_and_another_blank(order):
    its = Vocabulary(tuple(ABC.symbols[index] for index in order))
    log_probs = random_log_probs(2, 4, 5)
    bridge, found = brought(its, log_probs)
    for column, symbol in enumerate(ABC.symbols):
        assert torch.equal(found[..., column], log_probs[..., its.symbols.index(symbol)])
    assert bridge.report == (() if its == ABC else ("the same tokens in another order",))


def test_texts_and_occupancies_of_another_order():
    its = Vocabulary(("▁", "c", "<blk>", "b", "a"))
    bridge = build_bridge(student(ABC), teacher(its, gives=frozenset({"hypotheses", "occupancy"})), {"a"})
    assert bridge.gives == {"hypotheses", "occupancy"}
    texts = Hypotheses(torch.tensor([0]), torch.tensor([[4, 0, 3]]), torch.tensor([3]), torch.ones(1))
    occupancy = torch.rand(1, 4, 3)
    found = bridge(said(occupancy=occupancy, hypotheses=texts), torch.tensor([4]))
    assert found.hypotheses.labels.tolist() == [[1, 4, 2]]
    assert torch.equal(found.occupancy, occupancy)


def test_two_cases_fold_into_one_and_their_probabilities_add():
    its = vocabulary("A", "a", "B", "b", "c", "▁")
    log_probs = random_log_probs(2, 3, 7)
    bridge, found = brought(its, log_probs)
    p = log_probs.exp()
    expected = torch.stack([p[..., 0], p[..., 1] + p[..., 2], p[..., 3] + p[..., 4], p[..., 5], p[..., 6]], dim=2)
    torch.testing.assert_close(found.exp(), expected)
    assert bridge.report == ("6 of 6 tokens besides blank are shared after lower-casing",)


def test_what_is_not_said_is_blank_and_what_is_special_is_dropped():
    its = vocabulary("a", "b", "c", "▁", ",", "?", "<unk>", "7")
    log_probs = random_log_probs(2, 3, 9)
    bridge, found = brought(its, log_probs)
    p = log_probs.exp()
    kept = p[..., :5].clone()
    kept[..., 0] += p[..., 5] + p[..., 6]
    torch.testing.assert_close(found.exp(), kept / kept.sum(dim=2, keepdim=True))
    assert bridge.report == (
        "4 of 8 tokens besides blank are shared",
        "dropped, and its share given to the others: '<unk>'",
        "not written by the student, and dropped in the same way: '7'",
        "not said, and becomes blank: ',', '?'",
    )


def test_a_frame_of_which_nothing_is_left_is_blank():
    its = vocabulary("a", "b", "<unk>")
    log_probs = torch.tensor([[[0.0, 0.0, 0.0, 1.0], [0.0, 0.2, 0.0, 0.8]]]).log()
    _, found = brought(its, log_probs, vocabulary("a", "b"))
    torch.testing.assert_close(found.exp(), torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]))
    assert torch.isfinite(found).all()


def test_a_student_without_spaces():
    its = vocabulary("a", "b", "▁")
    bridge, found = brought(its, random_log_probs(1, 3, 4), vocabulary("b", "a"))
    assert bridge.report[-1] == "the student writes no space between words: it becomes blank"
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(1, 3))


def test_words_fold_into_words():
    its, mine = vocabulary("▁YES", "▁NO", "▁MAYBE"), vocabulary("▁no", "▁yes")
    bridge = build_bridge(student(mine, "words"), teacher(its, "words"), {"▁no", "▁yes"})
    assert bridge.gives == {"log_probs", "hidden"}
    assert "'▁MAYBE'" in bridge.report[1]
    log_probs = random_log_probs(1, 2, 4)
    found = bridge(said(log_probs), torch.tensor([2])).log_probs
    torch.testing.assert_close(found, log_probs[..., [0, 2, 1]].log_softmax(dim=2))


def test_subwords_fold_where_each_has_its_counterpart():
    its, mine = vocabulary("▁", "A", "B", "▁A", "<unk>"), vocabulary("a", "b", "▁", "▁a")
    bridge = build_bridge(student(mine, "subwords"), teacher(its, "subwords"), {"a", "b", "▁"})
    assert "log_probs" in bridge.gives
    more = vocabulary("▁", "A", "B", "▁A", "AB")
    assert build_bridge(student(mine, "subwords"), teacher(more, "subwords"), {"a"}).gives == {"hypotheses"}


def test_tokens_before_frames():
    """What is dropped is shared out in each of the teacher's frames, before they are averaged."""
    its = vocabulary("A", "B", "<unk>")
    bridge = build_bridge(student(vocabulary("a", "b")), teacher(its, frame_ms=20), {"a"})
    log_probs = random_log_probs(2, 6, 4)
    log_probs[1, 4:] = torch.nan
    found = bridge(said(log_probs, [6, 4]), torch.tensor([3, 2])).log_probs.exp()
    kept = log_probs[..., :3].log_softmax(dim=2).exp()
    blank = its.blank_id
    torch.testing.assert_close(found[0, :, 0], kept[0, :, blank].view(3, 2).prod(dim=1))
    torch.testing.assert_close(found[1, :2, 0], kept[1, :4, blank].view(2, 2).prod(dim=1))
    means = kept[0].view(3, 2, 3).mean(dim=1)
    torch.testing.assert_close(found[0, :, 1] / found[0, :, 2], means[:, 1] / means[:, 2])
    assert found[1, 2].tolist() == pytest.approx([1, 0, 0])


@settings(max_examples=40, deadline=None)
@given(
    symbols=st.lists(
        st.sampled_from([*"ABCabcéÉxyz,.!-7", "<s>", "▁", "|", "ß", "[UNK]", "'"]), min_size=1, max_size=12, unique=True
    ),
    blank=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_mass_sums_to_one_and_goes_where_fates_say(symbols, blank, seed):
    symbols.insert(min(blank, len(symbols)), "<blk>")
    its = Vocabulary(tuple(symbols))
    found = fates(its, Spelling(CHARACTERS, "characters"))
    names = [*found.shared, *found.spelled, *found.silent, *found.special, *found.lacking]
    assert sorted([*names, "<blk>"]) == sorted(symbols)
    p = random_log_probs(2, 3, len(symbols), seed=seed).exp()
    moved = token_map(its, CHARACTERS, found).added(p)
    torch.testing.assert_close(moved.sum(dim=2), torch.ones(2, 3))
    expected = torch.zeros(2, 3, len(CHARACTERS))
    for column, symbol in enumerate(symbols):
        if symbol in found.shared:
            expected[..., CHARACTERS.symbols.index(found.shared[symbol])] += p[..., column]
        elif symbol == "<blk>" or symbol in found.silent:
            expected[..., 0] += p[..., column]
    torch.testing.assert_close(moved, expected / expected.sum(dim=2, keepdim=True))
