"""ARPA files of every writer, whole and damaged."""

from __future__ import annotations

import contextlib
import gzip
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcompress_runtime.errors import LanguageModelFormatError, OptionsError
from kdcompress_runtime.lm import arpa, open_lm, packed
from kdcompress_runtime.lm.arpa import read_arpa

GOLDEN = Path(__file__).parents[1] / "golden" / "lm"
LN10 = math.log(10)
KENLM = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-1.5\t<unk>\t0
0\t<s>\t-0.5
-1\t</s>\t0
-0.7\tcafé\t-0.3

\\2-grams:
-0.4\t<s> café
-0.6\tcafé </s>
-0.9\tcafé café

\\end\\
"""


def read(tmp_path: Path, content: str | bytes, **options: str):
    path = tmp_path / "model.arpa"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_arpa(path, **options)


def of(model, *words: str) -> tuple[float, float] | None:
    values = model.ngram(tuple(model.ids[word] for word in words))
    return values and tuple(round(value / LN10, 5) for value in values)


SRILM = """

\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-1\t</s>
-1.5\t<unk>
-99\t<s>\t-0.5
-0.7\tcafé\t-0.3

\\2-grams:
-0.4\t<s> café\t
-0.6\tcafé </s>
-0.9\tcafé café{blank}

\\end\\
""".replace("{blank}", " ")
IRSTLM = """ \\data\\
ngram  1=         4
ngram  2=         3

\\1-grams:
-99 <s> -0.5
-1 </s>
-0.7 café -0.3
-1.5 <unk>

\\2-grams:
-0.4 <s> café 0.0
-0.6 café </s> 0
-0.9  café   café
\\end\\
"""


@pytest.mark.parametrize(
    "content",
    [
        KENLM,
        SRILM,
        IRSTLM,
        KENLM.replace("\n", "\r\n"),
        KENLM.replace("<unk>", "<UNK>"),
        "\ufeff" + KENLM,
        "any text\n# and notes\n" + KENLM,
        KENLM.replace("0\t<s>", "<s>"),  # no number at the start of sentences
        KENLM.removesuffix("\n"),
        gzip.compress(KENLM.encode()),
    ],
    ids=["kenlm", "srilm", "irstlm", "crlf", "UNK", "bom", "preface", "bare <s>", "no last line feed", "gzip"],
)
def test_every_writer_is_understood(tmp_path, content):
    model = read(tmp_path, content)
    assert model.order == 2
    assert set(model.words) == {"<unk>", "<s>", "</s>", "café"}
    assert model.words[0] == "<unk>"
    assert of(model, "<unk>") == (-1.5, 0)
    assert of(model, "<s>")[1] == -0.5
    assert of(model, "</s>") == (-1, 0)
    assert of(model, "café") == (-0.7, -0.3)
    assert of(model, "<s>", "café") == (-0.4, 0)
    assert of(model, "café", "</s>") == (-0.6, 0)
    assert of(model, "café", "café") == (-0.9, 0)
    assert model.ngrams == 7


@pytest.mark.parametrize("block", [16, 37, 64])
def test_blocks_may_end_anywhere(tmp_path, monkeypatch, block):
    monkeypatch.setattr(arpa, "_BLOCK", block)
    assert packed.dumps(read(tmp_path, SRILM)) == packed.dumps(read(tmp_path, SRILM.replace("\n", "\r\n")))
    assert of(read(tmp_path, SRILM), "café", "café") == (-0.9, 0)
    with pytest.raises(LanguageModelFormatError, match="line 15: expected a number, found 'x'"):
        read(tmp_path, SRILM.replace("-0.6\t", "x\t"))


def test_without_unknown_word_it_is_as_unlikely_as_in_kenlm(tmp_path):
    model = read(tmp_path, KENLM.replace("-1.5\t<unk>\t0\n", "").replace("ngram 1=4", "ngram 1=3"))
    assert of(model, "<unk>") == (-100, 0)
    assert model.score((model.ids["café"],), 0) == pytest.approx((-0.3 - 100) * LN10, rel=1e-6)


def test_unigrams_alone(tmp_path):
    model = read(tmp_path, "\\data\\\nngram 1=3\n\\1-grams:\n-9 <s> -3\n-1 </s>\n-0.5 a\n\\end\\\n")
    assert model.order == 1
    assert model.score((1, 2), model.ids["a"]) == pytest.approx(-0.5 * LN10)
    assert of(model, "<s>") == (-9, 0)  # nothing longer, so nothing to back off from


def test_unit_is_what_is_asked_for_or_noted(tmp_path):
    assert read(tmp_path, KENLM).unit == "word"
    assert read(tmp_path, "# kdcompress: unit token\n" + KENLM).unit == "token"
    assert read(tmp_path, "# kdcompress: unit token\n" + KENLM, unit="word").unit == "word"
    with pytest.raises(OptionsError, match="letter"):
        read(tmp_path, KENLM, unit="letter")


def without(line: str) -> str:
    assert line + "\n" in KENLM
    return KENLM.replace(line + "\n", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 0: no .data. so far"),
        ("hello\n" * 5000, "line 1000: no .data. so far; this is not an ARPA file"),
        ("iARPA\n" + KENLM, "line 1: this is an IRSTLM iARPA file"),
        ("blmt 3 4 5\n", "line 1: this is a binary of IRSTLM"),
        (KENLM.replace("ngram 1=4", "ngram 1=four"), "line 2: expected 'ngram 1=count', found 'ngram 1=four'"),
        (KENLM.replace("ngram 1=4", "ngram 1=" + "4" * 9999), "line 2: expected 'ngram 1=count', found 'ngram 1=44"),
        ("# kdcompress: unit letter\n" + KENLM, "line 1: the unit 'letter' is not one of word, token"),
        (KENLM.replace("ngram 2=3", "ngram 3=3"), "line 3: expected 'ngram 2=count'"),
        (without("ngram 1=4").replace("ngram 2=3\n", ""), "promises 0 lengths"),
        (without("-0.7\tcafé\t-0.3"), "line 9: the 1-grams end here after 3, but the header says 4"),
        (without("-0.9\tcafé café"), "line 14: the 2-grams end here after 2, but the header says 3"),
        (KENLM.replace("ngram 2=3", "ngram 2=2"), "after 3, but the header says 2"),
        (without("\\1-grams:"), "line 5: expected 'ngram 3=count', found '-1.5"),
        (without("\\2-grams:"), "line 11: expected a number, found 'café'"),
        (KENLM.replace("\\2-grams", "\\3-grams"), r"line 11: expected \\2-grams:, found '.*3-grams:'"),
        (KENLM.partition("\\2-grams")[0], r"line 10: expected \\2-grams:, found the end of the file; .* cut off"),
        (KENLM.partition("\\end")[0], r"expected \\end\\, found the end of the file"),
        (KENLM[:-20], "line 14: expected a number, 2 words and perhaps another number; fields found: 1"),
        (KENLM.replace("-0.7\tcafé", "nan\tcafé"), "line 9: nan is no log-probability"),
        (KENLM.replace("-0.7\tcafé", "-inf\tcafé"), "line 9: -inf is no log-probability"),
        (KENLM.replace("\t-0.3", "\t1e99"), "line 9: 1e.99 is no log-probability"),
        (KENLM.replace("-0.7\tcafé", "0.7\tcafé"), "line 9: a log-probability above 0"),
        (KENLM.replace("-0.7\tcafé", "-0.7"), "line 12: 'café' is not among the 1-grams"),
        (KENLM.replace("-0.9\tcafé café", "-0.9\tcafé tea"), "line 14: 'tea' is not among the 1-grams"),
        (KENLM.replace("-0.9\tcafé café", "-0.4\t<s> café"), "line 14: this n-gram stands in the file a second time"),
        (KENLM.replace("</s>\t0", "café\t0"), "line 9: 'café' stands among the 1-grams a second time"),
        (KENLM.replace("</s>\t0", "<UNK>\t0"), "line 8: '<UNK>' stands among the 1-grams a second time"),
        (KENLM.replace("</s>", "end"), "the model has no </s>"),
        (KENLM.encode("latin-1"), "line 9: .* is not UTF-8"),
        (gzip.compress(KENLM.encode())[:-12], "damaged or cut off"),
        (gzip.compress(KENLM.encode())[:40] + b"xxxx" + gzip.compress(KENLM.encode())[44:], "damaged or cut off"),
    ],
)
def test_damage_is_an_error_that_names_the_line(tmp_path, content, message):
    with pytest.raises(LanguageModelFormatError, match=message) as caught:
        read(tmp_path, content)
    assert "model.arpa" in str(caught.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(KENLM)), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4)
)
def test_any_damage_is_an_error_of_ours_or_none(tmp_path, cuts):
    content = KENLM.encode()
    for at, gone, new in cuts:
        content = content[:at] + new + content[at + gone :]
    with contextlib.suppress(LanguageModelFormatError):
        assert math.isfinite(read(tmp_path, content).score_sentence(["café", "café"]))


def test_one_endless_line_is_not_swallowed(tmp_path, monkeypatch):
    monkeypatch.setattr(arpa, "_BLOCK", 1024)
    with pytest.raises(LanguageModelFormatError, match="more than a megabyte"):
        read(tmp_path, KENLM.replace("café", "e" * 2_000_000))


def test_real_file_scores_as_the_packed_one(tmp_path):
    model = open_lm(GOLDEN / "words-3.arpa.gz")
    again = packed.loads(packed.dumps(model))
    sentences = [line.split() for line in (GOLDEN / "text.txt").read_text().splitlines()]
    assert [again.score_sentence(s) for s in sentences] == [model.score_sentence(s) for s in sentences]
    # KenLM 0.3.0: kenlm.Model("words-3.arpa").score("the cat sleeps in a zebra") is this, base 10
    assert model.score_sentence(["the", "cat", "sleeps", "in", "a", "zebra"]) / LN10 == pytest.approx(
        GOLDEN_SCORE, abs=1e-5
    )


GOLDEN_SCORE = -9.245376586914062
