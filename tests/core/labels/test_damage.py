"""Whatever bit of a store flips, nobody learns from it: it is named, and made again."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest

from kdcompress.cli import main
from kdcompress.errors import DamagedLabelsError, KdcompressError, LabelStoreError
from kdcompress.labels.check import check_store, repair_store
from kdcompress.labels.label import label
from kdcompress.labels.store import LabelStore
from kdcompress.teachers.stored import StoredTeacher


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def read_all(store):
    opened = LabelStore(store)
    return [(row.tobytes(), {name: array.tobytes() for name, array in arrays.items()})
            for row, arrays in map(opened.item, range(12))]  # fmt: skip


@pytest.mark.parametrize("name", ["index.json", "items.npy", "labels-000002.safetensors"])
def test_any_flipped_bit_is_noticed_or_means_nothing(name, store):
    """Bits at random: reading gives an error or what was written, and the check finds every one of them."""
    chance, path = random.Random(name), store / name
    before, whole = read_all(store), path.read_bytes()
    for _ in range(60):
        flip(path, chance.randrange(len(whole)), chance.randrange(8))
        assert refused(store) or read_all(store) == before
        assert bad_files(store) == [name]
        path.write_bytes(whole)
    assert check_store(store).passed


def refused(store) -> bool:
    try:
        read_all(store)
    except LabelStoreError:
        return True
    return False


def bad_files(store) -> list[str]:
    try:
        return [bad.file for bad in check_store(store).bad]
    except LabelStoreError:
        return ["index.json"]  # without its checksum, or with another name of it, it is no index at all


def test_a_flipped_bit_of_labels_names_shard_item_and_remedy(store):
    path = store / "labels-000001.safetensors"
    flip(path, len(path.read_bytes()) - 3)
    teacher = StoredTeacher(store)
    for place in (0, 3, 11):
        teacher.store.item(place)
    with pytest.raises(DamagedLabelsError) as error:
        [teacher.store.item(place) for place in range(3, 6)]
    assert re.search(
        r"labels-000001\.safetensors: damaged: the checksum of entry [456] of the manifest", str(error.value)
    )
    assert f"kdcompress label --check {store}" in str(error.value)


def test_a_flipped_bit_of_the_table(store):
    table = np.load(store / "items.npy", mmap_mode="r+")
    for column in table.dtype.names:
        kept = table[7].copy()
        raw = table[7:8].view(np.uint8)
        raw[table.dtype.fields[column][1]] ^= 4
        table.flush()
        with pytest.raises(DamagedLabelsError, match="entry 8 of the manifest"):
            LabelStore(store).item(7)
        table[7] = kept
        table.flush()
    LabelStore(store).item(7)


@pytest.mark.parametrize("size", [0, 5, 700, -1])
def test_a_shard_that_was_cut_short(store, size):
    path = store / "labels-000003.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DamagedLabelsError, match=r"labels-000003\.safetensors: damaged"):
        LabelStore(store).item(11)
    assert [bad.file for bad in check_store(store).bad] == [path.name]


def test_what_is_missing(store):
    (store / "labels-000000.safetensors").unlink()
    with pytest.raises(DamagedLabelsError, match="No such file"):
        LabelStore(store).item(0)
    (store / "items.npy").unlink()
    with pytest.raises(DamagedLabelsError, match=r"items\.npy: damaged"):
        LabelStore(store)
    assert {(bad.file, bad.problem) for bad in check_store(store).bad} == {
        ("labels-000000.safetensors", "is missing"),
        ("items.npy", "is missing"),
    }
    (store / "index.json").unlink()
    with pytest.raises(LabelStoreError, match="no complete store of labels; repeat the `kdcompress label`"):
        LabelStore(store)


def test_an_index_of_something_else_or_of_a_later_version(store, tmp_path):
    (tmp_path / "index.json").write_text('{"kind": "book"}')
    with pytest.raises(LabelStoreError, match="is no index of stored labels"):
        LabelStore(tmp_path)
    index = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps({**index, "format": 99}))
    with pytest.raises(KdcompressError, match="checksum is wrong"):
        LabelStore(store)


@pytest.mark.parametrize(
    "names",
    [["labels-000001.safetensors"], ["items.npy"], ["index.json"], ["labels-000000.safetensors", "index.json"],
     ["labels-000002.safetensors", "items.npy"]],
)  # fmt: skip
def test_repair_makes_the_damaged_files_again_and_no_others(  # noqa: PLR0917
    names, store, kept, labelling, content_of, monkeypatch
):
    for name in names:
        flip(store / name, len((store / name).read_bytes()) // 2)
    damaged = content_of(store)
    repair_store(check_store(store), store)
    made = []
    replace = type(store).replace
    monkeypatch.setattr(type(store), "replace", lambda self, to: (made.append(to.name), replace(self, to))[1])
    label(labelling(top_k=2), store, shard_items=3)
    assert content_of(store) == content_of(kept)
    assert content_of(store) != damaged
    assert {name for name in made if name.startswith("labels-")} == {n for n in names if n.startswith("labels-")}


def test_nothing_is_removed_from_a_good_store(store, content_of):
    before = content_of(store)
    repair_store(check_store(store), store)
    assert content_of(store) == before


def test_check_as_a_command(store, capsys):
    assert main(["label", "--check", str(store)]) == 0
    assert "all is well: 12 items" in capsys.readouterr().out
    assert main(["label", "--check", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"]
    assert (told["shards"], told["items"], told["bad"]) == (4, 12, [])
    flip(store / "labels-000002.safetensors", -2)
    assert main(["label", "--check", str(store), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert [bad["file"] for bad in told["bad"]] == ["labels-000002.safetensors"]
    assert main(["label", "--check", str(store), "--repair"]) == 3
    assert "labels-000002.safetensors: its SHA-256" in capsys.readouterr().out
    assert not (store / "labels-000002.safetensors").exists()
    assert main(["label", "--check", str(store)]) == 1
    assert "repeat the `kdcompress label` that made it" in capsys.readouterr().err


def test_usage(capsys, tmp_path):
    assert main(["label"]) == 2
    assert main(["label", "digits-from-conventional"]) == 2
    assert "--output STORE, or --check STORE" in capsys.readouterr().err.replace("\n", " ")
    assert main(["label", "--check", str(tmp_path / "none")]) == 1
