"""Sounds in IPA to ARPAbet; and espeak-ng, where it is installed."""

from __future__ import annotations

import json
import shutil
import stat

import pytest

from kdcompress.data.phone_sets import ARPABET, CONSONANTS, IPA_TO_ARPABET, VOWELS, arpabet
from kdcompress.errors import VocabularyError
from kdcompress.units.espeak import Espeak
from kdcompress.units.lexicon_file import open_pronouncer
from kdcompress.units.opening import open_inventory
from kdcompress.units.phones import PhoneInventory
from kdcompress_runtime.errors import MissingDependencyError

SAID = {
    "həlˈoʊ": "HH AH L OW",
    "θɹˈiː": "TH R IY",
    "wˈɪtʃ": "W IH CH",
    "nˈɜːtʃɚ": "N ER CH ER",
    "bˈʌɾɚ": "B AH T ER",
    "lˈɪɾəl": "L IH T AH L",
    "bˈʌʔn̩": "B AH T AH N",
    "kˈɑːɹ": "K AA R",
    "stˈoːɹ": "S T AO R",
    "fˈaɪɚ": "F AY ER",
    "dʒˈɔɪ": "JH OY",
    "mˈɛʒɚ": "M EH ZH ER",
    "j_ˈuː": None,
    "ˈ": "",
}


def test_the_set_is_the_dictionarys():
    assert len(ARPABET) == len(set(ARPABET)) == 39
    assert set(ARPABET) == set(VOWELS) | set(CONSONANTS)
    assert {phone for said in IPA_TO_ARPABET.values() for phone in said} == set(ARPABET)


@pytest.mark.parametrize(("ipa", "phones"), SAID.items())
def test_sounds_become_phones(ipa, phones):
    if phones is None:
        with pytest.raises(VocabularyError, match=r"'_' in .* is no sound that ARPAbet writes"):
            arpabet(ipa)
    else:
        assert arpabet(ipa) == tuple(phones.split())


def test_a_program_that_is_not_there_is_named_with_its_package():
    with pytest.raises(MissingDependencyError, match="apt install espeak-ng; macOS: brew install espeak-ng"):
        Espeak("no-such-espeak")(["cat"])


@pytest.fixture
def answering(tmp_path):
    """Make a program that answers with fixed lines, whatever it is asked."""

    def make(answer: str, code: int = 0) -> Espeak:
        path = tmp_path / "espeak-ng"
        path.write_text(f"#!/bin/sh\ncat > /dev/null\nprintf '{answer}'\nexit {code}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return Espeak(str(path))

    return make


def test_answers_are_taken_line_by_line(answering):
    assert answering("kˈæt\\n dˈɑːɡ\\n")(["cat", "dog"]) == [("K", "AE", "T"), ("D", "AA", "G")]
    assert answering("")([]) == []


def test_answers_that_do_not_fit_are_refused(answering):
    with pytest.raises(VocabularyError, match="answered 2 words with 1 lines"):
        answering("kˈæt\\n")(["cat", "dog"])
    with pytest.raises(VocabularyError, match="says nothing for 'dog'"):
        answering("kˈæt\\n\\n")(["cat", "dog"])
    with pytest.raises(MissingDependencyError, match="failed: 3; reinstall it"):
        answering("", 3)(["cat"])
    with pytest.raises(VocabularyError, match="is not one word"):
        answering("kˈæt\\n")(["cat dog"])


def test_it_is_read_back_and_asked_again(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("CAT K AE1 T\n")
    inventory = PhoneInventory(open_pronouncer(lexicon, "espeak"))
    assert set(inventory.symbols) == set(ARPABET)
    content = json.loads(json.dumps(inventory.to_json()))
    assert open_inventory(content).to_json() == content
    with pytest.raises(VocabularyError, match="the voice None"):
        open_inventory({**content, "g2p": {"kind": "espeak"}})


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_espeak_says_what_the_dictionary_has():
    words = ["cat", "three", "which", "boy", "don't", "measure"]
    said = [" ".join(phones) for phones in Espeak()(words)]
    assert said == ["K AE T", "TH R IY", "W IH CH", "B OY", "D OW N T", "M EH ZH ER"]
