"""Heads that language models taught are not in the file: it is as long as without them, byte for byte."""

from __future__ import annotations

import json

import onnx

from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe
from kdcompress.run import load_student
from kdcompress.text_models.fit import fit_text_model
from kdcompress.text_models.recipe import load_text_recipe
from kdcompress_export.convert import convert


def test_a_bundle_is_as_small_as_without_heads(run, tmp_path):
    manifest = load_recipe(run / "recipe.yaml").data.train
    text = {"train": str(manifest), "units": "characters"}
    lm = {"schema": 1, "name": "letters", "text": text, "model": {"kind": "ngram"}}
    (tmp_path / "lm.yaml").write_text(json.dumps(lm), encoding="utf-8")
    fit_text_model(load_text_recipe(tmp_path / "lm.yaml"), tmp_path / "lm")
    head = {"kind": "lm_head", "lm": "letters", "ctc": 1.0, "placement": "path"}
    losses = [{"kind": "ctc"}, {**head, "name": "low", "layer": 0}, {**head, "name": "top", "layer": -1}]
    loop = ["train.steps=2", "train.batch_size=2", "data.on_unusable=skip", "augment.speed=[1.0]"]
    taught = [
        f"losses={json.dumps(losses)}",
        f"distill.language_models={json.dumps({'letters': str(tmp_path / 'lm')})}",
    ]
    files = {}
    for name, overrides in (("without", loop), ("with", [*loop, *taught])):
        fit(load_recipe(run / "recipe.yaml", [f"name={name}", *overrides]), tmp_path / name)
        student = load_student(tmp_path / name)
        files[name] = convert(student.network, len(student.vocabulary), {"name": "tiny"})
    assert len(files["with"]) == len(files["without"])
    graphs = [onnx.load_from_string(files[name]).graph for name in ("with", "without")]
    assert [node.SerializeToString() for node in graphs[0].node] == [
        node.SerializeToString() for node in graphs[1].node
    ]
    shapes = [[(one.name, tuple(one.dims)) for one in graph.initializer] for graph in graphs]
    assert shapes[0] == shapes[1]
    assert files["with"] != files["without"], "but it has learned something else"
