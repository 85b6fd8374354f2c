"""Items of a manifest: as if all lines were read at once, but with memory for one of them."""

from __future__ import annotations

import json
import os
import tracemalloc

import numpy as np
import pytest
import soundfile

from kdcompress.data import index as index_module
from kdcompress.data import items as items_module
from kdcompress.data.index import RECORD, index_file, remove_indexes
from kdcompress.data.items import Item, Items, Limits, load_items
from kdcompress.data.speech import TrainingBatches, evaluation_batches, speech_items
from kdcompress.data.text import Encoder, character_vocabulary, frames_needed
from kdcompress.distill import fit
from kdcompress.errors import TargetTooLongError, VocabularyError
from kdcompress_runtime.errors import AudioError, InputError, ManifestError
from kdcompress_runtime.manifest import manifest_fingerprint, read_manifest

VOCABULARY = character_vocabulary(["abc de"])
LIMITS = Limits(
    text_units="characters", units_per_second=8000, units_per_frame=320, max_duration=30, on_unusable="skip"
)
ODD = ['{"audio_filepath": "ü.wav", "text": "aab", "duration": 2, "speaker": "Zoë"}\r', "", "   "]
USABLE = [{"audio_filepath": f"{n}.wav", "text": "ab c"[: n % 5], "duration": 1 + n / 7, "id": n} for n in range(40)]
UNUSABLE = [
    {"audio_filepath": "long.wav", "text": "a", "duration": 31},
    {"audio_filepath": "short.wav", "text": "aaaaaaa", "duration": 0.1},
]


@pytest.fixture
def manifest(tmp_path):
    """``manifest(*rows)``: path of a manifest of such lines; objects, or text as it is."""

    def make(*rows):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "some.jsonl").write_bytes("\n".join(lines).encode())
        return tmp_path / "some.jsonl"

    return make


def unknown(entry):
    raise AudioError(f"{entry.id} was to be read")


def load(path, **more):
    limits = Limits(**{**LIMITS.__dict__, **{name: more.pop(name) for name in list(more) if name in LIMITS.__dict__}})
    return load_items(path, VOCABULARY, limits, **{"seconds": unknown, **more})


def read_eagerly(path):
    encode = Encoder(VOCABULARY, "characters")
    for number, entry in enumerate(read_manifest(path)):
        labels = encode(entry.text)
        units = round(entry.duration * 8000)
        if entry.duration <= 30 and -(-units // 320) >= frames_needed(labels):
            yield Item(entry, number, labels, units, frames_needed(labels) * 320)


def test_items_are_those_of_a_manifest_read_at_once(manifest, caplog):
    path = manifest(*USABLE[:7], *ODD, UNUSABLE[0], *USABLE[7:], UNUSABLE[1], ODD[0])
    found, wanted = load(path), list(read_eagerly(path))
    assert isinstance(found, Items)
    assert len(found) == len(wanted) == 42
    assert list(found) == wanted
    assert [found[place] for place in (0, 9, -1)] == [wanted[0], wanted[9], wanted[-1]]
    assert [list(found[part]) for part in (slice(3, 9), slice(None, None, 5))] == [wanted[3:9], wanted[::5]]
    assert found.chosen([5, 0, 5]) == [wanted[5], wanted[0], wanted[5]]
    assert wanted[8] in found
    assert found.lengths.tolist() == [item.units for item in wanted]
    assert found.fingerprint == manifest_fingerprint(path)
    assert [item.number for item in wanted][7:10] == [7, 9, 10]  # places among the entries, the unusable ones counted
    assert "left out 2 of 44 items" in caplog.text
    with pytest.raises(IndexError):
        found[42]


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ('{"audio_filepath": "a.wav"', ManifestError, "some.jsonl, line 4: not valid JSON"),
        ('{"audio_filepath": "a.wav"}', ManifestError, "some.jsonl, line 4: no reference"),
        ({"audio_filepath": "a.wav", "text": "xyz", "duration": 1}, VocabularyError, "item .*a.wav: 'x' in 'xyz'"),
        (UNUSABLE[0], InputError, "item .*long.wav: 31.0 s is longer .*correct the manifest, or set data.on_unusable"),
        (UNUSABLE[1], TargetTooLongError, "item .*short.wav: the reference needs 13 frames, the input has 3; correct"),
        ({"audio_filepath": "a.wav", "text": "a"}, AudioError, "a.wav was to be read"),
    ],
)
def test_errors_name_the_line_and_leave_nothing_behind(manifest, tmp_path, line, error, words):
    path = manifest(*USABLE[:2], "", line, USABLE[2])
    with pytest.raises(error, match=words):
        load(path, on_unusable="error", index=tmp_path / "kept")
    assert [found.name for found in tmp_path.iterdir()] == ["some.jsonl"]


def test_a_manifest_without_anything_usable(manifest, tmp_path):
    with pytest.raises(ManifestError, match="manifest is empty"):
        load(manifest("", "  "))
    with pytest.raises(ManifestError, match="no item is left; all 2 are too long"):
        load(manifest(*UNUSABLE))
    with pytest.raises(ManifestError, match=r"manifest not found: .*none.jsonl"):
        load(tmp_path / "none.jsonl")


def test_the_index_is_kept_until_something_changes(manifest, tmp_path, monkeypatch):
    path, kept = manifest(*USABLE), tmp_path / "kept"
    passes = []
    original = items_module.read_lines
    monkeypatch.setattr(items_module, "read_lines", lambda path: passes.append(path) or original(path))
    first = load(path, index=kept)
    assert list(load(path, index=kept)) == list(first)
    assert len(passes) == 1
    assert load(path, index=kept).fingerprint == first.fingerprint
    for changed in ({"max_duration": 4}, {"units_per_second": 16000}, {"text_units": "words"}):
        if "text_units" in changed:
            with pytest.raises(VocabularyError):
                load(path, index=kept, **changed)
        else:
            load(path, index=kept, **changed)
    assert len(passes) == 4
    load(path, index=kept)
    assert len(passes) == 5
    os.utime(path, ns=(1, 1))
    load(path, index=kept)
    assert len(passes) == 6
    load_items(path, character_vocabulary(["abc def"]), LIMITS, seconds=unknown, index=kept)
    assert len(passes) == 7


@pytest.mark.parametrize("harm", ["cut", "other", "empty"])
def test_an_index_that_is_not_whole_is_made_again(manifest, tmp_path, harm):
    path, kept = manifest(*USABLE), tmp_path / "kept"
    wanted = list(load(path, index=kept))
    content = kept.read_bytes()
    kept.write_bytes({"cut": content[: -RECORD.itemsize // 2], "other": b"{}" + content[2:], "empty": b""}[harm])
    assert list(load(path, index=kept)) == wanted
    assert kept.read_bytes() == content


def test_a_line_changed_in_use_is_an_error_and_one_that_is_added_is_not(manifest):
    path = manifest(*USABLE)
    found = load(path)
    with path.open("a") as file:
        file.write("\n" + json.dumps(USABLE[0]))
    assert len(list(found)) == 40
    content = path.read_text()
    path.write_text(content.replace('"id": 5,', '"id": 6,').replace('"id": 5}', '"id": 6}'))
    assert found[4].entry.id == "4"
    with pytest.raises(ManifestError, match=r"some.jsonl, entry 6: was changed while it was in use"):
        found[5]
    path.unlink()
    with pytest.raises(ManifestError, match="cannot be read any more"):
        found[4]


def test_memory_does_not_grow_with_the_manifest(tmp_path):
    """Six times the lines take as much memory: neither the pass nor what is read keeps a line."""
    held = []

    def hold(_=None):
        # pathlib interns every name; the table of them is emptied again, but not made smaller
        found = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=False, filename_pattern="*pathlib*")]
        )
        held.append(sum(trace.size for trace in found.traces))
        return 3.0

    for lines in (500, 3_000):
        path = tmp_path / f"{lines}.jsonl"
        row = '{"audio_filepath": "%d.wav", "text": "ab c", "duration": 3}\n'
        path.write_text("".join(row % number for number in range(lines)) + '{"audio_filepath": "z.wav", "text": "a"}')
        tracemalloc.start()
        for item in load_items(path, VOCABULARY, LIMITS, seconds=hold):  # asked for the last line
            last = item
        hold()
        tracemalloc.stop()
        assert last.number == lines
    (first_pass, first_items), (second_pass, second_items) = held[:2], held[2:]
    assert second_pass < first_pass + 200_000
    assert second_items < first_items + 200_000
    assert RECORD.itemsize == 24


def test_progress_is_told_when_a_pass_is_long(manifest, monkeypatch):
    monkeypatch.setattr(items_module, "REPORT_SECONDS", -1)
    monkeypatch.setattr(items_module, "REPORT_LINES", 10)
    said = []
    path = manifest(*USABLE)
    load(path, on_progress=lambda *progress: said.append(progress))
    assert len(said) == 4
    assert [total for _, total in said] == [path.stat().st_size] * 4
    assert said == sorted(said)


def test_only_a_long_manifest_leaves_an_index_in_the_folder_of_a_run(make_recipe, vocabulary, tmp_path, monkeypatch):
    recipe = make_recipe("student")
    run = tmp_path / "run"
    speech_items(recipe.data.train, recipe, vocabulary, 320, run)
    assert not run.exists()
    monkeypatch.setattr(index_module, "LONG_BYTES", 1)
    items = speech_items(recipe.data.train, recipe, vocabulary, 320, run)
    speech_items(recipe.data.dev, recipe, vocabulary, 320, run)
    assert len(list(run.iterdir())) == 2
    assert index_file(run, recipe.data.train).is_file()
    remove_indexes(run)
    assert not list(run.iterdir())
    assert len(list(items)) == 12


def test_lengths_that_no_line_tells_are_read(make_recipe, vocabulary, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), 16000)
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps({"audio_filepath": "a.wav", "text": "a"}))
    (item,) = speech_items(path, make_recipe("student"), vocabulary, 320)
    assert item.units == 2000


def test_evaluation_takes_items_and_lists_of_items_alike(make_recipe, vocabulary):
    recipe = make_recipe("student", batch_size=5)
    items = speech_items(recipe.data.train, recipe, vocabulary, 320)
    lazy, eager = (list(evaluation_batches(given, recipe)) for given in (items, list(items)))
    assert [batch.items.tolist() for batch in lazy] == [batch.items.tolist() for batch in eager]
    assert [len(batch.texts) for batch in lazy] == [5, 5, 2]
    assert [len(batch.texts) for batch in evaluation_batches(items[2:9], recipe)] == [5, 2]


def test_evaluation_keeps_to_the_seconds_of_a_batch(make_recipe, vocabulary):
    recipe = make_recipe("student", batch_size=5, batch_seconds=2)
    items = speech_items(recipe.data.train, recipe, vocabulary, 320)
    made = list(evaluation_batches(items, recipe))
    assert sorted(number for batch in made for number in batch.items.tolist()) == list(range(12))
    assert all(batch.inputs.numel() <= 16000 for batch in made)
    assert len(made[0].texts) < len(made[-2].texts)


def test_training_batches_are_those_of_an_index_that_was_kept(make_recipe, vocabulary, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "LONG_BYTES", 1)
    recipe = make_recipe("student")
    made = [TrainingBatches(recipe, vocabulary, units_per_frame=320, keep=tmp_path) for _ in range(2)]
    assert [batch.items.tolist() for batch in (made[0][3], made[1][3])] == [made[0][3].items.tolist()] * 2


def test_a_run_goes_on_with_the_index_it_kept_and_removes_it_at_the_end(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "LONG_BYTES", 1)
    recipe, passes = make_recipe("student", steps=2), []
    original = items_module.read_lines
    monkeypatch.setattr(items_module, "read_lines", lambda path: passes.append(path.name) or original(path))

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run", stop)
    assert len(list((tmp_path / "run").glob("items-*"))) == 2
    fit(recipe, tmp_path / "run")
    assert passes == ["train.jsonl", "dev.jsonl"]
    assert not list((tmp_path / "run").glob("items-*"))
