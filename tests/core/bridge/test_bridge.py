"""What is bridged, what is left, what is reported, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from kdcompress.bridge import build_bridge
from kdcompress.data.text import indispensable, unit_vocabulary, word_vocabulary
from kdcompress.errors import MismatchError
from tests.core.bridge.sides import CHARACTERS, LETTERS, random_log_probs, said, student, teacher, vocabulary

PHONES = word_vocabulary(["AH B AW T"])
SPEECH = frozenset({"log_probs", "hidden"})


def test_nothing_differs():
    bridge = build_bridge(student(), teacher(), set("abc"))
    assert bridge.report == ()
    assert bridge.gives == SPEECH


def test_rates_are_reported():
    bridge = build_bridge(student(rate=8000), teacher(rate=16000), set("abc"))
    assert bridge.report == ("the teacher hears 16000 Hz, the student 8000 Hz",)


@pytest.mark.parametrize(
    ("mine", "its", "words"),
    [
        (
            Fraction(12, 100),
            None,
            "the teacher hears the whole input, the student 120 ms ahead; the loss delay_tolerant",
        ),
        (Fraction(12, 100), Fraction(2, 10), "the teacher hears 200 ms ahead, the student 120 ms ahead"),
        (Fraction(12, 100), Fraction(12, 100), ""),
        (None, None, ""),
        (None, Fraction(1), ""),
    ],
)
def test_a_teacher_that_hears_further_is_reported(mine, its, words):
    report = build_bridge(student(lookahead=mine), teacher(lookahead=its), set("abc")).report
    assert (report[0].startswith(words) and "suit_teacher" in report[0]) if words else report == ()


def test_a_teacher_that_sees_the_text_is_no_question_of_hearing():
    assert build_bridge(student(lookahead=Fraction(0)), teacher(sees_labels=True), set("a")).report == ()


def test_everything_at_once_in_one_order():
    its = vocabulary("<unk>", *LETTERS.upper(), "'", "▁", "?")
    more = {"gives": SPEECH | {"occupancy", "codes"}, "frame_ms": 20, "rate": 16000}
    bridge = build_bridge(student(rate=8000, lookahead=Fraction(0)), teacher(its, **more), set("abc▁"))
    assert bridge.gives == SPEECH
    assert bridge.report[-1].startswith("the teacher hears the whole input, the student 0 ms ahead; the loss delay_to")
    assert bridge.report[:-1] == (
        "the teacher hears 16000 Hz, the student 8000 Hz",
        "28 of 30 tokens besides blank are shared after lower-casing",
        "dropped, and its share given to the others: '<unk>'",
        "not said, and becomes blank: '?'",
        "its occupancies are about labels in its own tokens, and are left out",
        "its codes are about frames of 20 ms, cannot be averaged into 40 ms, and are left out",
        "2 teacher frames of 20 ms are averaged into one of 40 ms",
    )
    assert (
        bridge.report
        == build_bridge(student(rate=8000, lookahead=Fraction(0)), teacher(its, **more), set("abc▁")).report
    )


def test_many_tokens_are_counted():
    its = vocabulary(*LETTERS, "▁", *map(str, range(10)), *"αβγδεζηθ")
    report = build_bridge(student(vocabulary(*LETTERS, "▁")), teacher(its), set("abc")).report
    assert report[1].endswith("'α', 'β' and 6 more")


def test_needed_symbols_that_the_teacher_lacks():
    its = vocabulary(*LETTERS[:-2].upper())
    with pytest.raises(MismatchError, match=r"runs/teacher: has no token for 'y', 'z', and .* normalise the texts"):
        build_bridge(student(), teacher(its), set("axyz"))
    with pytest.raises(MismatchError, match=r"'▁' \(▁ is the space between words, which it does not write\)"):
        build_bridge(student(), teacher(its), set("a▁"))
    with pytest.raises(MismatchError, match=r"has no token for 'é'"):
        build_bridge(student(vocabulary(*LETTERS, "é")), teacher(), set("aé"))
    with pytest.raises(MismatchError, match=r"has no token for 'q'"):
        build_bridge(student(), teacher(vocabulary("▁the", "▁a", "b"), "subwords"), set("abq"))
    with pytest.raises(MismatchError, match=r"has no token for '▁no'"):
        build_bridge(student(word_vocabulary(["yes no"]), "words"), teacher(word_vocabulary(["yes"]), "words"), {"▁no"})


@pytest.mark.parametrize(
    ("mine", "its", "remedy"),
    [
        (
            (CHARACTERS, "characters"),
            (PHONES, "words"),
            "tokens are phones, the student's letters, .* data.units to words",
        ),
        (
            (PHONES, "words"),
            (CHARACTERS, "characters"),
            "tokens are letters, the student's phones, .* texts in letters",
        ),
        ((PHONES, "words"), (vocabulary("▁the", "a"), "subwords"), "take a teacher of phones"),
    ],
)
def test_phones_and_letters_are_not_bridged(mine, its, remedy):
    with pytest.raises(MismatchError, match=remedy):
        build_bridge(student(*mine), teacher(*its), set())


def test_phones_in_another_spelling():
    stressed = word_vocabulary(["ah0 b aw1 aw2 t <sil>"])
    bridge = build_bridge(student(PHONES, "words"), teacher(stressed, "words"), set(PHONES.symbols[1:]))
    assert bridge.gives == SPEECH
    p = random_log_probs(1, 2, len(stressed)).exp()
    found = bridge(said(p.log()), torch.tensor([2])).log_probs.exp()
    both = p[..., stressed.symbols.index("▁aw1")] + p[..., stressed.symbols.index("▁aw2")]
    torch.testing.assert_close(found[..., PHONES.symbols.index("▁AW")], both)
    torch.testing.assert_close(found[..., 0], p[..., 0] + p[..., stressed.symbols.index("▁<sil>")])


def test_a_teacher_that_says_nothing_of_tokens_may_have_any():
    for gives in ({"hidden"}, {"codes"}, {"hidden", "codes"}):
        bridge = build_bridge(student(), teacher(PHONES, "words", gives=frozenset(gives)), set("abc"))
        assert bridge.gives == gives
        assert bridge.report == ()


def test_occupancies_of_another_spelling():
    its = vocabulary(*LETTERS.upper(), "▁")
    with pytest.raises(MismatchError, match=r"occupancies are about labels in its own tokens, .* label its posteriors"):
        build_bridge(student(), teacher(its, gives=frozenset({"occupancy"})), set("abc"))
    same = build_bridge(student(), teacher(gives=frozenset({"occupancy"}), frame_ms=20), set("abc"))
    occupancy = torch.rand(1, 8, 3)
    found = same(said(occupancy=occupancy), torch.tensor([4])).occupancy
    torch.testing.assert_close(found, occupancy.view(1, 4, 2, 3).mean(dim=2))


def test_occupancies_of_subwords_that_are_cut_differently():
    mine, its = vocabulary("a", "b", "c", "ab", "bc"), vocabulary("a", "b", "c", "bc", "ab")
    bridge = build_bridge(student(mine, "subwords"), teacher(its, "subwords", gives=SPEECH | {"occupancy"}), set("abc"))
    assert bridge.gives == SPEECH


def test_hidden_comes_in_the_students_frames_and_the_teachers_width():
    its = vocabulary("▁the", "▁a", "b")
    bridge = build_bridge(student(), teacher(its, "subwords", frame_ms=20), set("ab"))
    blocks = (torch.randn(2, 8, 5), torch.randn(2, 8, 3))
    found = bridge(said(random_log_probs(2, 8, 4), hidden=blocks), torch.tensor([4, 4]))
    for block, one in zip(blocks, found.hidden, strict=True):
        torch.testing.assert_close(one, block.view(2, 4, 2, -1).mean(dim=2))


@pytest.mark.parametrize("units", ["characters", "words", "subwords"])
def test_what_a_student_learns_its_tokens_from_can_be_written(units):
    """``needed`` as the trainer works it out, with a teacher of upper-case letters."""
    texts = ["the cat", "a hat that sat"]
    mine = unit_vocabulary(texts, units, 12)
    bridge = build_bridge(student(mine, units), teacher(vocabulary(*LETTERS.upper(), "▁")), indispensable(texts, units))
    assert bridge.gives == (SPEECH if units == "characters" else {"hypotheses"})


def test_words_of_a_tiny_language_are_no_phones():
    words = word_vocabulary(["ab", "ba c", "ca", "a", "cc", "abc", "bb"])
    assert build_bridge(student(), teacher(words, "words"), set("abc▁")).gives == {"hypotheses"}
