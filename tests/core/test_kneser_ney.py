"""Estimation of language models: lmplz as the judge, sums of one, texts and options that cannot be used."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.data.text import encode, unit_vocabulary
from kdcompress.lm import LmOptions, convert, estimate, evaluate
from kdcompress.lm.counts import count_grams
from kdcompress.lm.kneser_ney import smooth
from kdcompress.lm.text import Speller, units_of
from kdcompress_runtime.errors import LanguageModelError, LanguageModelNotFoundError, OptionsError
from kdcompress_runtime.lm import open_lm
from kdcompress_runtime.vocabulary import Vocabulary

GOLDEN = Path(__file__).parents[1] / "golden" / "lm"
TEXT = GOLDEN / "text.txt"
FALLBACK = (0.5, 1.0, 1.5)
CHARACTERS = unit_vocabulary(TEXT.read_text().splitlines(), "characters")


def ngrams_of(path: Path) -> dict[str, tuple[float, float]]:
    """Every n-gram of an ARPA file with log10 probability and back-off, read as simply as can be."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [line.split("\t") for line in content.decode().splitlines()]
    return {row[1]: (float(row[0]), float(row[2]) if len(row) > 2 else 0.0) for row in rows if len(row) > 1}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("words-3", LmOptions(order=3)),
        ("words-4-pruned", LmOptions(order=4, prune=(0, 0, 1), most_words=60)),
        ("words-2-sri", LmOptions(order=2, interpolate_unigrams=False)),
        ("characters-4", LmOptions(order=4, unit="token", vocabulary=CHARACTERS)),
    ],
)
def test_every_probability_and_back_off_is_that_of_lmplz(tmp_path, name, options):
    report = estimate([TEXT], tmp_path / "ours.arpa", options)
    ours, judge = ngrams_of(tmp_path / "ours.arpa"), ngrams_of(GOLDEN / f"{name}.arpa.gz")
    assert ours.keys() == judge.keys()
    assert sum(report.ngrams) == len(judge)
    difference = np.abs(np.array([ours[g] for g in judge]) - np.array(list(judge.values())))
    assert difference.max() < 2e-6  # lmplz computes in float32


@pytest.mark.parametrize("suffix", [".arpa", ".arpa.gz", ".kdlm"])
def test_what_is_written_is_what_is_read(tmp_path, suffix):
    options = LmOptions(order=4, prune=(0, 0, 1), most_words=60)
    report = estimate([TEXT], tmp_path / f"m{suffix}", options)
    model, judge = open_lm(tmp_path / f"m{suffix}"), open_lm(GOLDEN / "words-4-pruned.arpa.gz")
    assert report.size == (tmp_path / f"m{suffix}").stat().st_size
    assert sorted(model.words) == sorted(judge.words)
    for line in TEXT.read_text().splitlines():
        assert model.score_sentence(line.split()) == pytest.approx(judge.score_sentence(line.split()), abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == [f"m{suffix}"]


def test_the_same_text_gives_the_same_file(tmp_path):
    for name in ("1.arpa.gz", "2.arpa.gz", "1.kdlm", "2.kdlm"):
        estimate([TEXT], tmp_path / name, LmOptions())
    for suffix in ("arpa.gz", "kdlm"):
        assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(3, 8), min_size=1, max_size=7), min_size=1, max_size=12),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2),
)
def test_probabilities_after_any_context_sum_to_one(sentences, order, interpolate, most):
    ids = np.array([i for sentence in sentences for i in (1, *sentence, 2)], np.int32)
    grams = count_grams(ids, 9, order)
    thresholds = (0, *[most] * (order - 1))
    rows = smooth(grams, thresholds=thresholds, interpolate_unigrams=interpolate, fallback=FALLBACK)
    model = {}
    for length, row in enumerate(rows, start=1):
        for index in np.flatnonzero(row.kept):
            words, at = [], index
            for level in range(length, 0, -1):
                words.append(int(grams[level - 1].word[at]))
                at = grams[level - 1].context[at]
            model[tuple(reversed(words))] = 10 ** row.log10_probs[index], 10 ** row.log10_backoffs[index]

    def probability(context, word):
        if (*context, word) in model:
            return model[(*context, word)][0]
        return model.get(context, (0, 1.0))[1] * probability(context[1:], word)

    predicted = [ngram[0] for ngram in model if len(ngram) == 1 and ngram != (1,)]
    assert set(predicted) == {0, *ids.tolist()} - {1}
    contexts = {ngram for ngram in model if len(ngram) < order and ngram[-1] != 2} | {()}
    for context in contexts:
        assert sum(probability(context, word) for word in predicted) == pytest.approx(1, abs=1e-9)


def test_counts_by_hand():
    # <s> a b </s>, <s> b </s>, twice
    grams = count_grams(np.array([1, 3, 4, 2, 1, 4, 2] * 2, np.int32), 5, 2)
    unigrams = dict(zip(grams[0].word.tolist(), grams[0].adjusted.tolist(), strict=True))
    assert unigrams == {0: 0, 1: 0, 2: 1, 3: 1, 4: 2}  # different words before each
    bigrams = {
        (int(c), int(w)): int(n) for c, w, n in zip(grams[1].context, grams[1].word, grams[1].adjusted, strict=True)
    }
    assert bigrams == {(1, 3): 2, (3, 4): 2, (4, 2): 4, (1, 4): 2}


def test_order_of_one(tmp_path):
    estimate([TEXT], tmp_path / "1.arpa", LmOptions(order=1))
    ngrams = ngrams_of(tmp_path / "1.arpa")
    assert ngrams["<s>"] == (0, 0)
    assert sum(10**p for word, (p, _) in ngrams.items() if word != "<s>") == pytest.approx(1, abs=1e-5)


def test_report_says_what_was_used(tmp_path):
    seen = []
    more = write(tmp_path / "more.txt", "one line more\n")
    report = estimate([TEXT, more], tmp_path / "m.kdlm", LmOptions(prune=(0, 1)), lambda *step: seen.append(step))
    lines = TEXT.read_text().splitlines()
    assert report.sentences == len(lines) + 1
    assert report.units == sum(len(line.split()) for line in lines) + 3
    assert len(report.discounts) == len(report.ngrams) == report.order == 3
    assert (report.pruned[0], report.fallbacks) == (0, ())
    assert report.pruned[2] > 0
    stages = [stage for stage, _, _ in seen]
    assert list(dict.fromkeys(stages)) == ["read", "count"]
    size = TEXT.stat().st_size + more.stat().st_size
    assert ("read", size, size) in seen
    assert ("count", 3, 3) in seen
    estimate([TEXT], tmp_path / "m.arpa", LmOptions(), lambda *step: seen.append(step))
    stage, done, total = seen[-1]
    assert (stage, done) == ("write", total)


@pytest.mark.parametrize("name", ["plain.txt", "zipped.txt.gz"])
def test_texts_may_be_zipped_have_blank_lines_and_any_line_ends(tmp_path, name):
    content = b"\xef\xbb\xbf" + TEXT.read_bytes().replace(b"\n", b"\r\n\r\n \t\r\n")
    text = write(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    estimate([text], tmp_path / "a.kdlm", LmOptions())
    estimate([TEXT], tmp_path / "b.kdlm", LmOptions())
    assert (tmp_path / "a.kdlm").read_bytes() == (tmp_path / "b.kdlm").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fine\nnot <s> fine\n", r"text.txt, line 2: the text holds <s>"),
        ("fine </s>\n", "line 1: the text holds </s>"),
        ("<unk>\n", "line 1: the text holds <unk>"),
        ("", "no sentence to estimate a language model from: the texts are empty"),
        (" \n\n", "the texts are empty"),
        (b"fine\n\xff\xfe\n", "line 2: not UTF-8"),
        (gzip.compress(b"many words\n" * 5000)[:-20], "gzip file is damaged or cut off"),
        ("the same sentence again\n" * 50, "no 1-gram has an adjusted count of 2.*repeated sentences"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, content, message):
    text = write(tmp_path / "text.txt", content)
    with pytest.raises(LanguageModelError, match=message):
        estimate([text], tmp_path / "m.arpa", LmOptions())
    assert list(tmp_path.iterdir()) == [text]


def test_missing_texts(tmp_path):
    with pytest.raises(LanguageModelNotFoundError, match=r"absent\.txt"):
        estimate([TEXT, tmp_path / "absent.txt"], tmp_path / "m.arpa", LmOptions())
    with pytest.raises(LanguageModelError, match="cannot be read"):
        estimate([tmp_path], tmp_path / "m.arpa", LmOptions())
    with pytest.raises(LanguageModelError, match="name at least one"):
        estimate([], tmp_path / "m.arpa", LmOptions())
    with pytest.raises(OptionsError, match=r"m\.txt: name the language model \*\.arpa"):
        estimate([TEXT], tmp_path / "m.txt", LmOptions())


def test_small_text_with_fallback(tmp_path):
    text = write(tmp_path / "small.txt", "the same sentence again\n" * 50)
    report = estimate([text], tmp_path / "m.arpa", LmOptions(discount_fallback=FALLBACK))
    assert report.fallbacks == (1, 2, 3)
    assert report.discounts == (FALLBACK,) * 3
    assert evaluate(tmp_path / "m.arpa", [text]).perplexity < 1.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order of a language model is 1 to 6, not 0"),
        ({"order": 7}, "1 to 6"),
        ({"unit": "letter"}, "word or token"),
        ({"unit": "token"}, "needs the vocabulary"),
        ({"prune": ()}, "1 to 3 thresholds"),
        ({"prune": (0, 0, 1, 1)}, "1 to 3 thresholds"),
        ({"prune": (1, 0)}, "must not fall"),
        ({"prune": (-1,)}, "0 or more"),
        ({"most_words": 0}, "at least 1"),
        ({"discount_fallback": (0.5, 1, 4)}, "within 0 to 1, 0 to 2 and 0 to 3"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(OptionsError, match=message):
        LmOptions(**options)


VOCABULARIES = {
    units: unit_vocabulary(TEXT.read_text().splitlines(), units, subwords=60)
    for units in ("characters", "words", "subwords")
}


@pytest.mark.parametrize("units", list(VOCABULARIES))
def test_tokens_are_those_of_training(units):
    vocabulary = VOCABULARIES[units]
    assert units_of(vocabulary) == units
    speller = Speller(vocabulary)
    for line in TEXT.read_text().splitlines():
        assert speller(line.split()) == [vocabulary.symbols[i] for i in encode(line, vocabulary, units=units)]
        assert all(speller.can_spell(word) for word in line.split())
    assert not speller.can_spell("Großbuchstaben")


@pytest.mark.parametrize("units", list(VOCABULARIES))
def test_models_of_tokens_know_the_tokens(tmp_path, units):
    vocabulary = VOCABULARIES[units]
    report = estimate([TEXT], tmp_path / "m.arpa", LmOptions(unit="token", vocabulary=vocabulary))
    model = open_lm(tmp_path / "m.arpa")
    assert model.unit == report.unit == "token"
    assert set(model.words) - {"<unk>", "<s>", "</s>"} <= set(vocabulary.symbols)
    score = evaluate(tmp_path / "m.arpa", [TEXT], vocabulary)
    assert (score.unknown, score.words, score.sentences) == (0, report.units, report.sentences)
    if units == "subwords":
        with pytest.raises(OptionsError, match=r"needs the vocabulary .* tokens\.txt"):
            evaluate(tmp_path / "m.arpa", [TEXT])
    else:
        assert evaluate(tmp_path / "m.arpa", [TEXT]) == score


def test_words_that_the_vocabulary_cannot_spell_are_reported(tmp_path):
    text = write(tmp_path / "t.txt", TEXT.read_text() + "Naïve cat\nthe Naïve dog 7\n")
    report = estimate([text], tmp_path / "w.arpa", LmOptions(vocabulary=CHARACTERS))
    assert report.unspelled == {"Naïve": 2, "7": 1}
    assert report.skipped == 0
    assert "Naïve" in open_lm(tmp_path / "w.arpa").words
    report = estimate([text], tmp_path / "c.arpa", LmOptions(unit="token", vocabulary=CHARACTERS))
    assert report.unspelled == {"Naïve": 2, "7": 1}
    assert report.skipped == 2
    assert report.sentences == len(TEXT.read_text().splitlines())
    only = write(tmp_path / "only.txt", "Naïve\n")
    with pytest.raises(LanguageModelError, match="the vocabulary can spell none of 1"):
        estimate([only], tmp_path / "n.arpa", LmOptions(unit="token", vocabulary=CHARACTERS))


def test_convert_packs_an_arpa_file(tmp_path):
    model = convert(GOLDEN / "characters-4.arpa.gz", tmp_path / "c.kdlm", "token")
    opened = open_lm(tmp_path / "c.kdlm")
    assert (opened.unit, opened.order, opened.words) == ("token", 4, model.words)
    assert evaluate(tmp_path / "c.kdlm", [TEXT]).unknown == 0
    with pytest.raises(OptionsError, match=r"named \*\.kdlm"):
        convert(GOLDEN / "words-3.arpa.gz", tmp_path / "c.bin")
    with pytest.raises(LanguageModelNotFoundError, match="absent"):
        convert(tmp_path / "absent.arpa", tmp_path / "c.kdlm")


def test_convert_refuses_binaries_of_kenlm(tmp_path):
    pytest.importorskip("kenlm")
    with pytest.raises(LanguageModelError, match="pack its ARPA file"):
        convert(GOLDEN / "words-2-sri.trie.bin", tmp_path / "c.kdlm")


def test_evaluate_counts_unknown_words(tmp_path):
    text = write(tmp_path / "t.txt", "the cat\nthe zebra\n\n")
    score = evaluate(GOLDEN / "words-3.arpa.gz", [text])
    assert (score.sentences, score.words, score.unknown) == (2, 4, 1)
    with pytest.raises(LanguageModelError, match="no sentence"):
        evaluate(GOLDEN / "words-3.arpa.gz", [write(tmp_path / "e.txt", "\n")])


def test_more_context_fits_better_and_most_words_leaves_the_rest_unknown(tmp_path):
    values = []
    for order in (1, 2, 3):
        estimate([TEXT], tmp_path / "m.kdlm", LmOptions(order=order))
        values.append(evaluate(tmp_path / "m.kdlm", [TEXT]).perplexity)
    assert all(left > right for left, right in itertools.pairwise(values))
    estimate([TEXT], tmp_path / "m.kdlm", LmOptions(most_words=10))
    assert len(open_lm(tmp_path / "m.kdlm").words) == 13
    assert evaluate(tmp_path / "m.kdlm", [TEXT]).unknown > 0


def test_estimation_needs_no_torch():
    script = "import sys, kdcompress.lm; print([m for m in ('torch', 'tokenizers', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout


def test_vocabulary_of_single_characters_only():
    assert units_of(Vocabulary.from_symbols(["a", "▁", "b"])) == "characters"
    assert units_of(Vocabulary.from_symbols(["▁a", "▁b"])) == "words"
    assert units_of(Vocabulary.from_symbols(["a", "▁", "▁a"])) == "subwords"
