"""Words as units: one token a word, or a phone, through vocabulary, training, teachers and decoding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdcompress.data.speech import speech_items
from kdcompress.data.text import encode, frames_needed, word_vocabulary
from kdcompress.distill import fit
from kdcompress.errors import MismatchError, RecipeError, VocabularyError
from kdcompress.measure import greedy_texts
from kdcompress.run import load_run
from kdcompress_runtime.decoders import DecoderOptions, build_decoder
from kdcompress_runtime.vocabulary import Vocabulary

PHONES = ("AH B AW T", "  T AH  B ")
WORDS = "data={train: %s, dev: %s, units: words}"


def test_each_word_is_one_token_and_texts_come_back_through_the_runtime():
    vocabulary = word_vocabulary(PHONES)
    assert vocabulary.symbols == ("<blk>", "▁AH", "▁AW", "▁B", "▁T")
    read = Vocabulary.loads(vocabulary.dumps())
    for text in PHONES:
        ids = encode(text, read, units="words")
        assert len(ids) == len(text.split())
        assert read.text(ids) == " ".join(text.split())
    assert frames_needed(encode("AH AH B", read, units="words")) == 4


def test_a_word_outside_the_vocabulary_is_named():
    with pytest.raises(VocabularyError, match=r"item 7: '▁ZH' in 'AH ZH'"):
        encode("AH ZH", word_vocabulary(PHONES), "item 7", "words")
    with pytest.raises(VocabularyError, match="all empty"):
        word_vocabulary([" "])


@pytest.mark.parametrize("kind", ["greedy", "beam", "pyctcdecode"])
def test_decoders_give_phones_with_blanks_between(kind):
    vocabulary = word_vocabulary(PHONES)
    ids = encode("T AH B B", vocabulary, units="words")
    path = [0, ids[0], ids[0], ids[1], 0, ids[2], 0, ids[3], 0]
    log_probs = np.full((len(path), len(vocabulary)), -6.0, np.float32)
    log_probs[np.arange(len(path)), path] = -0.02
    decoder = build_decoder(DecoderOptions(kind=kind), vocabulary)
    best = decoder.best(decoder.advance(decoder.init_state(), log_probs))
    assert vocabulary.text(best.token_ids) == "T AH B B"
    frames = torch.from_numpy(log_probs)[None]
    assert greedy_texts(frames, torch.tensor([len(path)]), vocabulary) == ["T AH B B"]


def test_training_takes_words_and_their_error_rate_is_measured(make_recipe, corpus, tmp_path):
    data = WORDS % (corpus["train"], corpus["train"])
    summary = fit(make_recipe("conventional", data, steps=2), tmp_path / "teacher")
    assert {"wer", "cer"} < summary["dev"].keys()
    run = load_run(tmp_path / "teacher")
    assert "▁cab" in run.vocabulary.symbols
    assert "c" not in run.vocabulary.symbols
    items = speech_items(run.recipe.data.train, run.recipe, run.vocabulary, 320)
    assert all(len(item.labels) == len(item.entry.text.split()) for item in items)
    teacher = f"distill.teachers={tmp_path / 'teacher'}"
    taught = "losses=[{kind: frame_kl}]"
    student = make_recipe("student", data, teacher, taught, steps=2)
    assert fit(student, tmp_path / "student")["teachers"][0]["name"] == "tiny-conventional"
    with pytest.raises((MismatchError, RecipeError)):  # words have no characters to give
        fit(make_recipe("student", teacher, taught, steps=2), tmp_path / "characters")


def test_an_unseen_word_of_dev_is_an_error_before_the_first_update(make_recipe, corpus, tmp_path):
    with pytest.raises(VocabularyError, match=r"dev\.jsonl, item dev3\.wav: '▁bac'"):
        fit(make_recipe("student", WORDS % (corpus["train"], corpus["dev"]), steps=1), tmp_path / "run")
