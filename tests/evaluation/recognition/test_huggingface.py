"""Folders that optimum exports, without torch or transformers; those two are the judges here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.systems import Item, open_system
from kdcompress_evaluation.variants import plan_variants
from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import BundleError, ModelError, OptionsError

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytest.importorskip("optimum.exporters.onnx")

SYMBOLS = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "E": 5, "T": 6, "A": 7, "'": 8, "1": 9}
TINY: dict[str, Any] = {
    "vocab_size": len(SYMBOLS),
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "pad_token_id": 0,
}


def save(folder: Path, kind: str, *, normalize: bool, lower: bool = False, mask: bool = False) -> Path:
    """A tiny model with random weights, saved as transformers does, and exported beside it as optimum does."""
    from optimum.exporters.onnx import onnx_export_from_model

    torch.manual_seed(4)
    model = getattr(transformers, f"{kind}ForCTC")(getattr(transformers, f"{kind}Config")(**TINY)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    folder.mkdir(parents=True)
    onnx_export_from_model(model, folder, opset=18, task="automatic-speech-recognition", do_validation=False)
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(SYMBOLS), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), do_lower_case=lower)
    tokenizer.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=mask).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("hf") / "tiny-wav2vec2", "Wav2Vec2", normalize=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    base, rng = tmp_path_factory.mktemp("audio"), np.random.default_rng(7)
    paths = []
    for number, seconds in enumerate((0.2, 1.0, 2.7)):
        time = np.arange(round(16000 * seconds)) / 16000
        samples = 0.2 * np.sin(2 * np.pi * 300 * time * (1 + time)) + 0.05 + 0.1 * rng.standard_normal(len(time))
        soundfile.write(base / f"{number}.wav", samples.astype(np.float32), 16000, subtype="FLOAT")
        paths.append(base / f"{number}.wav")
    return paths


def check(folder: Path, recordings: list[Path]) -> list[str]:
    """Texts of ours, equal to those of transformers' own pipeline."""
    pipeline = transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    ((info,), _) = plan_variants([folder])
    system = open_system(info, Decoding())
    found = [system.recognize(Item("m", 0, "u", "audio", str(path))) for path in recordings]
    expected = [pipeline(soundfile.read(path, dtype="float32")[0])["text"] for path in recordings]
    assert [one.text for one in found] == expected
    assert all(one.log_prob is not None and one.log_prob < 0 for one in found)
    return expected


def test_equal_to_the_pipeline_of_transformers(folder: Path, recordings: list[Path]) -> None:
    texts = check(folder, recordings)
    assert len(set(texts)) == 3
    assert any(" " in text for text in texts)


def test_equal_for_a_model_that_is_not_normalised_and_spells_small(tmp_path: Path, recordings: list[Path]) -> None:
    texts = check(save(tmp_path / "hubert", "Hubert", normalize=False, lower=True), recordings)
    assert any(texts)
    assert texts == [text.lower() for text in texts]


def test_what_it_says_about_itself(folder: Path) -> None:
    ((info,), _) = plan_variants([folder])
    assert (info.name, info.kind, info.precision, info.sample_rate) == (
        "tiny-wav2vec2-float32",
        "huggingface",
        "float32",
        16000,
    )
    assert not info.streaming
    assert set(info.files) >= {"model.onnx", "config.json", "vocab.json", "preprocessor_config.json"}
    assert info.size_bytes == sum(
        (folder / name).stat().st_size
        for name in ("model.onnx", "config.json", "vocab.json", "preprocessor_config.json")
    )
    trained = transformers.AutoModelForCTC.from_pretrained(folder)
    count = sum(parameter.numel() for parameter in trained.parameters())
    assert abs(info.parameters - count) < 0.1 * count  # folding merges some, and adds a few tables
    assert info.method == "Wav2Vec2ForCTC of Hugging Face"


def test_two_precisions_where_two_files_lie_there(copy: Path) -> None:
    shutil.copy(copy / "model.onnx", copy / "model_quantized.onnx")
    found, _ = plan_variants([copy], "all")
    assert [(v.precision, v.model_file) for v in found] == [("float32", "model.onnx"), ("int8", "model_quantized.onnx")]
    assert [v.precision for v in plan_variants([copy])[0]] == ["float32"]
    with pytest.raises(BundleError, match="holds no float16 model; it holds: float32, int8"):
        plan_variants([copy], "float16")


def test_weights_without_onnx_are_refused_with_the_remedy(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    with pytest.raises(
        BundleError, match=r"no ONNX file; make a bundle of it: `kdcompress export --hf .*copy -o BUNDLE`"
    ):
        plan_variants([copy])


def test_a_model_that_is_fed_features_is_refused_by_name(copy: Path) -> None:
    (copy / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 80}), encoding="utf-8"
    )
    with pytest.raises(BundleError, match=r"SeamlessM4TFeatureExtractor.*kdcompress export --hf"):
        plan_variants([copy])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", {"architectures": ["WhisperForConditionalGeneration"]}, "not a \\*ForCTC model"),
        ("vocab.json", None, "no vocab.json"),
        ("vocab.json", {"eng": {"a": 1}}, "of one language"),
        ("vocab.json", {"a": 0, "|": 1}, "has no '<pad>'"),
        ("preprocessor_config.json", [], "expected a JSON object"),
    ],
)
def test_folders_that_do_not_fit(copy: Path, file: str, content: Any, message: str) -> None:
    (copy / file).unlink()
    for other in ("added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / other).unlink(missing_ok=True)
    if content is not None:
        (copy / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        plan_variants([copy])


def test_what_comes_up_when_it_is_loaded(copy: Path) -> None:
    ((info,), _) = plan_variants([copy])
    with pytest.raises(OptionsError, match="decoded greedily here"):
        open_system(info, Decoding(DecoderOptions("beam")))
    (copy / "model.onnx").write_bytes(b"broken")
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        open_system(info, Decoding())
