"""Graphones against every way to cut a word, the model against every way to say one, and what it refuses."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.errors import VocabularyError
from kdcompress.units.g2p import BOS_ID, EOS_ID, GraphoneModel
from kdcompress.units.graphones import SHAPES, align
from kdcompress.units.lexicon_file import open_pronouncer
from kdcompress.units.opening import open_inventory
from kdcompress.units.phones import PhoneInventory

RULES = {"a": "AE", "b": "B", "k": "K", "s": "S", "t": "T", "i": "IH", "x": "K S", "sh": "SH", "th": "TH", "ck": "K"}
SPELLINGS = ("a", "b", "k", "s", "t", "i", "x", "sh", "th", "ck")


def invented() -> dict[str, tuple[str, ...]]:
    """A language whose letters say how a word is said; e is silent."""
    entries = {}
    for parts in itertools.product(
        ("b", "sh", "th", "t", "s", ""), ("a", "i"), ("ck", "x", "t", "sh", "k", "th"), ("", "e")
    ):
        word = "".join(parts)
        entries[word] = tuple(phone for part in parts for phone in RULES.get(part, "").split())
    return entries


ENTRIES = invented()
HELD = sorted(ENTRIES)[::7]
MODEL = GraphoneModel.learn({word: said for word, said in ENTRIES.items() if word not in HELD})


def cuts(letters: int, phones: int):
    """Every sequence of shapes for a word."""
    if letters == 0:
        if phones == 0:
            yield ()
        return
    for shape in SHAPES:
        if shape[0] <= letters and shape[1] <= phones:
            for rest in cuts(letters - shape[0], phones - shape[1]):
                yield (shape, *rest)


def test_rules_are_learned_and_hold_for_words_never_seen():
    assert MODEL(HELD) == [ENTRIES[word] for word in HELD]


def test_letters_are_cut_as_they_are_said():
    found = {one.word: one for one in align(ENTRIES)}
    assert found["shicke"].graphones() == [("sh", ("SH",)), ("i", ("IH",)), ("ck", ("K",)), ("e", ())] or (
        "".join(letters for letters, _ in found["shicke"].graphones()) == "shicke"
    )
    assert ("x", ("K", "S")) in found["bax"].graphones()
    for word, one in found.items():
        assert "".join(letters for letters, _ in one.graphones()) == word
        assert tuple(phone for _, phones in one.graphones() for phone in phones) == ENTRIES[word]


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.lists(st.sampled_from("XYZ"), min_size=1, max_size=5))
)
def test_exactly_the_words_that_fit_a_cut_are_aligned(entries):
    found = {one.word: one.shapes for one in align(entries)} if entries else {}
    for word, phones in entries.items():
        possible = set(cuts(len(word), len(phones)))
        assert (word in found) == bool(possible)
        assert word not in found or found[word] in possible


def test_the_way_taken_is_the_likeliest_of_all():
    entries = {"ab": "X Y", "abb": "X Y", "ba": "Y X", "bab": "Y X Y", "aab": "X Y", "bb": "Y", "a": "X"}
    model = GraphoneModel.learn({word: tuple(said.split()) for word, said in entries.items()}, order=3)
    model.beam = 10_000
    machine, graphones = model._search._machine, model._search._graphones
    for word in ("abab", "bbaa", "aabba", "b"):
        best = (-math.inf, ())
        for cut in itertools.product((1, 2), repeat=len(word)):
            pieces, place = [], 0
            for length in cut:
                if place < len(word):
                    pieces.append(word[place : place + length])
                    place += length
            if place != len(word):
                continue
            for way in itertools.product(*(graphones.get(piece, ()) for piece in pieces)):
                score, state = 0.0, machine.start
                for one in way:
                    step, state = machine.step(state, one.id)
                    score += step
                score += machine.step(state, EOS_ID)[0]
                said = tuple(phone for one in way for phone in one.phones)
                best = max(best, (score, said)) if said else best
        assert model([word]) == [best[1]]


def test_probabilities_after_every_state_sum_to_one():
    machine = MODEL._search._machine
    for state in sorted({machine.start, *machine.after})[:200]:
        total = sum(math.exp(machine.step(state, one)[0]) for one in range(machine.types) if one != BOS_ID)
        assert total == pytest.approx(1.0, abs=1e-9)


def test_the_order_of_words_and_their_company_change_nothing():
    words = sorted({word + more for word in HELD for more in ("", "t", "ash")})
    alone = [MODEL([word])[0] for word in words]
    again = GraphoneModel(MODEL.aligned, MODEL.order)
    assert again(words[::-1])[::-1] == alone
    assert again([*words, *words]) == [*alone, *alone]


def test_a_letter_that_never_stands_alone_can_be_said():
    model = GraphoneModel.learn({"qua": ("K", "AA"), "quo": ("K", "OW"), "a": ("AA",), "o": ("OW",)})
    assert all(model(["aq", "q", "uo"]))


def test_it_always_says_something():
    model = GraphoneModel.learn({"abe": ("B",), "ebe": ("B",), "eb": ("B",), "a": ("AA",)})
    assert model(["eb", "ebe", "eeee" + "b"]) == [("B",)] * 3
    with pytest.raises(VocabularyError, match=r"'e' is said cannot be guessed: .* always silent"):
        model(["a", "e"])


def test_signs_that_no_word_has_are_silent_and_strange_letters_are_named():
    assert MODEL(["ba't"]) == MODEL(["bat"])
    with pytest.raises(VocabularyError, match=r"how \"bét\" is said|how 'bét' is said cannot be guessed"):
        MODEL(["bat", "bét"])
    with pytest.raises(VocabularyError, match="how '81' is said cannot be guessed"):
        MODEL(["81"])


def test_nothing_is_learned_from_nothing():
    with pytest.raises(VocabularyError, match="nothing is learned"):
        GraphoneModel.learn({})
    with pytest.raises(VocabularyError, match="nothing is learned"):
        GraphoneModel.learn({"w": ("D", "AH", "B")})


def test_learning_twice_gives_the_same():
    entries = {word: said for word, said in ENTRIES.items() if word not in HELD}
    assert GraphoneModel.learn(entries).to_json() == MODEL.to_json()


def test_it_is_read_back_with_the_inventory(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("".join(f"{word} {' '.join(ENTRIES[word])}\n" for word in ENTRIES if word not in HELD))
    inventory = PhoneInventory(open_pronouncer(lexicon))
    content = json.loads(json.dumps(inventory.to_json()))
    lexicon.unlink()
    text = " ".join(HELD)
    again = open_inventory(content)
    assert again.spell(text) == inventory.spell(text)
    assert again.to_json() == inventory.to_json()
    assert [again.symbols[index] for index in again.spell(text).ids] == [p for word in HELD for p in ENTRIES[word]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"order": None}, "no order"),
        ({"beam": 0}, "no beam"),
        ({"aligned": []}, "no aligned words"),
        ({"aligned": [["ab", "X"]]}, "is not aligned"),
        ({"aligned": [["ab", "X", "11"]]}, "is not aligned"),
        ({"aligned": [["ab", "X", "1x11"]]}, "is not aligned"),
        ({"aligned": [["ab", "X Y Z W", "22"]]}, "is not aligned"),
        ({"aligned": [["ab", "X", "111"]]}, "is not aligned"),
    ],
)
def test_a_damaged_model_is_named(change, sentence):
    with pytest.raises(VocabularyError, match=f"units.json is damaged: .*{sentence}"):
        GraphoneModel.from_json({**MODEL.to_json(), **change})
