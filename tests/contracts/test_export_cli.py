"""``kdcompress export`` and its neighbours, as a stranger would call them: every option, several targets, bad input."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcompress.cli import main
from kdcompress_export.targets.table import SPEECH_TARGETS
from kdcompress_runtime import Bundle, Recognizer, read_audio
from tests.export.task_runs import lines_run, pairs_run

SCHEME = "static-u8s8-minmax-all"


@pytest.fixture(scope="module")
def outputs(run, folder):
    """The run, exported to every target in one call."""
    targets = [word for target in SPEECH_TARGETS for word in ("--target", target)]
    assert main(["export", str(run), "-o", str(folder / "all"), "--quantize", SCHEME, *targets]) == 0
    return folder / "all"


@pytest.fixture(scope="module")
def more(folder, speaker):
    """A manifest of items that are in neither train nor dev."""
    lines = []
    for index, text in enumerate(("abc", "cab a")):
        soundfile.write(folder / f"more{index}.wav", speaker(text, 300 + index), 8000)
        lines.append(json.dumps({"audio_filepath": f"more{index}.wav", "text": text}) + "\n")
    (folder / "more.jsonl").write_text("".join(lines))
    return folder / "more.jsonl"


def one_sentence(capsys) -> str:
    found = capsys.readouterr().err
    assert "Traceback" not in found
    errors = [line for line in found.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, found
    return errors[0]


def test_several_targets_are_folders_side_by_side_and_each_is_verified(outputs):
    assert {path.name for path in outputs.iterdir()} == set(SPEECH_TARGETS)
    assert {path.name for path in (outputs / "sherpa-onnx").iterdir()} >= {
        "offline.onnx",
        "streaming.onnx",
        "tokens.txt",
    }
    for target in SPEECH_TARGETS:
        assert main(["verify", str(outputs / target)]) == 0, target


def test_a_target_may_be_a_zip(outputs, tmp_path):
    for target in ("sherpa-onnx", "mobile"):
        output = tmp_path / f"{target}.zip"
        assert main(["export", str(outputs / "onnxruntime"), "-o", str(output), "--target", target]) == 0
        assert main(["verify", str(output)]) == 0, target


def test_bundles_of_all_targets_say_the_same(outputs, folder):
    samples, rate = read_audio(folder / "dev0.wav")
    said = {
        t: Recognizer.from_dir(outputs / t, precision=None).recognize(samples, rate).text for t in ("mobile", "web")
    }
    expected = Recognizer.from_dir(outputs / "onnxruntime").recognize(samples, rate).text
    assert set(said.values()) == {expected}


@pytest.mark.parametrize("target", SPEECH_TARGETS)
def test_a_flipped_bit_is_refused_by_name(outputs, tmp_path, capsys, target):
    damaged = tmp_path / target
    shutil.copytree(outputs / target, damaged)
    victim = max(damaged.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert main(["verify", str(damaged)]) in {1, 3}
    shown = capsys.readouterr()
    assert victim.name in "".join((shown.out + shown.err).split())


def test_a_finished_bundle_gets_another_target_without_its_run(outputs, tmp_path, capsys):
    assert main(["export", str(outputs / "onnxruntime"), "-o", str(tmp_path / "web"), "--target", "web"]) == 0
    assert Bundle.open(tmp_path / "web").metadata.provenance["target"] == "web"
    capsys.readouterr()
    assert main(["export", str(outputs / "onnxruntime"), "-o", str(tmp_path / "same")]) == 1
    assert "name other targets" in one_sentence(capsys)


def test_a_budget_that_nothing_meets_is_exit_code_3_with_the_nearest_miss(run, tmp_path, capsys):
    command = ["export", str(run), "-o", str(tmp_path / "b"), "--quantize", SCHEME, "--budget", "size<=1KB,p95<=2s"]
    assert main(command) == 3
    said = one_sentence(capsys)
    assert "nearest" in said
    assert "size<=1KB" in said
    assert not (tmp_path / "b").exists()


def test_a_budget_that_is_met_is_written_down(run, tmp_path, capsys):
    command = ["export", str(run), "-o", str(tmp_path / "b"), "--quantize", "none", "--budget", "size<=9MB, p95<=9s"]
    assert main(command) == 0
    assert Bundle.open(tmp_path / "b").metadata.measured["search"]["budget"]["met"] is True
    assert "float32 by default" in capsys.readouterr().out


def test_the_search_tries_what_suits_the_cpu_and_prints_a_table(run, more, tmp_path, capsys):
    work, output = tmp_path / "work", tmp_path / "b"
    command = ["export", str(run), "-o", str(output), "--cpu", "arm64", "--work", str(work), "--licence", "CC0-1.0"]
    repaired = ["--repair", "bias-correction", "--tune", str(more), "--calibration", str(run.parent / "train.jsonl")]
    assert main([*command, *repaired, "--dev", str(run.parent / "dev.jsonl"), "--dev-limit", "2"]) == 0
    shown = capsys.readouterr().out
    assert "static-s8s8-minmax" in shown
    assert "dynamic" in shown
    measured = Bundle.open(output).metadata.measured
    tried = [row["name"] for row in measured["search"]["rows"]]
    assert tried[0] == "float32"
    assert any("bias correction" in name for name in tried)
    assert any("blank penalty" in name for name in tried)
    assert measured["default"]["reason"] in " ".join(shown.split())
    assert list(work.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--quantize", "magic"], "magic"),
        (["--cpu", "z80"], "z80"),
        (["--budget", "size<3MB"], "size<3MB"),
        (["--target", "sherpa"], "did you mean 'sherpa-onnx'"),
        (["--repair", "prayer"], "prayer"),
        (["--target", "web", "--target", "mobile", "-o", "x.zip"], "several targets"),
    ],
)
def test_wrong_options_are_one_sentence(run, tmp_path, capsys, *, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), "-o", str(tmp_path / "b"), *options]) == 1
    assert said in one_sentence(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["--hf", "x", "--onnx", "y"], ["--hf", "x", "--field", "a=b"]])
def test_exactly_one_model_is_exported(tmp_path, capsys, words):
    assert main(["export", "-o", str(tmp_path / "b"), *words]) == 2
    assert "Usage" in capsys.readouterr().err


def test_recordings_that_tune_must_prove_nothing(run, tmp_path, capsys):
    dev = str(run.parent / "dev.jsonl")
    assert main(["export", str(run), "-o", str(tmp_path / "b"), "--quantize", SCHEME, "--tune", dev]) == 1
    assert "same items" in one_sentence(capsys)


def save_hugging_face(folder) -> None:
    """A tiny Wav2Vec2 with random weights, as a user has it."""
    import transformers

    torch.manual_seed(1)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 64), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    config = transformers.Wav2Vec2Config(vocab_size=8, **small, **convolutions, **positions)
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    symbols = ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c"]
    (folder / "vocab.json").write_text(json.dumps({symbol: index for index, symbol in enumerate(symbols)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    tokenizer.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


def test_a_hugging_face_folder_becomes_a_bundle(folder, tmp_path, capsys):
    save_hugging_face(tmp_path / "hf")
    command = ["export", "--hf", str(tmp_path / "hf"), "-o", str(tmp_path / "b"), "--quantize", "dynamic"]
    assert main([*command, "--dev", str(folder / "dev.jsonl")]) == 0
    assert main(["transcribe", str(tmp_path / "b"), str(folder / "dev0.wav")]) == 0
    assert main(["verify", str(tmp_path / "b")]) == 0
    assert Bundle.open(tmp_path / "b").metadata.streaming is False
    (tmp_path / "hf" / "config.json").unlink()
    capsys.readouterr()
    assert main([*command[:-2], "--quantize", "none"]) == 1
    assert "config.json" in one_sentence(capsys)


def foreign() -> bytes:
    """Scores of three symbols from 24 log-mels, every fourth frame; as an offline CTC export of another toolkit."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(3, 24, 4)).astype(np.float32), "encoder.weight")
    nodes = [
        helper.make_node("Transpose", ["x"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "encoder.weight"], ["hidden"], strides=[4], kernel_shape=[4]),
        helper.make_node("Transpose", ["hidden"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("LogSoftmax", ["scores"], ["log_probs"], axis=-1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", 24])]
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["N", "frames", 3])]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def test_a_foreign_file_says_what_it_lacks_and_becomes_a_bundle(folder, tmp_path, capsys):
    onnx.checker.check_model(onnx.load_model_from_string(foreign()))
    (tmp_path / "model.onnx").write_bytes(foreign())
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n")
    command = ["export", "--onnx", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "b"), "--quantize", "none"]
    assert main(command) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said
    assert [name for name in ("features", "sample_rate") if f"--field {name}=" not in said] == [], said
    assert not (tmp_path / "b").exists()
    fields = [f"tokens={tmp_path / 'tokens.txt'}", "features=kaldi", "sample_rate=8000", "normalize=none"]
    assert main([*command, *(word for field in fields for word in ("--field", field))]) == 0
    assert main(["transcribe", str(tmp_path / "b"), str(folder / "dev0.wav")]) == 0
    capsys.readouterr()
    assert main([*command, "--field", "sample_rate"]) == 1
    assert "NAME=VALUE" in one_sentence(capsys)


def test_a_full_context_teacher_becomes_a_bundle_and_an_oracle_does_not(folder, tmp_path, capsys):
    for name in ("twin", "teacher"):
        assert main(["train", str(folder / f"{name}.yaml"), "-o", str(tmp_path / name)]) == 0
    output = tmp_path / "bundle.zip"
    assert main(["export", str(tmp_path / "twin"), "-o", str(output), "--quantize", "none"]) == 0
    assert main(["verify", str(output), "--manifest", str(folder / "dev.jsonl")]) == 0
    assert main(["transcribe", str(output), str(folder / "dev0.wav")]) == 0
    capsys.readouterr()
    assert main(["export", str(tmp_path / "twin"), "-o", str(tmp_path / "s"), "--target", "sherpa-onnx"]) == 1
    assert "cannot stream" in one_sentence(capsys)
    assert main(["export", str(tmp_path / "teacher"), "-o", str(tmp_path / "o")]) == 1
    assert "export a student that was distilled from it" in one_sentence(capsys)
    assert not (tmp_path / "o").exists()


def documented() -> list[list[str]]:
    """The commands of ``docs/export.md``."""
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture(scope="module")
def workplace(run, folder, tmp_path_factory):
    """A folder with everything that the page's commands name."""
    place = tmp_path_factory.mktemp("page")
    shutil.copytree(run, place / "runs" / "student")
    assert main(["train", str(folder / "twin.yaml"), "-o", str(place / "runs" / "teacher")]) == 0
    small = {"width": 16, "depth": 1, "kernel": 5, "heads": 2}
    for name, made, encoder in (
        ("lines", lines_run, {**small, "channels": [4, 6]}),
        ("en-sv", pairs_run, {**small, "block": "attention", "token_depth": 1}),
    ):
        (place / name).mkdir()
        model = {"kind": "full_context", "subsampling_factor": 4 if name == "lines" else 1, "encoder": encoder}
        made(place / name, model).rename(place / "runs" / name)
    save_hugging_face(place / "wav2vec2")
    (place / "model.onnx").write_bytes(foreign())
    (place / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n")
    for split in ("train", "dev"):
        for file in [*folder.glob(f"{split}*.wav"), folder / f"{split}.jsonl"]:
            shutil.copy(file, place)
    return place


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_the_commands_of_the_page_run(words, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    quick = ["--steps", "2"] if words[0] in {"prune", "quantize-aware"} else []
    assert main([*words, *quick]) in ({0, 3} if "--budget" in words else {0})


def test_a_student_teaches_its_int8_self_and_its_pruned_self(run, tmp_path, capsys):
    aware, pruned = tmp_path / "aware", tmp_path / "pruned"
    assert main(["quantize-aware", str(run), "-o", str(aware), "--steps", "2", "--learning-rate", "0.001"]) == 0
    shrink = ["--keep-channels", "0.5", "--keep-width", "0.5", "--keep-blocks", "1", "--steps", "2"]
    assert main(["prune", str(run), "-o", str(pruned), *shrink]) == 0
    sizes = {}
    for trained in (run, aware, pruned):
        sizes[trained] = json.loads((trained / "run.json").read_text())["parameters"]
        assert main(["export", str(trained), "-o", str(tmp_path / f"{trained.name}-b"), "--quantize", "none"]) == 0
    assert sizes[aware] == sizes[run]
    assert sizes[pruned] < 0.6 * sizes[run]
    capsys.readouterr()
    assert main(["prune", str(run), "-o", str(tmp_path / "p"), "--steps", "2"]) == 1
    assert "nothing to remove" in one_sentence(capsys)
