"""The report says what the manifests hold, equal to a plain count over all of them."""

from __future__ import annotations

import json
import random
import statistics
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.data.corpora.base import ManifestRow
from kdcompress.data.corpora.splits import SplitRule, is_held_out
from kdcompress.data.corpora.spool import Spool
from kdcompress.data.corpora.tables import Lookup, read_sorted
from kdcompress.data.corpora.tally import Extremes
from tests.core.corpora import trees

WORDS = ["the", "cat", "sat", "on", "a", "mat", "that", "was", "flat"]


def lines(split: str, count: int) -> list[dict]:
    draw = random.Random(split)
    made = []
    for number in range(count):
        text = " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
        speaker = f"{split}-{number % 7}"
        row = {"audio_filepath": f"/{split}/{number}.wav", "duration": draw.randint(10, 90) / 10, "text": text}
        made.append({**row, "speaker": speaker})
    return made


@pytest.fixture
def counted(tmp_path, prepare):
    """A corpus with one of everything that is odd, and its report."""
    train, dev = lines("train", 300), lines("dev", 40)
    train[3]["text"], train[4]["text"], train[5]["text"] = "café ☃", "", "cat " * 60
    train[6]["duration"], train[7]["duration"] = 99.0, 0.2
    dev[0]["text"] = "zebra"
    trees.manifest(tmp_path / "m" / "train.jsonl", *train)
    trees.manifest(tmp_path / "m" / "dev.jsonl", *dev)
    return train, dev, prepare("nemo", tmp_path / "m", check="none").report


def test_figures_are_those_of_a_plain_count(counted):
    train, dev, report = counted
    for split, items in (("train", train), ("dev", dev)):
        found = report["splits"][split]
        texts = [" ".join(row["text"].split()) for row in items]
        assert found["items"] == len(items)
        assert found["hours"] == pytest.approx(sum(row["duration"] for row in items) / 3600, abs=1e-4)
        assert found["speakers"] == 7
        assert found["words"] == sum(len(text.split()) for text in texts)
        assert found["characters"] == sum(map(len, texts))
    every = [" ".join(row["text"].split()) for row in train + dev]
    assert report["alphabet"]["counts"] == dict(Counter("".join(every)))
    assert report["texts"]["different"] == len(set(every) - {""})
    frequent = Counter(text for text in every if text).most_common(10)
    assert [one["count"] for one in report["texts"]["most_frequent"]] == [count for _, count in frequent]
    assert all(one["count"] == every.count(one["text"]) for one in report["texts"]["most_frequent"])
    known = set(every[: len(train)])
    assert report["splits"]["dev"]["texts_also_in_training"] == sum(text in known for text in every[len(train) :])


def test_what_is_odd_is_named(counted):
    train, _, report = counted
    rare = {one["character"]: one for one in report["alphabet"]["rare"]}
    assert (rare["☃"]["name"], rare["☃"]["count"], rare["☃"]["first"]) == ("SNOWMAN", 1, "/train/3.wav")
    assert "é" in rare
    assert "a" not in rare
    assert report["alphabet"]["not_in_training"] == {"dev": "brz"}
    assert (report["texts"]["empty"], report["texts"]["empty_ids"]) == (1, ["/train/4.wav"])
    outliers = report["outliers"]
    assert outliers["longest"][0]["id"] == "/train/6.wav"
    assert outliers["shortest"][0]["id"] == "/train/7.wav"
    assert {one["id"] for one in outliers["most_characters_a_second"][:2]} == {"/train/5.wav", "/train/7.wav"}
    assert outliers["fewest_characters_a_second"][0]["id"] == "/train/6.wav"
    speeds = [len(row["text"].strip()) / row["duration"] for row in train if row["text"]]
    assert outliers["median_characters_a_second"] == pytest.approx(statistics.median(speeds), rel=0.1)
    assert outliers["far_too_many_characters"] >= 2
    told = " ".join(report["warnings"])
    assert "dev holds characters that no training text has: 'b' 'r' 'z'" in told
    assert "1 item(s) have an empty text, such as /train/4.wav" in told


def test_mixed_rates_and_broken_bytes_are_warned_of(tmp_path, prepare):
    for number, rate in enumerate((8000, 16000)):
        path = trees.sound(tmp_path / "mine" / f"{number}.wav", rate=rate)
        path.with_suffix(".txt").write_bytes(b"caf\xe9")
    report = prepare("folder", tmp_path / "mine", dev_share=0, test_share=0).report
    assert report["splits"]["train"]["sample_rates"] == {"8000": 1, "16000": 1}
    told = " ".join(report["warnings"])
    assert "sample rates are mixed: 8000, 16000 Hz" in told
    assert "some texts are not UTF-8" in told


def test_names_that_are_no_unicode_are_left_out(tmp_path, prepare):
    line = {"audio_filepath": "/a.wav", "duration": 1.0, "text": "a \ud800", "speaker": "s"}
    trees.manifest(tmp_path / "train.jsonl", line, {**line, "text": "a", "audio_filepath": "/b.wav"})
    report = prepare("nemo", tmp_path / "train.jsonl", check="none", on_unusable="skip", split_by="id").report
    assert report["unusable"]["kinds"] == {"not Unicode": 1}


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.sampled_from([1.0, 2.5, -3.0, 7.0, 0.1]), max_size=60), largest=st.booleans())
def test_extremes_are_those_of_sorting(values, largest):
    kept = Extremes(largest=largest)
    for place, value in enumerate(values):
        kept.add(value, lambda place=place: {"place": place})
    order = sorted(range(len(values)), key=lambda place: (-values[place] if largest else values[place], place))
    assert [item["place"] for item in kept.items()] == order[:10]


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(alphabet="abc", max_size=3), max_size=80))
def test_spool_finds_what_is_repeated(texts, tmp_path_factory):
    wanted = sorted(
        [place for place, text in enumerate(texts) if text == one]
        for one in {text for text in texts if texts.count(text) > 1}
    )
    folder = tmp_path_factory.mktemp("spool")
    with Spool(folder) as spool:
        for place, text in enumerate(texts):
            spool.add(text, place)
        assert sorted(list(map(int, places)) for places in spool.repeated()) == wanted
        assert sum(len(starts) for _, starts in spool.groups()) == len(set(texts))
    assert not list(folder.iterdir())


@settings(max_examples=25, deadline=None)
@given(keys=st.lists(st.text(alphabet="ab-_Z", min_size=1, max_size=4), unique=True, max_size=40))
def test_tables_are_read_in_order_however_they_are_written(keys, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "text"
    path.write_text("".join(f"{key}  words of {key}\n\n" for key in keys))
    from kdcompress.data.corpora import tables

    before, tables.SORT_LINES = tables.SORT_LINES, 7
    try:
        assert list(read_sorted(path)) == [(key, f"words of {key}") for key in sorted(keys)]
        lookup, asked = Lookup(path), sorted(keys)[::2]
        left = []
        for key in asked:
            left += lookup.passed(key)
            assert lookup.get(key) == lookup.get(key) == f"words of {key}"
        assert [*left, *lookup.passed(None)] == sorted(keys)[1::2]
    finally:
        tables.SORT_LINES = before


def test_tables_of_kaldi_need_no_order(tmp_path, prepare, rows):
    source = trees.kaldi(tmp_path / "data")
    sorted_ = prepare("kaldi", source, tmp_path / "sorted", dev_share=0, test_share=0)
    for name in ("text", "wav.scp"):
        (source / name).write_text("".join(reversed((source / name).read_text().splitlines(keepends=True))))
    shuffled = prepare("kaldi", source, tmp_path / "shuffled", dev_share=0, test_share=0)
    assert rows(shuffled, "train") == rows(sorted_, "train")


def test_speakers_stay_where_they_are_when_the_corpus_grows():
    rule = SplitRule(dev_share=0.1, test_share=0.2)
    items = [ManifestRow(f"u{number}", "", "", "", speaker=f"s{number // 3}") for number in range(3000)]
    dealt = [rule.split_of(None, item) for item in items]
    assert dealt[:600] == [rule.split_of(None, item) for item in items[:600]]
    assert all(len(set(dealt[start : start + 3])) == 1 for start in range(0, 3000, 3))
    shares = Counter(dealt[::3])
    assert 60 < shares["dev"] < 140
    assert 150 < shares["test"] < 250
    assert rule.split_of("dev-clean", items[0]) == "dev-clean"
    assert {rule.split_of("train", item) for item in items} == {"train", "dev", "test"}
    assert {SplitRule().split_of("train", item) for item in items} == {"train"}


@pytest.mark.parametrize(
    ("name", "held_out"),
    [
        ("dev-clean", True),
        ("test_other", True),
        ("librispeech_eval2000", True),
        ("valid", True),
        ("val", True),
        ("validated", False),
        ("train-clean-100", False),
        ("latest", False),
        ("contest", False),
    ],
)
def test_names_of_held_out_splits(name, held_out):
    assert is_held_out(name) == held_out


def test_shares_make_a_dev_set_where_the_corpus_has_none(tmp_path, prepare, rows):
    source = trees.kaldi(tmp_path / "data", speakers=30)
    (source / "train").mkdir()
    for name in ("wav.scp", "text", "utt2spk"):
        (source / name).rename(source / "train" / name)
    made = prepare("kaldi", source, dev_share=0.2)
    speakers = {split: {row["speaker"] for row in rows(made, split)} for split in ("train", "dev")}
    assert speakers["train"].isdisjoint(speakers["dev"])
    assert len(speakers["train"] | speakers["dev"]) == 30
    assert speakers["dev"]


def test_memory_does_not_grow_with_the_items(tmp_path, prepare):
    """Thirteen times the lines, about the same peak."""
    peaks = []
    for count in (300, 4000):
        folder = tmp_path / str(count)
        template = {"duration": 2.0, "speaker": "s"}
        trees.manifest(
            folder / "train.jsonl",
            *({"audio_filepath": f"/a/{n}.wav", "text": f"text number {n}", **template} for n in range(count)),
        )
        tracemalloc.start()
        prepare("nemo", folder, tmp_path / f"out{count}", check="none")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # three integers a line wait in buffers of a fixed size; a list of the lines would need several megabytes
    assert peaks[1] - peaks[0] < 1_000_000, peaks
    report = json.loads((tmp_path / "out4000" / "report.json").read_text(encoding="utf-8"))
    assert report["texts"]["different"] == 4000
