"""Phones through a lexicon: what it holds, what it lacks, and reading them back."""

from __future__ import annotations

import json

import pytest

from kdcompress.errors import VocabularyError
from kdcompress.units.lexicon_file import open_pronouncer
from kdcompress.units.opening import inventory_of, open_inventory
from kdcompress.units.phones import PhoneInventory
from kdcompress.units.pronunciation import Pronouncer
from kdcompress_runtime.errors import ManifestError

LEXICON = "CAT  K AE1 T\nTHE DH AH0\nTHE(2) DH IY0\nSAT S AE1 T\nOX o1 ks\n"


class Spelling:
    """Says a word by its letters, and counts how often it is asked."""

    phones = ("AE", "K", "x")

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, words):
        self.asked.append(list(words))
        return [("x",) * len(word) for word in words]

    def to_json(self):
        return None


@pytest.fixture
def lexicon(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text(LEXICON, encoding="utf-8")
    return path


def test_the_first_pronunciation_without_stress(lexicon):
    inventory = inventory_of("phones", ["the cat sat"], lexicon=lexicon, g2p="none")
    spelled = inventory.spell("the cat  sat")
    assert [inventory.symbols[index] for index in spelled.ids] == ["DH", "AH", "K", "AE", "T", "S", "AE", "T"]
    assert spelled.words == (0, 0, 1, 1, 1, 2, 2, 2)
    assert inventory.shares(spelled.ids) == (1.0,) * 8
    assert inventory.spell("") == ((), ())


def test_any_phone_set_is_taken(lexicon):
    inventory = inventory_of("phones", lexicon=lexicon, g2p="none")
    assert inventory.symbols == ("AE", "AH", "DH", "K", "S", "T", "ks", "o")
    assert inventory.spell("ox").words == (0, 0)


def test_a_word_that_is_missing_is_named(lexicon):
    inventory = inventory_of("phones", lexicon=lexicon, g2p="none")
    with pytest.raises(VocabularyError, match=r"item 3: no pronunciation of 'dog', 'ran' in .*lexicon.txt; add it"):
        inventory.spell("the dog ran", "item 3")
    with pytest.raises(VocabularyError, match="no pronunciation of 'dog'"):
        inventory_of("phones", ["the dog"], lexicon=lexicon, g2p="none")


def test_what_is_missing_is_guessed_in_one_go_and_once():
    guesser = Spelling()
    pronouncer = Pronouncer({"cat": ("K", "AE", "T")}, guesser)
    assert pronouncer.pronounce(["dog", "cat", "ox", "dog"]) == {
        "dog": ("x", "x", "x"),
        "cat": ("K", "AE", "T"),
        "ox": ("x", "x"),
    }
    assert pronouncer("dog") == ("x", "x", "x")
    assert guesser.asked == [["dog", "ox"]]
    assert pronouncer.phones == ("AE", "K", "T", "x")
    assert PhoneInventory(pronouncer).spell("dog cat").words == (0, 0, 0, 1, 1, 1)


def test_it_is_read_back_without_the_file(lexicon):
    inventory = PhoneInventory(open_pronouncer(lexicon, "none"))
    content = json.loads(json.dumps(inventory.to_json()))
    lexicon.unlink()
    again = open_inventory(content)
    assert again.symbols == inventory.symbols
    assert again.spell("the ox sat") == inventory.spell("the ox sat")
    with pytest.raises(VocabularyError, match=r"no pronunciation of 'dog' in units.json"):
        again.spell("dog")


def test_bad_lexicons_and_unknown_guessers_are_refused(tmp_path, lexicon):
    empty = tmp_path / "empty.txt"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(ManifestError, match="lexicon is empty"):
        open_pronouncer(empty, "none")
    with pytest.raises(ManifestError, match="lexicon not found"):
        open_pronouncer(tmp_path / "none.txt", "none")
    with pytest.raises(VocabularyError, match="the lexicon is empty"):
        Pronouncer({})
    with pytest.raises(VocabularyError, match="by lexicon, espeak or none, not by 'magic'"):
        open_pronouncer(lexicon, "magic")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lexicon": {}}, "it holds no lexicon"),
        ({"lexicon": {"cat": ""}}, "has no phones"),
        ({"lexicon": {"cat": 3}}, "has no phones"),
        ({"symbols": ["K"]}, "the phone 'AE' of its lexicon is not among its symbols"),
        ({"g2p": {"kind": "magic"}}, "its g2p is of the kind 'magic'"),
    ],
)
def test_a_damaged_file_is_named(lexicon, change, sentence):
    content = inventory_of("phones", lexicon=lexicon, g2p="none").to_json()
    with pytest.raises(VocabularyError, match=f"units.json is damaged: .*{sentence}"):
        open_inventory({**content, **change})
