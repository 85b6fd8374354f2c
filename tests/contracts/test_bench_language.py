"""The benchmark of language: lists of hotwords, counts, tables, and a whole run on a toy."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from kdcompress_export.decoder_tuning.calibration import JudgedWords
from kdcompress_runtime import Bundle, Hypothesis, Vocabulary
from kdcompress_runtime.confidence import Calibration

WORDS = ("a", "ab", "b", "ba", "bb")


@pytest.fixture(scope="module")
def scores(benchmark_script):
    return benchmark_script("language_scores")


class Parrot:
    """A decoder that answers the same, and with hotwords says them all."""

    def __init__(self, words):
        self._words = words

    def with_hotwords(self, hotwords):
        return Parrot([*self._words, *hotwords])

    def init_state(self):
        return None

    def advance(self, state, log_probs):  # noqa: ARG002 - it does not listen
        return state

    def best(self, state):  # noqa: ARG002
        return Hypothesis(tuple(self._words), (), 0.0)


def test_rare_words_are_those_that_training_seldom_has(scores):
    common = scores.common_words(["b a", "b c", "a b"], 2)
    assert common == {"a", "b"}
    assert scores.common_words(["b a", "c"], 2) == {"a", "b"}
    assert scores.rare_words("d a e d é", common, frozenset("abcde")) == ["d", "e"]


def test_distractors_were_not_said_and_repeat_with_the_seed(scores):
    texts = [f"w{index} w{index + 1} the" for index in range(40)]
    letters = frozenset("w0123456789")
    lists = scores.distractors(texts, frozenset({"the"}), letters, 20, seed=1)
    for words, text in zip(lists, texts, strict=True):
        assert len(set(words)) == 20
        assert not set(words) & set(text.split())
    assert lists == scores.distractors(texts, frozenset({"the"}), letters, 20, seed=1)
    assert len(scores.distractors(texts[:2], frozenset({"the"}), letters, 20, seed=1)[0]) == 1


def test_rows_count_errors_rare_words_and_false_alarms(scores):
    vocabulary = Vocabulary.from_symbols(["▁one", "▁two", "▁six", "▁ten"])
    symbols = {symbol.strip("▁"): index for index, symbol in enumerate(vocabulary.symbols)}
    data = SimpleNamespace(ids=("x",), texts=("one two",), log_probs=(np.zeros((1, 5)),))
    lists = {"common": frozenset({"one"}), "lists": [("six", "ten")]}
    decoder = Parrot([symbols["one"]])
    (plain,) = scores.decode("s", data, decoder, vocabulary, **lists)
    assert (plain.word_errors, plain.words, plain.rare, plain.rare_found, plain.false_alarms) == (1, 2, 1, 0, 0)
    ids = {symbols["two"]: 1.0, symbols["six"]: 1.0}  # the parrot takes ids
    (row,) = scores.decode("s", data, decoder, vocabulary, **lists, hotwords=[ids].__getitem__)
    assert row.text == "one two six"
    assert (row.word_errors, row.rare_found, row.false_alarms) == (1, 1, 1)
    found = scores.summary([row] * 4, [plain] * 4)
    assert (found["wer"], found["rare_recall"], found["false_alarms_per_utterance"]) == (50, 100, 1)
    assert found["wer_difference"]["points"] == 0


def test_confidence_is_measured_raw_and_calibrated(scores):
    words = JudgedWords(np.ones(100), np.arange(100) < 60, np.arange(100))
    found = scores.confidence_summary(words, Calibration((0.5,), (0.6,)))
    assert found["ece_raw"] == pytest.approx(40)
    assert found["ece"] == pytest.approx(0)
    assert (found["wrong_above_0.99_raw"], found["wrong_above_0.99"]) == (100, 0)
    assert "ece" not in scores.confidence_summary(words, None)


@pytest.fixture
def corpus(tmp_path_factory, toy_bundle):
    """Texts that the toy bundle hears without error, and a language model of their words."""
    bundle = Bundle.open(toy_bundle)
    unit, symbols = bundle.metadata.input.units_per_frame, bundle.vocabulary.symbols
    folder, rng = tmp_path_factory.mktemp("language"), np.random.default_rng(0)
    for part, items in (("train", 6), ("dev", 20), ("test", 20)):
        lines = []
        for index in range(items):
            text = " ".join(rng.choice(WORDS if part != "train" else WORDS[:2], 4))
            labels = [label for letter in text.replace(" ", "▁") for label in (symbols.index(letter), 0)]
            audio = np.repeat(np.array(labels, np.float32), unit)
            soundfile.write(folder / f"{part}{index}.wav", audio, 8000, subtype="FLOAT")
            lines.append(json.dumps({"audio_filepath": f"{part}{index}.wav", "text": text}) + "\n")
        (folder / f"{part}.jsonl").write_text("".join(lines))
    grams = "".join(f"-0.8\t{word}\t0\n" for word in ("<unk>", "</s>", *WORDS))
    lm = f"\\data\\\nngram 1=8\nngram 2=1\n\n\\1-grams:\n-99\t<s>\t0\n{grams}\n\\2-grams:\n-0.5\ta b\n\n\\end\\\n"
    (folder / "lm.arpa").write_text(lm)
    return folder


def test_a_whole_run_keeps_rows_and_tables_and_ends_in_one_json_object(benchmark_script, corpus, toy_bundle, capsys):
    save, work = corpus / "save", corpus / "work"
    options = ["--lm", str(corpus / "lm.arpa"), "--data", str(corpus), "--work", str(work), "--save", str(save)]
    options += ["--common", "2", "--others", "1", "--trials", "2"]
    before = {file.name: file.read_bytes() for file in toy_bundle.iterdir()}
    assert benchmark_script("bench_language").main([str(toy_bundle), *options]) == 0
    assert {file.name: file.read_bytes() for file in toy_bundle.iterdir()} == before
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])["bundles"][toy_bundle.name]
    assert len(found["systems"]) == 10
    assert found["systems"]["greedy, untuned"]["wer"] == 0
    assert found["confidence"]["beam + LM"]["words"] == 80
    with gzip.open(save / f"{toy_bundle.name}.rows.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 200
    assert {row["system"] for row in rows} == set(found["systems"])
    table = (save / f"{toy_bundle.name}.md").read_text(encoding="utf-8")
    assert all(f"| {system} |" in table for system in found["systems"])
    assert table in printed


def test_dev_and_test_must_not_share_items(benchmark_script, corpus, toy_bundle, capsys):
    (corpus / "test.jsonl").write_text((corpus / "dev.jsonl").read_text())
    options = ["--lm", str(corpus / "lm.arpa"), "--data", str(corpus), "--work", str(corpus / "w")]
    assert benchmark_script("bench_language").main([str(toy_bundle), *options]) == 1
    assert "same items" in capsys.readouterr().err
