"""Senones of texts: contexts across words, words kept, the file and what is wrong with it."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from kdcompress.errors import VocabularyError
from kdcompress.units.opening import open_inventory
from kdcompress.units.phones import PhoneInventory
from kdcompress.units.pronunciation import Pronouncer
from kdcompress.units.senones import SenoneInventory, grow
from kdcompress.units.senones.moments import statistics_of
from tests.core.senones.cases import PHONES, Letters, random_rows, random_statistics

LEXICON = {"beat": ("B", "IY", "T"), "mud": ("M", "AH", "D"), "bus": ("B", "AH", "S"), "sea": ("S", "IY")}
TEXT = "beat mud sea"


def senones(states: int = 3, count: int = 60) -> SenoneInventory:
    tree = grow(random_statistics(1, states=states, contexts=500), count, min_frames=10).tree
    return SenoneInventory(PhoneInventory(Pronouncer(LEXICON)), tree)


@pytest.fixture(scope="module")
def inventory() -> SenoneInventory:
    return senones()


def test_spelling_asks_the_tree_of_each_phone_between_its_neighbours(inventory):
    ids = [PHONES.index(phone) for word in TEXT.split() for phone in LEXICON[word]]
    silence = len(PHONES)
    expected = [
        int(inventory.tree.leaves(np.array([[left, phone, right, state]]))[0])
        for left, phone, right in zip([silence, *ids], ids, [*ids[1:], silence], strict=False)
        for state in range(3)
    ]
    spelled = inventory.spell(TEXT)
    assert spelled.ids == tuple(expected)
    assert spelled.words == (0,) * 9 + (1,) * 9 + (2,) * 6
    assert [inventory.phone_of(unit) for unit in spelled.ids[::3]] == [PHONES[phone] for phone in ids]


def test_neighbours_are_taken_across_words(inventory):
    alone = inventory.spell("beat").ids + inventory.spell("mud").ids
    assert inventory.spell("beat mud").ids != alone
    assert inventory.spell("beat mud").ids[:6] == alone[:6]


def test_symbols_name_phone_state_and_number(inventory):
    assert len(inventory.symbols) == len(set(inventory.symbols)) == 60
    for unit, symbol in enumerate(inventory.symbols):
        phone, state, number = symbol.split("_")
        assert phone == inventory.phone_of(unit)
        assert int(state) - 1 == inventory.tree.leaf_state[unit]
        assert int(number) >= 1
    assert inventory.symbols[0] == "AH_1_1"
    assert inventory.states == 3


def test_an_empty_text_has_no_units_and_a_single_phone_stands_between_silences():
    inventory = SenoneInventory(Letters(), senones().tree)
    assert inventory.spell("") == ((), ())
    silence = len(PHONES)
    alone = inventory.tree.leaves(np.array([[silence, 2, silence, state] for state in range(3)]))
    assert inventory.spell(PHONES[2]).ids == tuple(alone.tolist())


def test_time_is_shared_as_it_was_in_the_data():
    rng = np.random.default_rng(0)
    keys, _, moments, _ = random_rows(rng, 200, 1)
    heard = keys[:, 1] != PHONES.index("T")
    statistics = statistics_of(PHONES, 1, keys[heard], np.full(heard.sum(), 2.0), moments[heard])
    inventory = SenoneInventory(Letters(), grow(statistics, 7).tree)
    mine = keys[heard][:, 1] == PHONES.index("AH")
    frames = moments[heard][mine, 0].sum() / (2 * mine.sum())
    usual = statistics.frames.sum() / statistics.visits.sum()
    ah, t = (inventory.symbols.index(f"{phone}_1_1") for phone in ("AH", "T"))
    assert inventory.shares([ah, t, ah]) == pytest.approx((frames, usual, frames))
    assert inventory.shares([]) == ()


@pytest.mark.parametrize(("states", "count"), [(1, 3), (1, 20), (3, 9), (3, 60)])
def test_written_and_read_back_it_spells_the_same(states, count):
    written = senones(states, count)
    read = open_inventory(json.loads(json.dumps(written.to_json())), "senones.json")
    assert isinstance(read, SenoneInventory)
    assert read.symbols == written.symbols
    for text in (TEXT, "bus", "sea sea mud beat"):
        assert read.spell(text) == written.spell(text)
    assert read.shares(range(count)) == written.shares(range(count))
    assert read.to_json() == written.to_json()


def test_a_word_that_cannot_be_said_is_named(inventory):
    with pytest.raises(VocabularyError, match=r"line 3: .*'dumb'"):
        inventory.spell("beat dumb", "line 3")


def test_a_tree_of_other_phones_is_refused(inventory):
    other = Letters(("AH", "B", "D", "IY", "M", "S", "ZH"))
    with pytest.raises(VocabularyError, match=r"different in T, ZH"):
        SenoneInventory(other, inventory.tree)
    with pytest.raises(VocabularyError, match="their order"):
        SenoneInventory(Letters(PHONES[::-1]), inventory.tree)


DAMAGE = {
    "no tree": (("tree",), None, "without tree"),
    "other version": (("version",), 9, "version 9"),
    "no states": (("tree", "states"), 0, "damaged"),
    "roots missing": (("tree", "roots"), [[0, 1, 2]], "roots for 7 phones"),
    "root is no node": (("tree", "roots", 0, 0), 10_000, "no node"),
    "loop": (("tree", "nodes", "inner", 3), 0, "no later node"),
    "branch too far": (("tree", "nodes", "inner", 3), 10_000, "no later node"),
    "odd node": (("tree", "nodes", "inner"), [1, 2], "damaged"),
    "unknown factor": (("tree", "nodes", "inner", 0), "above", "damaged"),
    "unknown question": (("tree", "nodes", "inner", 1), 999, "question that it does not have"),
    "unknown phone": (("tree", "leaves", 0, 0), "XX", "damaged"),
    "leaf missing": (("tree", "leaves"), [["AH", 0, 1.0, 1.0]], "1 leaves, found 60"),
    "state too high": (("tree", "leaves", 0, 1), 3, "state that it does not have"),
    "symbols": (("symbols", 0), "AH_9_9", "not those of its tree"),
    "phones": (("phones", "symbols"), ["AH"], "not among its symbols"),
    "tree is a list": (("tree",), [], "damaged"),
    "infinite": (("tree", "leaves", 0, 2), float("nan"), "frames"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_clear_sentence(inventory, damage):
    content = copy.deepcopy(inventory.to_json())
    (*places, last), value, message = DAMAGE[damage]
    part = content
    inner = int(np.flatnonzero(inventory.tree.factor >= 0)[0])
    places, last = [inner if place == "inner" else place for place in places], inner if last == "inner" else last
    for place in places:
        part = part[place]
    if value is None:
        del part[last]
    else:
        part[last] = value
    with pytest.raises(VocabularyError, match=message) as found:
        SenoneInventory.from_json(content, "senones.json")
    assert "senones.json" in str(found.value)
