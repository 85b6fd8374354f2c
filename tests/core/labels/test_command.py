"""``kdcompress label`` as it is typed: estimate, label, teach."""

from __future__ import annotations

import json

import pytest
import yaml

from kdcompress.cli import main


@pytest.fixture
def recipe(labelling, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(labelling(top_k=2).dumps())), encoding="utf-8")
    return str(path)


def test_from_estimate_to_student(recipe, loud, tmp_path, capsys):
    store = tmp_path / "s"
    assert main(["label", recipe, "--estimate", "-o", str(store)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("12 items, 0.00 h, ")
    assert "8.0 bytes a frame" in said
    assert not store.exists()
    assert main(["label", recipe, "--estimate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_per_frame"] == 8
    assert main(["label", recipe, "-o", str(store), "--teacher", str(loud), "--shard-items", "4", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) | {"frames": 0, "bytes": 0} == {
        "store": str(store), "labels": "top_k", "items": 12, "left_out": 0, "frames": 0, "bytes": 0, "shards": 3,
    }  # fmt: skip
    assert "label: 12/12 items" in told.err
    assert "for an hour of input" in told.err
    assert main(["distill", recipe, "-o", str(tmp_path / "run"), "--teacher", str(store)]) == 0
    assert "separable_conv" in capsys.readouterr().out


def test_another_manifest_and_another_kind(recipe, corpus, tmp_path, capsys):
    words = ["label", recipe, "--manifest", str(corpus["dev"]), "--set", "label={kind: full}"]
    assert main([*words, "-o", str(tmp_path / "s")]) == 0
    assert "full labels of 4 items" in capsys.readouterr().out
    assert main(["label", recipe, "-o", str(tmp_path / "s")]) == 1
    assert "holds other labels: labels.kind is full there, top_k here" in capsys.readouterr().err
