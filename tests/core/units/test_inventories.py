"""Characters, words, subwords: what they are, that they agree with a student's tokens, and what they refuse."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from kdcompress.data.text import Encoder, unit_vocabulary
from kdcompress.errors import VocabularyError
from kdcompress.units.characters import CharacterInventory
from kdcompress.units.opening import inventory_of, open_inventory, read_inventory
from kdcompress.units.subwords import SubwordInventory
from kdcompress.units.unigram import best_pieces
from kdcompress.units.words import WordInventory
from kdcompress_runtime.vocabulary import Vocabulary

TEXTS = (
    "the hen hears the thin hare",
    "she sells the other shells there",
    "he hears the sea and she sees the shore",
    "then he sells the hare and the hen",
)
KINDS = (("characters", {}), ("words", {}), ("subwords", {"size": 24}))


def unigram(size: int = 18) -> SubwordInventory:
    return SubwordInventory.train(TEXTS, size, "unigram")


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_units_are_those_of_a_student_symbol_by_symbol(kind, options):
    inventory = inventory_of(kind, TEXTS, **options)
    vocabulary = unit_vocabulary(TEXTS, kind, options.get("size", 0))
    assert ("<blk>", *inventory.symbols) == vocabulary.symbols
    encode = Encoder(vocabulary, kind)
    for text in (*TEXTS, "  the   hen "):
        spelled = inventory.spell(text)
        assert tuple(index + 1 for index in spelled.ids) == encode(text)
        assert len(spelled.words) == len(spelled.ids)
        assert sorted(spelled.words) == list(spelled.words)
        assert set(spelled.words) == set(range(len(text.split())))


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_tokens_of_a_student_become_an_inventory(kind, options):
    made = inventory_of(kind, TEXTS, **options)
    taken = type(made).from_vocabulary(unit_vocabulary(TEXTS, kind, options.get("size", 0)))
    assert taken.to_json() == made.to_json()


@pytest.mark.parametrize("inventory", [*(inventory_of(kind, TEXTS, **more) for kind, more in KINDS), unigram()])
def test_what_is_read_back_is_the_same(inventory, tmp_path):
    path = tmp_path / "units.json"
    path.write_text(json.dumps(inventory.to_json()), encoding="utf-8")
    again = read_inventory(path)
    assert type(again) is type(inventory)
    assert again.to_json() == inventory.to_json()
    assert [again.spell(text) for text in TEXTS] == [inventory.spell(text) for text in TEXTS]
    assert again.spell("") == ((), ())
    assert again.spell("  ") == ((), ())


def test_a_separator_belongs_to_the_word_before_it_and_is_short():
    inventory = CharacterInventory.from_texts(["ab c"])
    spelled = inventory.spell("ab  c")
    assert [inventory.symbols[index] for index in spelled.ids] == ["a", "b", "▁", "c"]
    assert spelled.words == (0, 0, 0, 1)
    assert inventory.shares(spelled.ids) == (1.0, 1.0, 0.25, 1.0)
    assert inventory.spell("c").words == (0,)


def test_a_subword_has_the_share_of_its_letters():
    inventory = SubwordInventory(["a", "b", "▁", "▁a", "▁ab"])
    assert inventory.shares([0, 2, 3, 4]) == (1, 0.25, 1, 2)


def test_the_most_frequent_words_are_kept():
    inventory = WordInventory.from_texts(TEXTS, most=3)
    assert inventory.symbols == ("▁and", "▁he", "▁the") or inventory.symbols[-1] == "▁the"
    assert len(inventory.symbols) == 3
    assert inventory.spell("the the").words == (0, 1)
    with pytest.raises(VocabularyError, match=r"item 7: .*lacks the words 'shells'; take more words"):
        inventory.spell("the shells", "item 7")


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_search_of_a_unigram_model_is_exact(data):
    letters = st.text(alphabet="ab▁", min_size=1, max_size=3)
    pieces = {"a", "b", "▁"} | set(data.draw(st.lists(letters, max_size=8)))
    scores = {piece: data.draw(st.floats(-9, -0.1)) for piece in sorted(pieces)}
    word = data.draw(st.text(alphabet="ab", min_size=1, max_size=7))
    found = best_pieces("▁" + word, scores, 3)
    assert "".join(found) == "▁" + word
    best = -math.inf
    for cuts in itertools.product((False, True), repeat=len(word)):
        parts = [""]
        for letter, cut in zip("▁" + word, (False, *cuts), strict=True):
            if cut:
                parts.append("")
            parts[-1] += letter
        best = max(best, sum(scores.get(part, -math.inf) for part in parts))
    assert sum(scores[part] for part in found) == pytest.approx(best)


def test_a_unigram_model_spells_as_the_package_does():
    inventory = unigram()
    assert len(inventory.symbols) == 18
    assert set("▁adehilnorst") <= set(inventory.symbols)
    vocabulary = [("<unk>", 0.0), *zip(inventory.symbols, inventory.scores, strict=True)]
    judge = Tokenizer(models.Unigram(vocabulary, 0))
    for word in {word for text in TEXTS for word in text.split()} | {"shesells", "tthhee"}:
        theirs = judge.encode("▁" + word).tokens
        ours = [inventory.symbols[index] for index in inventory.spell(word).ids]
        score = dict(vocabulary)
        assert sum(map(score.get, ours)) == pytest.approx(sum(map(score.get, theirs)))


def test_training_a_unigram_model_twice_gives_the_same_but_for_ties():
    one, other = (dict(zip(it.symbols, it.scores, strict=True)) for it in (unigram(), unigram()))
    assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("inventory", [*(inventory_of(kind, TEXTS, **more) for kind, more in KINDS), unigram()])
def test_what_no_unit_writes_is_named(inventory):
    with pytest.raises(VocabularyError, match=r"line 3: the unit set does not cover the text: it lacks the .*; "):
        inventory.spell("the qqq zebra", "line 3")


def test_five_are_named_and_the_rest_is_counted():
    with pytest.raises(VocabularyError, match="'b', 'c', 'd', 'e', 'f' and 2 more; normalise"):
        CharacterInventory(["a", "▁"]).spell("a bcdefgh")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: inventory_of("letters", TEXTS), "no units of the kind 'letters'; take one of characters"),
        (lambda: inventory_of("senones", TEXTS), "not made from texts"),
        (lambda: inventory_of("phones", TEXTS), "phones need a lexicon"),
        (lambda: inventory_of("subwords", TEXTS), "how many subwords is not said"),
        (lambda: inventory_of("subwords", TEXTS, size=3, algorithm="unigram"), "3 subwords are asked, but"),
        (lambda: inventory_of("subwords", TEXTS, size=9999, algorithm="unigram"), "too few for more than"),
        (lambda: inventory_of("subwords", TEXTS, size=24, algorithm="wordpiece"), "bpe or unigram, not by 'wordpiece'"),
        (lambda: inventory_of("subwords", [""], size=24, algorithm="unigram"), "all empty"),
        (lambda: inventory_of("characters", [""]), "all empty"),
        (lambda: inventory_of("words", []), "all empty"),
        (lambda: inventory_of("words", TEXTS, size=0), "at least one word"),
        (lambda: CharacterInventory.from_vocabulary(Vocabulary.from_symbols(["a", "▁the"])), "no single characters"),
        (lambda: WordInventory.from_vocabulary(Vocabulary.from_symbols(["a"])), "a word begins with ▁"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(made, sentence):
    with pytest.raises(VocabularyError, match=sentence):
        made()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "its kind is None"),
        ([], "its kind is None"),
        ({"kind": "letters"}, "its kind is 'letters'"),
        ({"kind": "characters"}, "no list of texts"),
        ({"kind": "characters", "symbols": ["a", 3]}, "no list of texts"),
        ({"kind": "characters", "symbols": ["a", "a"]}, "'a' stands in it twice"),
        ({"kind": "characters", "symbols": ["ab"]}, "no single characters"),
        ({"kind": "words", "symbols": ["ab"]}, "a word begins with ▁"),
        ({"kind": "subwords", "symbols": ["ab"]}, "its algorithm is None"),
        ({"kind": "subwords", "symbols": ["ab"], "algorithm": "unigram"}, "one score for each"),
        ({"kind": "subwords", "symbols": ["ab"], "algorithm": "unigram", "scores": ["x"]}, "no log-probability"),
    ],
)
def test_a_damaged_file_is_named(content, sentence):
    with pytest.raises(VocabularyError, match=f"lm/units.json is damaged: .*{sentence}.*; make it again"):
        open_inventory(content, "lm/units.json")


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path):
    with pytest.raises(VocabularyError, match="unit set not found"):
        read_inventory(tmp_path / "units.json")
    (tmp_path / "units.json").write_text("{", encoding="utf-8")
    with pytest.raises(VocabularyError, match="not valid JSON"):
        read_inventory(tmp_path / "units.json")
