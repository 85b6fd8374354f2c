"""Bundles of sentences: text in, text out; positions are source tokens."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from kdcompress_runtime import (
    Bundle,
    BundleCorruptError,
    BundleError,
    BundleNotFoundError,
    CtcModel,
    DecoderOptions,
    ModelError,
    OptionsError,
    Recognizer,
    SourceTextError,
)
from kdcompress_runtime.source_text import MAX_CHARACTERS, MAX_TOKENS, SourceTable
from tests.runtime.small_bundles import TABLE, UPSAMPLING, VOCABULARY, text_bundle

SENTENCES = ["ab", "c d", "ab abc", "f", "abc ab", "de fa b", "ab"]
WORDS = st.lists(st.text("abcde", min_size=1, max_size=9), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return text_bundle(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def translator(path):
    return Recognizer.from_dir(path)


@pytest.fixture(scope="module", params=["greedy", "beam"])
def any_translator(path, request):
    return Recognizer.from_dir(path, decoder=DecoderOptions(request.param))


def expected(ids) -> str:
    """What the graph says: token ``i`` is symbol ``1 + i % 7``."""
    return VOCABULARY.text(1 + index % (len(VOCABULARY) - 1) for index in ids)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_is_translated(any_translator, sentence):
    ids = TABLE.encode(sentence)
    result = any_translator.recognize(sentence)
    assert result.text == expected(ids)
    assert result.timestamps == tuple(range(len(ids)))
    assert result.token_ends == tuple(index + 1 / UPSAMPLING for index in range(len(ids)))
    assert any_translator.log_probs(sentence).shape == (UPSAMPLING * len(ids), len(VOCABULARY))
    assert all(0 < sure <= 1 for sure in result.token_confidences)


def test_positions_of_words_are_source_tokens(translator):
    assert [VOCABULARY.symbols[1 + i % 7] for i in TABLE.encode("ab ecc")] == ["e", "b", "▁", "e", "e"]
    result = translator.recognize("ab ecc")
    assert [(word.text, word.begin, word.end) for word in result.words] == [("eb", 0, 1.5), ("ee", 3, 4.5)]
    assert result.text == "eb ee"


def test_a_batch_answers_as_one_by_one(any_translator):
    together = any_translator.recognize_batch(SENTENCES)
    for alone, found in zip(map(any_translator.recognize, SENTENCES), together, strict=True):
        assert (found.text, found.tokens, found.timestamps) == (alone.text, alone.tokens, alone.timestamps)
        assert found.log_prob == pytest.approx(alone.log_prob, abs=1e-5)


def test_beam_with_language_model_and_nbest(path, table_lm):
    beam = Recognizer.from_dir(path, decoder=DecoderOptions("beam", alpha=0.0), lm=table_lm(("d", "db")))
    assert beam.recognize("ab").text == expected(TABLE.encode("ab"))
    texts = [one.text for one in beam.nbest("ab f", 4)]
    assert len(set(texts)) == 4
    assert texts[0] == beam.recognize("ab f").text


def test_short_sentences_are_padded_as_the_graph_needs(tmp_path):
    source = {"kind": "tokens", "name": "tokens", "units_per_frame": 1, "frames_per_unit": 2, "min_units": 5}
    translator = Recognizer.from_dir(text_bundle(tmp_path / "b", input=source))
    assert len(translator.log_probs("ab")) == 5 * UPSAMPLING
    assert max(translator.recognize("ab").token_ends) <= 1  # nothing lies beyond the sentence


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        (3, "found int"),
        (b"ab", "found bytes"),
        (np.zeros(3), "found ndarray"),
        ("a " * (MAX_TOKENS + 1), f"tokens are no sentence .at most {MAX_TOKENS}"),
        ("a" * (MAX_CHARACTERS + 1), "characters are no sentence"),
        ("a" * (MAX_TOKENS + 1), "a word of 1001 characters is no word"),
    ],
)
def test_what_is_no_sentence_is_refused(translator, value, words):
    with pytest.raises(SourceTextError, match=words):
        translator.recognize(value)
    with pytest.raises(SourceTextError, match=f"^item 7: .*{words}"):
        TABLE.encode(value, "item 7")
    with pytest.raises(SourceTextError, match=rf"values\[2\]: .*{words}"):
        translator.recognize_batch(["a", "b", value])


def test_unknown_characters_are_unknown_and_forms_are_composed(translator):
    assert TABLE.encode("aß").tolist() == [9, 1]
    composed, taken_apart = "\u00e9", "e\u0301"
    table = SourceTable(["<mask>", "<unk>", "▁", composed])
    assert table.encode(taken_apart).tolist() == table.encode(composed).tolist() == [2, 3]
    assert unicodedata.normalize("NFC", taken_apart) == composed
    assert translator.recognize("ß").text == expected([2, 1])


@given(st.lists(WORDS, min_size=1, max_size=8), WORDS)
def test_encoding_is_that_of_the_package_tokenizers(texts, words):
    theirs = Tokenizer(models.BPE())
    theirs.train_from_iterator(
        ("▁" + word for text in texts for word in text), trainers.BpeTrainer(vocab_size=60, show_progress=False)
    )
    found = theirs.get_vocab()
    table = SourceTable(["<mask>", "<unk>", *sorted(found, key=found.__getitem__)])
    again = SourceTable.loads(table.dumps())
    assert again.symbols == table.symbols
    known = ["".join(letter for letter in word if letter in found) for word in words]
    ids = [2 + index for word in known if word for index in theirs.encode("▁" + word).ids]
    if ids:
        assert again.encode("  ".join(known)).tolist() == ids


def test_a_table_is_kept_in_the_bundle_and_checked(path, tmp_path):
    bundle = Bundle.open(path)
    assert bundle.source_table.symbols == TABLE.symbols
    assert bundle.size() == sum(file.stat().st_size for file in path.iterdir())
    folder = text_bundle(tmp_path / "b")
    (folder / "source_tokens.txt").write_text(TABLE.dumps().replace("f", "g"), encoding="utf-8")
    with pytest.raises(BundleCorruptError, match=r"source_tokens\.txt.*SHA-256"):
        Bundle.open(folder)
    (folder / "source_tokens.txt").unlink()
    with pytest.raises(BundleNotFoundError, match=r"source_tokens\.txt"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a 0\n<unk> 1\n", "begins with <mask> and <unk>"),
        ("<mask> 0\n<unk> 1\na 3\n", r"source_tokens\.txt, line 3: expected 'symbol 2'"),
        ("<mask> 0\n<unk> 1\na 2\na 3\n", "twice"),
        ("", "begins with"),
        ("<mask> 0\n<unk> 1\n2\n", "line 3"),
    ],
)
def test_broken_tables_are_refused(tmp_path, table, words):
    with pytest.raises(BundleError, match=words):
        Bundle.open(text_bundle(tmp_path / "b", table=table))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames_per_unit": 0}, "from 1 to 16, found 0"),
        ({"frames_per_unit": 17}, "from 1 to 16, found 17"),
        ({"frames_per_unit": 2.0}, "must be an integer"),
        ({"frames_per_unit": 2, "units_per_frame": 2}, "one of units_per_frame and frames_per_unit must be 1"),
        ({"height": 32}, "height means nothing"),
    ],
)
def test_metadata_that_describe_no_sentences_are_refused(tmp_path, changes, words):
    source = {"kind": "tokens", "name": "tokens", "units_per_frame": 1, "frames_per_unit": 2}
    with pytest.raises(BundleError, match=words):
        Bundle.open(text_bundle(tmp_path / "b", input={**source, **changes}))


def test_the_table_must_be_named(path, tmp_path):
    files = {name: sha for name, sha in Bundle.open(path).metadata.files.items() if name != "source_tokens.txt"}
    with pytest.raises(BundleError, match=r"source_tokens\.txt has no SHA-256"):
        Bundle.open(text_bundle(tmp_path / "b", files=files))


def test_what_is_for_audio_says_so(path, translator):
    with pytest.raises(OptionsError, match="a stream: only for audio, and this bundle takes sentences"):
        translator.create_stream()
    with pytest.raises(OptionsError, match="sentences, and only audio has a sample rate"):
        translator.recognize("ab", 8000)
    with pytest.raises(OptionsError, match="takes a list of values"):
        translator.recognize_batch("ab")
    with pytest.raises(OptionsError, match="chunk_frames: only for audio"):
        Recognizer.from_dir(path, chunk_frames=2)


@pytest.mark.parametrize("ids", [np.zeros((1, 3), np.int32), np.zeros(3, np.int64), np.zeros((1, 0), np.int64)])
def test_arrays_that_do_not_fit_the_graph_are_model_errors(path, ids):
    with pytest.raises(ModelError, match=r"a step takes \(N, n\) with n >= 1, int64"):
        CtcModel.from_bundle(Bundle.open(path)).step(ids, {})


def test_a_table_longer_than_the_graph_knows_is_a_model_error(tmp_path):
    path = text_bundle(tmp_path / "b", table=SourceTable([*TABLE.symbols, "x"]).dumps())
    with pytest.raises(ModelError, match="the step failed"):
        Recognizer.from_dir(path).recognize("x")


def test_a_model_without_its_table_says_so(path):
    model = CtcModel.from_bundle(replace(Bundle.open(path), source_table=None))
    with pytest.raises(SourceTextError, match=r"CtcModel\.from_bundle"):
        Recognizer(model).recognize("ab")
    assert model.step(np.zeros((1, 2), np.int64), {})[0].shape == (1, 4, len(VOCABULARY))
