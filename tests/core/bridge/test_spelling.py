"""How one side's tokens are written by the other."""

from __future__ import annotations

import pytest

from kdcompress.bridge.spelling import Spelling, are_phones
from kdcompress.data.text import word_vocabulary
from kdcompress_runtime.vocabulary import Vocabulary
from tests.core.bridge.sides import CHARACTERS, LETTERS, vocabulary

UPPER = vocabulary(*LETTERS.upper(), "Ä", "É", "▁")
NORDIC = vocabulary(*LETTERS, *"åäöé", "▁")
DECOMPOSED = vocabulary(*LETTERS, "\u0301", "▁")


@pytest.mark.parametrize(
    ("tokens", "token", "written"),
    [
        (CHARACTERS, "E", "e"),
        (CHARACTERS, "’", "'"),
        (CHARACTERS, "|", "▁"),
        (CHARACTERS, " ", "▁"),
        (CHARACTERS, "é", "e"),
        (CHARACTERS, "É", "e"),
        (CHARACTERS, "ﬁ", "fi"),
        (CHARACTERS, "ß", "ss"),
        (CHARACTERS, "ａ", "a"),
        (CHARACTERS, "▁Café", "▁cafe"),
        (CHARACTERS, "n't", "n't"),
        (CHARACTERS, "-", "▁"),
        (CHARACTERS, ",", ""),
        (CHARACTERS, "...", ""),
        (CHARACTERS, "world.", "world"),
        (CHARACTERS, "\u0301", ""),
        (CHARACTERS, "<unk>", None),
        (CHARACTERS, "▁<unk>", None),
        (CHARACTERS, "[PAD]", None),
        (CHARACTERS, "<0x0A>", None),
        (CHARACTERS, "<sil>", ""),
        (CHARACTERS, "7", None),
        (CHARACTERS, "%", None),
        (CHARACTERS, "€", None),
        (CHARACTERS, "▁2nd", None),
        (CHARACTERS, "ж", None),
        (UPPER, "e", "E"),
        (UPPER, "é", "É"),
        (UPPER, "ö", "O"),
        (UPPER, "'", ""),
        (NORDIC, "Å", "å"),
        (NORDIC, "é", "é"),
        (NORDIC, "ñ", "n"),
        (DECOMPOSED, "é", "e\u0301"),
        (vocabulary(*"abc"), "▁", ""),
        (vocabulary(*"abc"), "-", ""),
        (vocabulary("a", "A"), "A", "A"),
        (vocabulary("a", "<unk>"), "<unk>", "<unk>"),
    ],
)
def test_tokens(tokens, token, written):
    assert Spelling(tokens, "characters").token(token) == written


def test_words_are_written_as_a_whole():
    spelling = Spelling(vocabulary("▁Hello", "▁world", "▁dont", "▁caf\u00e9"), "words")
    found = {token: spelling.token(token) for token in ("▁hello", "▁WORLD", "▁don't", "▁cafe\u0301", "▁<unk>", "▁x")}
    assert found["▁WORLD"] == "▁world"
    assert found["▁don't"] == "▁dont"
    assert found["▁cafe\u0301"] == "▁café"
    assert found["▁<unk>"] is found["▁x"] is None


def test_phones_lose_their_stress_where_the_student_writes_none():
    plain = Spelling(word_vocabulary(["AH B AW T"]), "words")
    assert [plain.token(token) for token in ("▁AH0", "▁ah1", "▁B")] == ["▁AH", "▁AH", "▁B"]
    assert [plain.token(token) for token in ("▁SIL", "▁<sil>", "▁sp")] == ["", "", ""]
    stressed = Spelling(word_vocabulary(["AH0 B AW1 T"]), "words")
    assert stressed.token("▁AH0") == "▁AH0"
    assert stressed.token("▁AW0") not in stressed.symbols


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Hello, World!", "hello world"),
        ("well-known  café", "well known cafe"),
        ("It’s - me", "it's me"),
        ("", ""),
        ("?!", ""),
        ("in 1999", None),
        ("50%", None),
    ],
)
def test_texts(text, written):
    assert Spelling(CHARACTERS, "characters").text(text) == written


def test_texts_of_words_and_of_a_student_without_spaces():
    words = Spelling(vocabulary("▁Hello", "▁new", "▁york"), "words")
    assert words.text("hello, York!") == "Hello york"
    assert words.text("NEW YORK") == "new york"
    assert Spelling(vocabulary(*"abc"), "characters").text("A b, C") == "abc"


@pytest.mark.parametrize(
    ("symbols", "units", "phones"),
    [
        (["▁AH", "▁B", "▁T"], "words", True),
        (["▁AH0", "▁b", "▁sil", "<unk>"], "words", True),
        (["▁one", "▁two", "▁B"], "words", False),
        ([*LETTERS, "▁"], "characters", False),
        ([*LETTERS.upper(), "▁"], "characters", False),
        ([*"abdefhiklmnoprstuvwxz", "ə", "ɪ", "ʃ", "iː", "ɔ", "ŋ", "tʃ"], "characters", True),
        ([*LETTERS, "ə", "ç", "ğ", "ş"], "characters", False),
    ],
)
def test_phones_are_known(symbols, units, phones):
    assert are_phones(Vocabulary(("<blk>", *symbols)), units) == phones
