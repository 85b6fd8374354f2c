"""A Hugging Face translator as a teacher: it says what transformers says, sentence by sentence, and nothing worse."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pytest
import torch

from kdcompress.errors import MismatchError, TeacherError
from kdcompress.recipe_file import load_recipe
from kdcompress.teachers import seq2seq, seq2seq_folder
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.seq2seq import Seq2SeqTeacher
from kdcompress_runtime.errors import MissingDependencyError
from tests.core.translation.conftest import PAIRS

SOURCES = [source for source, _ in PAIRS[::5]]


@pytest.fixture(scope="module")
def teacher(marian):
    return open_teacher(marian, ["Ö!"])


@pytest.fixture
def copied(marian, tmp_path):
    return shutil.copytree(marian, tmp_path / "copy")


def texts(teacher, found):
    return [[teacher.info.vocabulary.text(one.characters) for one in row] for row in found]


def test_what_it_says_of_itself(teacher, marian):
    info = teacher.info
    assert isinstance(teacher, Seq2SeqTeacher)
    assert (info.name, info.kind, info.units) == ("tiny", "autoregressive marian", "characters")
    assert info.gives == {"hypotheses"}
    assert set("▁äöJT.Ö!") <= set(info.vocabulary.symbols)  # its own characters, and those of the texts asked about
    assert "</s>" not in info.vocabulary.symbols
    assert info.fingerprint == open_teacher(marian).info.fingerprint


def test_the_best_text_is_that_of_transformers_alone(teacher, marian):
    from transformers import AutoTokenizer, MarianMTModel

    model, tokenizer = MarianMTModel.from_pretrained(marian).eval(), AutoTokenizer.from_pretrained(marian)
    found, lens = teacher.translate(SOURCES, 1, 4)
    for source, texts_found, length in zip(SOURCES, texts(teacher, found), lens, strict=True):
        ids = tokenizer(source, return_tensors="pt")["input_ids"]
        said = model.generate(ids, num_beams=4, max_new_tokens=40)
        assert texts_found == tokenizer.batch_decode(said, skip_special_tokens=True)
        assert length == ids.shape[1]
    assert texts(teacher, found) == [[dict(PAIRS)[source]] for source in SOURCES]  # case and punctuation are there


def test_weights_are_the_probabilities_of_the_texts(teacher, marian):
    from transformers import AutoTokenizer, MarianMTModel

    model, tokenizer = MarianMTModel.from_pretrained(marian).eval(), AutoTokenizer.from_pretrained(marian)
    found, _ = teacher.translate(SOURCES[:3], 3, 4)
    assert all(len(row) > 1 for row in found)
    for source, row in zip(SOURCES[:3], found, strict=True):
        for one in row:
            text = teacher.info.vocabulary.text(one.characters)
            if text not in dict(PAIRS).values():
                continue  # other texts can be cut into tokens in other ways
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            read = tokenizer(source, return_tensors="pt")["input_ids"]
            loss = model(input_ids=read, labels=ids).loss
            assert one.log_prob == pytest.approx(-loss.item() * ids.shape[1], abs=1e-3)


def test_what_does_not_end_is_no_text(teacher, monkeypatch):
    monkeypatch.setattr(seq2seq, "TIMES", 0)
    monkeypatch.setattr(seq2seq, "MORE", 2)
    assert teacher.translate(SOURCES[:2], 2, 2)[0] == [[], []]


def test_a_source_too_long_for_the_model_has_no_text(teacher):
    found, lens = teacher.translate(["fish " * 200, SOURCES[0]], 1, 2)
    assert found[0] == []
    assert lens[0] > 48
    assert texts(teacher, found)[1] == [dict(PAIRS)[SOURCES[0]]]


def test_what_its_tokenizer_cannot_write_is_no_text(teacher, monkeypatch):
    usual = teacher.translate(SOURCES[:1], 1, 2)[0][0][0]
    monkeypatch.setattr(teacher, "_ids", {symbol: id_ for symbol, id_ in teacher._ids.items() if symbol != "."})
    assert teacher.info.vocabulary.text(usual.characters).endswith(".")
    assert teacher.translate(SOURCES[:1], 1, 2)[0] == [[]]


def test_recordings_are_refused(teacher, recipe_of, tmp_path):
    tree = {"schema": 1, "name": "s", "data": {"train": "t.jsonl"}, "model": {"kind": "separable_conv"}}
    (tmp_path / "s.yaml").write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(MismatchError, match="translates sentences, and task speech has none"):
        teacher.check(load_recipe(str(tmp_path / "s.yaml"), []))
    teacher.check(recipe_of())


def edit(file: Any, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def only_pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_tokenizer(folder):
    for file in folder.glob("*token*"):
        file.unlink()


BAD = {
    "hears": (
        lambda f: edit(f / "config.json", architectures=["WhisperForConditionalGeneration"]),
        "does not turn text into text",
    ),
    "pickled": (only_pickled, r"a pickle can run code .*AutoModelForSeq2SeqLM"),
    "own code": (lambda f: edit(f / "config.json", auto_map={"AutoModel": "x.Y"}), "brings its own code"),
    "tokenizer": (without_tokenizer, "cannot load its tokenizer"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no model\.safetensors"),
    "other shape": (lambda f: edit(f / "config.json", d_model=64), "cannot load it as MarianMTModel"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_folders_are_told_apart(name, copied):
    spoil, message = BAD[name]
    spoil(copied)
    with pytest.raises(TeacherError, match=message):
        open_teacher(copied)


def test_sentencepiece_is_named_where_it_is_needed(copied, monkeypatch):
    without_tokenizer(copied)
    (copied / "source.spm").write_bytes(b"")
    usual = seq2seq_folder.find_spec
    monkeypatch.setattr(seq2seq_folder, "find_spec", lambda name: None if name == "sentencepiece" else usual(name))
    with pytest.raises(MissingDependencyError, match=r"source\.spm needs sentencepiece"):
        open_teacher(copied)


def test_without_transformers(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[export\]"):
        open_teacher(copied)


def test_views_and_chosen_items_have_their_texts(teacher, recipe_of):
    from kdcompress.data.items import Item
    from kdcompress.hearing import Heard
    from kdcompress.labels.answers import source_batches
    from kdcompress_runtime.manifest import ManifestEntry

    entries = [ManifestEntry(f"{i}", source, "x", kind="text") for i, source in enumerate(SOURCES[:3])]
    batch = next(source_batches([Item(entry, i, (), 0, 0) for i, entry in enumerate(entries)], 3))
    none = torch.zeros(3, dtype=torch.int64)
    recipe = recipe_of("student", "label={kind: nbest, size: 1, beam_width: 2}")
    heard = Heard(batch, recipe, torch.zeros(3, 0, 1), none, none[:, None], none, views=2)
    said = teacher.answer(heard).hypotheses
    assert said.items.tolist() == list(range(6))
    chosen = teacher.answer(heard, torch.tensor([4, 0])).hypotheses
    assert chosen.items.tolist() == [0, 1]
    wanted = [dict(PAIRS)[batch.sources[row]] for row in (1, 0)]
    rows = zip(chosen.labels.tolist(), chosen.label_lens.tolist(), strict=True)
    assert [teacher.info.vocabulary.text(row[:length]) for row, length in rows] == wanted
