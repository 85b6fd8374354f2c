"""Characters of a subword teacher: what they spell, where they stand, and what else they could have been."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.bridge import build_bridge
from kdcompress_runtime.vocabulary import Vocabulary
from tests.core.bridge.sides import (
    CHARACTERS,
    collapsed,
    path_log_probs,
    random_log_probs,
    said,
    student,
    teacher,
    vocabulary,
)

PIECES = vocabulary("▁", *"abehlotr", "▁the", "▁he", "llo", "▁a", "ll", "e▁b", "▁The", "er")
IDS = {symbol: index for index, symbol in enumerate(PIECES.symbols)}
SPACE = CHARACTERS.symbols.index("▁")


def bridge(mine=40, its=40, tokens=PIECES, to=CHARACTERS):
    return build_bridge(student(to, frame_ms=mine), teacher(tokens, "subwords", frame_ms=its), {"a", "e"})


def path(*spikes: tuple[int, str], frames: int, hold: int = 1) -> list[int]:
    found = [0] * frames
    for frame, symbol in spikes:
        found[frame : frame + hold] = [IDS[symbol]] * hold
    return found


def spelled(log_probs, item=0):
    """Best character of each frame; ``.`` for blank."""
    return "".join("." if index == 0 else CHARACTERS.symbols[index] for index in log_probs[item].argmax(dim=1).tolist())


def brought(*paths, mine=40, its=40, **more):
    log_probs = path_log_probs(list(paths), len(PIECES), **more)
    lens = [len(one) for one in paths]
    plan = bridge(mine, its)
    return plan, plan(said(log_probs, lens), torch.tensor([n * its // mine for n in lens])).log_probs


def test_a_word_stands_around_its_spike():
    plan, found = brought(path((6, "▁he"), (10, "o"), frames=16))
    assert spelled(found) == ".....h.e..o....."
    assert plan.tally.sentences() == ()
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(1, 16))


def test_spaces_are_those_of_the_text():
    """None at its ends, and one between words, whatever the teacher says."""
    _, found = brought(path((2, "▁"), (4, "▁a"), (9, "▁"), (12, "▁the"), (17, "▁"), (19, "▁"), frames=22))
    assert collapsed(found[0], 22, CHARACTERS) == "a the"
    assert spelled(found).replace(".", "") == "a▁the"


@pytest.mark.parametrize("frame", range(9))
def test_a_token_of_one_character_keeps_its_frame(frame):
    _, found = brought(path((frame, "b"), frames=9))
    assert spelled(found) == "." * frame + "b" + "." * (8 - frame)


def test_single_characters_keep_their_frames_among_others():
    spikes = [(1, "h"), (2, "e"), (4, "l"), (6, "l"), (9, "o")]
    _, found = brought(path(*spikes, frames=10))
    assert [spelled(found)[frame] for frame, _ in spikes] == list("hello")


def test_a_held_token_is_one_and_stands_where_it_is_surest():
    log_probs = path_log_probs([path((3, "b"), frames=8, hold=3)], len(PIECES), sure=0.7)
    log_probs[0, 4, IDS["b"]] += 0.2
    found = bridge()(said(log_probs), torch.tensor([8])).log_probs
    assert spelled(found) == "....b..."


def test_equal_letters_have_a_blank_between_them():
    _, found = brought(path((0, "▁he"), (2, "ll"), (4, "o"), frames=6))
    assert spelled(found) == "hel.lo"
    assert collapsed(found[0], 6, CHARACTERS) == "hello"


def test_letters_take_frames_from_their_neighbours():
    _, found = brought(path((0, "▁a"), (3, "▁the"), (4, "▁he"), (5, "llo"), frames=13))
    assert collapsed(found[0], 13, CHARACTERS) == "a the hello"


def test_pauses_are_not_spelled_into():
    """Three seconds of silence before and after: letters stay as close as they are elsewhere."""
    spikes = [(80 + 8 * k, symbol) for k, symbol in enumerate(["▁the", "▁he", "llo", "▁the"])]
    _, found = brought(path(*spikes, frames=190))
    frames = [frame for frame, letter in enumerate(spelled(found)) if letter != "."]
    assert spelled(found).replace(".", "") == "the▁hello▁the"
    assert min(frames) >= 74
    assert max(frames) <= 80 + 8 * 3 + 6


def test_too_few_frames_leave_out_the_least_certain_tokens_and_say_so():
    tokens = [IDS[symbol] for symbol in ("▁the", "llo", "▁he", "▁a")]
    log_probs = path_log_probs([tokens], len(PIECES), sure=0.9)
    log_probs[0, range(4), tokens] = torch.tensor([0.95, 0.6, 0.9, 0.85]).log()
    plan = bridge()
    found = plan(said(log_probs), torch.tensor([4])).log_probs  # "thello he a" has eleven letters
    assert plan.tally.characters == 11
    assert spelled(found).replace(".", "") == "the"
    assert plan.tally.crowded == 8
    assert plan.tally.sentences()[0].startswith("8 of 11 characters were left out")


def test_alternatives_share_the_places():
    """70 % "▁he", 20 % "▁a", 10 % "▁the": two letters; "▁a" has no second one, and "▁the" a third that is cut."""
    p = torch.zeros(1, 12, len(PIECES))
    p[..., 0] = 1
    p[0, 3] = 0
    p[0, 3, IDS["▁a"]] = 1
    p[0, 8] = 0
    p[0, 8, [IDS["▁he"], IDS["▁a"], IDS["▁the"]]] = torch.tensor([0.35, 0.1, 0.05])
    p[0, 8, 0] = 0.2
    found = bridge()(said(p.log()), torch.tensor([12])).log_probs.exp()[0]
    rows = [found[frame] for frame in range(5, 12) if float(found[frame, 0]) < 0.9]
    columns = {letter: CHARACTERS.symbols.index(letter) for letter in "aeht"}
    assert len(rows) == 3
    assert float(rows[0][SPACE]) == pytest.approx(1)
    assert [float(rows[1][columns[letter]]) for letter in "hat"] == pytest.approx([0.7, 0.2, 0.1])
    assert [float(rows[2][columns[letter]]) for letter in "eh"] == pytest.approx([0.7, 0.1])
    assert float(rows[2][0]) == pytest.approx(0.2)


def test_the_space_is_apart_from_the_letters():
    """ "▁he" beside "er": they share no place by their number, and "er" has no space."""
    p = torch.zeros(1, 9, len(PIECES))
    p[..., 0] = 1
    p[0, 1] = torch.nn.functional.one_hot(torch.tensor(IDS["b"]), len(PIECES))
    p[0, 5] = 0
    p[0, 5, IDS["▁he"]], p[0, 5, IDS["er"]] = 0.6, 0.4
    found = bridge()(said(p.log()), torch.tensor([9])).log_probs.exp()[0]
    rows = found[2:][found[2:, 0] < 0.9]
    assert float(rows[0][SPACE]) == pytest.approx(0.6)
    assert float(rows[0][0]) == pytest.approx(0.4)
    assert float(rows[1][CHARACTERS.symbols.index("e")]) == pytest.approx(0.4)
    assert float(rows[2][CHARACTERS.symbols.index("r")]) == pytest.approx(0.4)


def test_spellings_that_differ_by_case_are_one_token():
    tokens = path((3, "▁the"), frames=8)
    tokens[4] = IDS["▁The"]
    _, found = brought(tokens)
    assert spelled(found).replace(".", "") == "the"


def test_what_cannot_be_written_is_not_there():
    its = vocabulary("▁the", "▁a", "<unk>", "▁7", ",")
    plan = build_bridge(student(), teacher(its, "subwords"), {"a"})
    assert "'▁7'" in plan.report[2]
    p = torch.zeros(1, 9, 6)
    p[..., 0] = 1
    p[0, 2], p[0, 5], p[0, 7] = 0, 0, 0
    p[0, 2, 3], p[0, 2, 2] = 0.9, 0.1  # <unk>, and "▁a"
    p[0, 5, 5] = 1  # a comma
    p[0, 7, 4], p[0, 7, 0] = 0.8, 0.2  # "▁7"
    found = plan(said(p.log()), torch.tensor([9])).log_probs
    assert spelled(found) == "..a......"


@pytest.mark.parametrize(("mine", "its"), [(40, 20), (40, 30), (20, 80), (40, 40)])
def test_they_stand_in_the_students_frames(mine, its):
    """A spike in the middle of the teacher's frame k is in the student's frame of the same moment."""
    for frame in (2, 5, 9):
        _, found = brought(path((frame, "b"), frames=12), mine=mine, its=its)
        assert spelled(found).index("b") == int((frame + 0.5) * its / mine)


def test_speed_and_lead_in():
    log_probs = path_log_probs([path((4, "b"), frames=10)], len(PIECES))
    times = torch.tensor([[1.25, 0.1]], dtype=torch.float64)
    found = bridge()(said(log_probs, times=times), torch.tensor([10])).log_probs
    assert spelled(found).index("b") == int((4.5 * 0.04 + 0.1) / 1.25 / 0.04)


words = st.lists(
    st.tuples(st.sampled_from([symbol for symbol in PIECES.symbols[1:] if symbol != "▁The"]), st.integers(1, 3)),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(batch=st.lists(words, min_size=1, max_size=3), ratio=st.sampled_from([(40, 40), (40, 20), (20, 40)]))
def test_a_sure_teacher_is_spelled_exactly(batch, ratio):
    """With room for all letters, greedy collapse of the targets is the teacher's text, and rows sum to one."""
    mine, its = ratio
    paths, texts = [], []
    for tokens in batch:
        frames = [0] * 4
        for symbol, hold in tokens:
            frames += [IDS[symbol]] * hold + [0] * 18
        paths.append(frames)
        texts.append(PIECES.text(IDS[symbol] for symbol, _ in tokens))
    plan, found = brought(*paths, mine=mine, its=its)
    assert plan.tally.crowded == 0
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(found.shape[:2]))
    for item, text in enumerate(texts):
        assert collapsed(found[item], len(paths[item]) * its // mine, CHARACTERS) == text


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(1, 12), lens=st.tuples(st.integers(0, 24), st.integers(0, 24)))
def test_any_teacher_gives_distributions(seed, frames, lens):
    """Noise, crowded items and empty ones: rows sum to one, and what is counted is what is missing."""
    log_probs = random_log_probs(2, 24, len(PIECES), seed=seed, sharpness=4)
    plan = bridge(40, 20)
    lens = [min(n, 2 * frames + 2) for n in lens]
    student_lens = torch.tensor([(n + 1) // 2 for n in lens])
    found = plan(said(log_probs, lens), student_lens).log_probs
    assert found.shape == (2, int(student_lens.max()), len(CHARACTERS))
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(found.shape[:2]))
    for item, length in enumerate(student_lens.tolist()):
        assert set(found[item, length:].argmax(dim=1).tolist()) <= {0}
    assert 0 <= plan.tally.crowded <= plan.tally.characters


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_marginals_against_a_sum_over_tokens(seed):
    """One frame, one token: the distribution at each place is summed token by token."""
    log_probs = random_log_probs(1, 1, len(PIECES), seed=seed)
    log_probs[..., 0] -= 9
    plan = bridge(5, 40)
    found = plan(said(log_probs), torch.tensor([8])).log_probs.exp()[0]
    p = log_probs[0, 0].exp()
    q = p[1:] / p[1:].sum()
    best = max(IDS, key=lambda symbol: _written(symbol, p))
    places = [place for place in range(8) if float(found[place, 0]) < 1 - 1e-6]
    letters = best.lower().removeprefix("▁")
    assert len(places) <= max(len(letters), 1)
    for place, index in zip(places, range(len(letters)), strict=False):
        expected = dict.fromkeys(CHARACTERS.symbols, 0.0)
        for symbol, share in zip(PIECES.symbols[1:], q.tolist(), strict=True):
            rest = symbol.lower().removeprefix("▁")
            expected[rest[index] if index < len(rest) else "<blk>"] += share
        assert found[place].tolist() == pytest.approx(list(expected.values()), abs=1e-5)


def _written(symbol, p):
    return -1.0 if symbol == "<blk>" else float(p[IDS[symbol]])


def test_another_blank_and_no_spaces():
    its = Vocabulary(("▁ab", "c", "<blk>"))
    mine = Vocabulary(("c", "b", "<blk>", "a"))
    plan = build_bridge(student(mine), teacher(its, "subwords"), {"a", "b", "c"})
    p = torch.zeros(1, 6, 3)
    for frame, token in enumerate([2, 0, 2, 2, 1, 2]):
        p[0, frame, token] = 1
    found = plan(said(p.log()), torch.tensor([6])).log_probs[0].argmax(dim=1).tolist()
    assert [mine.symbols[token] for token, _ in itertools.groupby(found) if token != 2] == ["a", "b", "c"]


def test_what_is_reported():
    found = build_bridge(student(), teacher(PIECES, "subwords", frame_ms=80), {"a", "▁"})
    assert found.gives == {"log_probs", "hidden"}
    spelling, frames = found.report
    assert spelling.startswith("17 of 17 subwords are spelled in the student's characters after lower-casing: these")
    assert frames == "characters stand in the student's frames of 40 ms, subwords in the teacher's of 80 ms"
