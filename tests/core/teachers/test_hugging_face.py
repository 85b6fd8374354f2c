"""Hugging Face folders as teachers: random models made here answer as they do in transformers, item by item."""

from __future__ import annotations

import json
import shutil
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcompress.errors import TeacherError
from kdcompress.teachers.hf_folder import read_ear
from kdcompress.teachers.hugging_face import HuggingFaceTeacher
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.quiet import quiet_and_offline
from kdcompress_runtime.errors import MissingDependencyError
from tests.core.teachers.given import answers, heard, noise, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

RATE = 16000
SYMBOLS = {"[PAD]": 0, "<s>": 1, "</s>": 2, "[UNK]": 3, "|": 4, "E": 5, "T": 6, "A": 7, "'": 8, "ß": 9}
SUBWORDS = ["<unk>", "▁a", "▁be", "c", "ing", "▁"]
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
RAW: dict[str, Any] = {
    **SIZES,
    "vocab_size": len(SYMBOLS),
    "pad_token_id": 0,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
LAYER = {"feat_extract_norm": "layer"}
KINDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "wav2vec2-group": ("Wav2Vec2", {}, False),
    "wav2vec2-layer": ("Wav2Vec2", {**LAYER, "do_stable_layer_norm": True}, True),
    "wav2vec2-adapter": ("Wav2Vec2", {**LAYER, "add_adapter": True, "num_adapter_layers": 1}, False),
    "wav2vec2-plain": ("Wav2Vec2", {**LAYER, "do_normalize": False}, True),
    "hubert": ("Hubert", LAYER, True),
    "wavlm": ("WavLM", LAYER, True),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", LAYER, False),
    "data2vec": ("Data2VecAudio", {}, False),
    "unispeech": ("UniSpeech", {**LAYER, "num_codevectors_per_group": 4}, True),
    "sew": ("SEW", LAYER, False),
    "wav2vec2-bert": ("Wav2Vec2Bert", {}, True),
    "parakeet": ("Parakeet", {}, True),
}
"""Class, settings, and whether padding is not heard, so that batches can go in at once."""
FRAMES = {"wav2vec2-adapter": Fraction(1, 25), "parakeet": Fraction(2, 25)}
PARAKEET = {"feature_extractor_type": "ParakeetFeatureExtractor", "feature_size": 80, "n_fft": 512, "win_length": 400}


def save(folder: Path, kind: str, **settings: Any) -> Path:
    """Write a random model as ``save_pretrained`` does, with extractor and tokenizer."""
    normalize = settings.pop("do_normalize", True)
    torch.manual_seed(3)
    with quiet_and_offline():
        import transformers

        if kind == "Parakeet":
            inside = {**SIZES, "conv_kernel_size": 3, "subsampling_conv_channels": 4, "num_mel_bins": 80}
            config = transformers.ParakeetCTCConfig(vocab_size=7, pad_token_id=6, encoder_config=inside, **settings)
            model = transformers.ParakeetForCTC(config)
            head = model.ctc_head
        elif kind == "Wav2Vec2Bert":
            sizes = {**SIZES, "feature_projection_input_dim": 160, "output_hidden_size": 16}
            config = transformers.Wav2Vec2BertConfig(vocab_size=len(SYMBOLS), pad_token_id=0, **sizes, **settings)
            model = transformers.Wav2Vec2BertForCTC(config)
            head = model.lm_head
        else:
            config = getattr(transformers, f"{kind}Config")(**{**RAW, **settings})
            model = getattr(transformers, f"{kind}ForCTC")(config)
            head = model.lm_head
        with torch.no_grad():
            head.weight.normal_(0, 2)  # answers that depend on the input
        model.save_pretrained(folder)
        if kind == "Wav2Vec2Bert":
            transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)
        elif kind != "Parakeet":
            masks = settings.get("feat_extract_norm") == "layer"
            extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=masks)
            extractor.save_pretrained(folder)
    if kind == "Parakeet":
        write(folder / "preprocessor_config.json", {**PARAKEET, "sampling_rate": RATE, "hop_length": 160})
        table = {"type": "BPE", "vocab": {symbol: index for index, symbol in enumerate(SUBWORDS)}}
        write(folder / "tokenizer.json", {"model": table, "added_tokens": [{"id": 6, "content": "<pad>"}]})
        write(folder / "tokenizer_config.json", {"pad_token": "<pad>", "unk_token": "<unk>"})
    else:
        write(folder / "vocab.json", SYMBOLS)
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>"}
        write(folder / "tokenizer_config.json", {**special, "word_delimiter_token": "|"})
    return folder


def write(file: Path, row: Any) -> None:
    file.write_text(json.dumps(row), encoding="utf-8")


def edit(file: Path, **changes: Any) -> None:
    write(file, {**json.loads(file.read_text(encoding="utf-8")), **changes})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind; to be read only."""
    base = tmp_path_factory.mktemp("hugging-face")
    return {name: save(base / name, kind, **dict(settings)) for name, (kind, settings, _) in KINDS.items()}


@pytest.fixture(scope="module")
def teachers(folders: dict[str, Path]) -> dict[str, HuggingFaceTeacher]:
    return {name: HuggingFaceTeacher(folder) for name, folder in folders.items()}


@pytest.fixture
def broken(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(folders["wav2vec2-layer"], tmp_path / "model")


def by_hand(folder: Path, samples: np.ndarray) -> torch.Tensor:
    """Log-probabilities ``(T, V)``, as transformers' own classes give them for one recording."""
    with quiet_and_offline():
        import transformers

        model = transformers.AutoModelForCTC.from_pretrained(folder, local_files_only=True).eval()
        if "Parakeet" in type(model).__name__:
            fed = parakeet_features(samples)
        else:
            extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            fed = extractor(samples, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            return model(**fed).logits[0].log_softmax(1)


def parakeet_features(samples: np.ndarray) -> Any:
    """transformers' extractor, with its own filters in the place of librosa's."""
    from transformers.audio_utils import mel_filter_bank
    from transformers.models.parakeet.feature_extraction_parakeet import ParakeetFeatureExtractor

    filters = mel_filter_bank(257, 80, 0.0, 8000.0, RATE, norm="slaney", mel_scale="slaney").T
    extractor: Any = object.__new__(ParakeetFeatureExtractor)
    settings = {"hop_length": 160, "n_fft": 512, "win_length": 400, "preemphasis": 0.97, "sampling_rate": RATE}
    rest = {"padding_value": 0.0, "padding_side": "right", "feature_size": 80, "return_attention_mask": True}
    vars(extractor).update(settings | rest, mel_filters=torch.from_numpy(filters).float())
    fed = extractor(samples, sampling_rate=RATE, return_tensors="pt")
    return {name: fed[name] for name in ("input_features", "attention_mask")}


@pytest.mark.parametrize("name", KINDS)
def test_it_answers_as_transformers_does(
    name: str, teachers: dict[str, HuggingFaceTeacher], folders: dict[str, Path]
) -> None:
    samples = noise(0.7, RATE, seed=5)
    (found,) = answers(teachers[name], [samples])
    expected = by_hand(folders[name], samples)[: len(found)]
    assert expected.std(0).max() > 0.05, "the answer does not depend on the input"
    torch.testing.assert_close(found, expected, atol=2e-3 if name == "parakeet" else 1e-4, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_items_answer_beside_longer_ones_as_alone(name: str, teachers: dict[str, HuggingFaceTeacher]) -> None:
    teacher = teachers[name]
    items = [noise(seconds, RATE, seed) for seed, seconds in enumerate((0.83, 0.31, 0.571))]
    together = answers(teacher, items)
    assert teacher.together == KINDS[name][2]
    for item, found in zip(items, together, strict=True):
        (alone,) = answers(teacher, [item])
        torch.testing.assert_close(found, alone, atol=5e-4, rtol=0)
        assert abs(len(found) * teacher.info.frame - Fraction(len(item), RATE)) <= 2 * teacher.info.frame


@pytest.mark.parametrize("name", KINDS)
def test_what_it_says_of_itself(name: str, teachers: dict[str, HuggingFaceTeacher], folders: dict[str, Path]) -> None:
    teacher = teachers[name]
    info = teacher.info
    assert (info.kind, info.sample_rate, info.source) == ("hugging_face", RATE, folders[name])
    assert info.frame == FRAMES.get(name, Fraction(1, 50))
    assert (info.lookahead, info.dev_error, info.sees_labels) == (None, None, False)
    if name == "parakeet":
        assert info.vocabulary.symbols == ("<unk>", "▁a", "▁be", "c", "ing", "▁", "<blk>")
        assert info.units == "subwords"
    else:
        assert info.vocabulary.symbols == ("<blk>", "<s>", "</s>", "<unk>", "▁", "E", "T", "A", "'", "ß")
        assert info.units == "characters"
    said = teacher.answer(heard([noise(0.5, RATE)], RATE))
    assert said.log_probs is not None
    assert [tuple(block.shape) for block in said.hidden] == [(*said.log_probs.shape[:2], d) for d in info.hidden_dims]
    assert info.gives == ({"log_probs", "hidden"} if info.hidden_dims else {"log_probs"})
    assert bool(info.hidden_dims) == (name not in {"wav2vec2-adapter", "sew"})  # their blocks have another time


def test_blocks_end_in_what_the_head_sees(teachers: dict[str, HuggingFaceTeacher], folders: dict[str, Path]) -> None:
    with quiet_and_offline():
        from transformers import AutoModelForCTC

        model = AutoModelForCTC.from_pretrained(folders["wav2vec2-layer"], local_files_only=True).eval()
    said = teachers["wav2vec2-layer"].answer(heard([noise(0.4, RATE)], RATE))
    torch.testing.assert_close(model.lm_head(said.hidden[-1]).log_softmax(2), said.log_probs, atol=1e-5, rtol=0)


def test_items_and_views_are_those_asked_for(teachers: dict[str, HuggingFaceTeacher]) -> None:
    teacher = teachers["hubert"]
    batch = heard([noise(0.5, RATE, 1), noise(0.4, RATE, 2)], RATE, views=2)
    every = rows(teacher.answer(batch))
    assert len(every) == 4
    torch.testing.assert_close(every[0], every[2])
    chosen = rows(teacher.answer(batch, torch.tensor([3, 0, 1])))
    for found, place in zip(chosen, (3, 0, 1), strict=True):
        torch.testing.assert_close(found, every[place], atol=5e-4, rtol=0)


def test_an_item_of_a_few_samples_is_answered(teachers: dict[str, HuggingFaceTeacher]) -> None:
    for teacher in teachers.values():
        short, _ = answers(teacher, [noise(0.004, RATE), noise(0.3, RATE)])
        assert len(short) >= 1


def test_the_fingerprint_is_about_what_decides_answers(teachers: dict[str, HuggingFaceTeacher], broken: Path) -> None:
    original = teachers["wav2vec2-layer"].info.fingerprint
    assert HuggingFaceTeacher(broken).info.fingerprint == original  # another folder
    assert len({teacher.info.fingerprint for teacher in teachers.values()}) == len(teachers)
    edit(broken / "preprocessor_config.json", do_normalize=False)
    assert HuggingFaceTeacher(broken).info.fingerprint != original


def test_a_path_is_enough(folders: dict[str, Path]) -> None:
    assert isinstance(open_teacher(folders["hubert"]), HuggingFaceTeacher)


def test_pickles_are_not_opened(broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(TeacherError, match=r"holds pytorch_model.bin .*save_pretrained\(folder\)`, then try again"):
        open_teacher(broken)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no CTC model": (lambda f: edit(f / "config.json", architectures=["WhisperModel"]), r"not a \*ForCTC model"),
    "no architecture": (lambda f: edit(f / "config.json", architectures=None), "no named architecture"),
    "own code": (lambda f: edit(f / "config.json", auto_map={"AutoModelForCTC": "x.Y"}), "brings its own code"),
    "unknown": (lambda f: edit(f / "config.json", architectures=["NewForCTC"]), "knows no NewForCTC"),
    "torn config": (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    "torn weights": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 90), "transformers cannot load it"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no model\.safetensors"),
    "other sizes": (lambda f: edit(f / "config.json", vocab_size=12), "weights of Wav2Vec2ForCTC|cannot load it"),
    "no extractor": (lambda f: (f / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
    "odd extractor": (
        lambda f: edit(f / "preprocessor_config.json", feature_extractor_type="WhisperFeatureExtractor"),
        "known are Wav2Vec2FeatureExtractor, .*Python file",
    ),
    "no tokenizer": (lambda f: (f / "vocab.json").unlink(), r"no vocab\.json and no tokenizer\.json"),
    "languages": (lambda f: write(f / "vocab.json", {"eng": {"a": 0}}), "of one language"),
    "too many tokens": (lambda f: edit(f / "vocab.json", Z=10), r"no output for 'Z' \(10\)"),
    "another blank": (lambda f: edit(f / "config.json", pad_token_id=3), "token 3 is the blank"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_folders_that_cannot_be_used(name: str, broken: Path) -> None:
    damage, message = DAMAGE[name]
    damage(broken)
    with pytest.raises(TeacherError, match=message):
        open_teacher(broken)


def test_weights_that_are_no_numbers_poison_nobody(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    weights["lm_head.bias"][2] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(TeacherError, match="NaN or infinity"):
        open_teacher(broken)


def test_parakeet_features_of_other_settings_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    write(tmp_path / "preprocessor_config.json", {**PARAKEET, "preemphasis": 0.5})
    with pytest.raises(TeacherError, match=r"preemphasis 0\.5"):
        read_ear(tmp_path)


def test_without_transformers_the_extra_is_named(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"kdcompress\[export\]"):
        open_teacher(folders["hubert"])
