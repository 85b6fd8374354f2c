"""From a Hugging Face folder to a student, directly and through stored labels: nothing of it stands in the recipe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcompress.cli import main
from kdcompress.teachers.quiet import quiet_and_offline

if TYPE_CHECKING:
    from pathlib import Path

SYMBOLS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "C": 7, ",": 8}
STILL = {"speed": [1.0], "gain_db": [0.0, 0.0], "spec": None}
"""Augmentation that leaves items as they were labelled."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Wav2Vec2 of 20 ms frames at 16 kHz that writes upper-case letters."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    path = tmp_path_factory.mktemp("hf") / "model"
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=len(SYMBOLS),
        pad_token_id=0, conv_dim=(8, 8, 8), conv_kernel=(10, 8, 8), conv_stride=(5, 8, 8), num_feat_extract_layers=3,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, feat_extract_norm="layer",
    )  # fmt: skip
    with quiet_and_offline():
        Wav2Vec2ForCTC(config).save_pretrained(path)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(path)
    (path / "vocab.json").write_text(json.dumps(SYMBOLS), encoding="utf-8")
    (path / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": "<pad>", "word_delimiter_token": "|", "tokenizer_class": "Wav2Vec2CTCTokenizer"})
    )
    return path


@pytest.fixture(scope="module")
def recipe(recipe_tree: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A student of 40 ms frames at 8 kHz; no losses, so that they suit the teacher."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(json.dumps({**recipe_tree("student", steps=2), "augment": STILL}), encoding="utf-8")
    return str(path)


def told(run: Path) -> tuple[list[str], list[dict[str, float]]]:
    """What a run says about its bridge, and its losses."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [row for row in map(json.loads, lines) if "frame_kl" in row]
    return json.loads((run / "run.json").read_text(encoding="utf-8"))["teachers"][0]["bridged"], losses


def test_a_student_of_a_hugging_face_folder_and_of_its_stored_labels(
    folder: Path, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", recipe, "-o", str(tmp_path / "direct"), "--teacher", str(folder)]) == 0
    shown = capsys.readouterr().err
    bridged, losses = told(tmp_path / "direct")
    assert all(sentence in shown for sentence in bridged)
    for words in ("20 ms", "16000 Hz", "lower-casing", "'<unk>'", "','"):
        assert words in " ".join(bridged), words
    assert (tmp_path / "direct" / "tokens.txt").read_text(encoding="utf-8").split() == [
        "<blk>",
        "0",
        "a",
        "1",
        "b",
        "2",
        "c",
        "3",
        "▁",
        "4",
    ]

    full = ["--set", "label.kind=full"]
    assert main(["label", recipe, "-o", str(tmp_path / "labels"), "--teacher", str(folder), *full]) == 0
    assert main(["distill", recipe, "-o", str(tmp_path / "stored"), "--teacher", str(tmp_path / "labels")]) == 0
    again, same = told(tmp_path / "stored")
    assert [sentence for sentence in again if "Hz" not in sentence] == [s for s in bridged if "Hz" not in s]
    assert [row["step"] for row in same] == [row["step"] for row in losses]
    for one, other in zip(losses, same, strict=True):
        # float16; and beside a teacher of another rate, the student hears what was resampled for both
        assert other["frame_kl"] == pytest.approx(one["frame_kl"], rel=0.05)


def test_stored_texts_of_other_units_teach_a_recipe_without_losses(
    runs: dict[str, Path], recipe: str, tmp_path: Path
) -> None:
    words = ["--teacher", str(runs["conventional"]), "--set", "label.kind=nbest"]
    assert main(["label", recipe, "-o", str(tmp_path / "texts"), *words]) == 0
    assert main(["distill", recipe, "-o", str(tmp_path / "run"), "--teacher", str(tmp_path / "texts")]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(row["frame_kl"] > 0 for row in map(json.loads, lines) if "frame_kl" in row)


def test_labels_of_another_manifest_are_refused(
    runs: dict[str, Path], recipe: str, corpus: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "labels"
    other = ["--set", f"data.train={json.dumps(str(corpus['dev']))}"]
    assert main(["label", recipe, "-o", str(store), "--teacher", str(runs["conventional"]), *other]) == 0
    capsys.readouterr()
    assert main(["distill", recipe, "-o", str(tmp_path / "run"), "--teacher", str(store)]) == 1
    assert "labels of another manifest" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
