"""Models of sherpa-onnx in its own wheel: a T-one model whose audio spells text, as in ``conftest``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from kdcompress_evaluation.broken import read_broken
from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.systems import Item, open_system, sherpa
from kdcompress_evaluation.variants import plan_variants
from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import BundleError, MissingDependencyError, OptionsError

pytest.importorskip("sherpa_onnx")

RATE = 8000
STEP, FRAMES, UNITS = 2400, 10, 240
SYMBOLS = ("▁", "a", "b", "c", "d", "e", "<blk>")
BLANK = len(SYMBOLS) - 1


def spell(text: str, seconds: float = 0.0) -> np.ndarray:
    """Samples whose frames of 30 ms hold the ids of ``text``, blanks between; then blanks."""
    ids = [BLANK] * 10
    for letter in text:
        ids += [SYMBOLS.index("▁" if letter == " " else letter)] * 2 + [BLANK] * 3
    levels = [0.05 * (BLANK - index) for index in ids]
    return np.concatenate([np.repeat(np.array(levels, np.float32), UNITS), np.zeros(round(seconds * RATE), np.float32)])


def write_model(path: Path, *, complete: bool = True) -> None:
    """T-one's shape: 300 ms of int32 samples and a float16 state to ten frames of log-probabilities."""
    levels = np.array([0.05 * (BLANK - index) for index in range(len(SYMBOLS))], np.float32)
    constants = {
        "full": np.array(32767.0, np.float32),
        "frames": np.array([0, FRAMES, UNITS], np.int64),
        "levels": levels.reshape(1, 1, -1),
        "sharp": np.array(-400.0, np.float32),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["signal"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["whole", "full"], ["pcm"]),
        helper.make_node("Reshape", ["pcm", "frames"], ["cut"]),
        helper.make_node("ReduceMean", ["cut", "last"], ["level"], keepdims=1),
        helper.make_node("Sub", ["level", "levels"], ["distance"]),
        helper.make_node("Abs", ["distance"], ["far"]),
        helper.make_node("Mul", ["far", "sharp"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["logprobs"], axis=-1),
        helper.make_node("Identity", ["state"], ["state_next"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "speller",
        [value("signal", TensorProto.INT32, ["N", STEP, 1]), value("state", TensorProto.FLOAT16, ["N", 3])],
        [
            value("logprobs", TensorProto.FLOAT, ["N", FRAMES, len(SYMBOLS)]),
            value("state_next", TensorProto.FLOAT16, ["N", 3]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    stated = {"model_type": "t-one", "frame_length_ms": "300", "sample_rate": str(RATE)}
    helper.set_model_props(model, stated | ({"state_dim": "3"} if complete else {}))
    onnx.save(model, str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "toy-t-one"
    path.mkdir()
    write_model(path / "model.onnx")
    (path / "tokens.txt").write_text("".join(f"{s} {i}\n" for i, s in enumerate(SYMBOLS)), encoding="utf-8")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = []
    for number, text in enumerate(("abc", "bad cab", "ace", "")):
        soundfile.write(tmp_path / f"{number}.wav", spell(text, 0.3), RATE, subtype="PCM_16")
        lines.append(json.dumps({"id": f"u{number}", "audio_filepath": f"{number}.wav", "text": text}))
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_streaming_model_makes_rows_whole_and_in_a_stream(evaluation: Any, folder: Path, manifest: Path) -> None:
    run = evaluation([folder], manifest)
    (info,) = run.run.variants
    assert (info.name, info.kind, info.chunk_ms, info.sample_rate) == ("toy-t-one-float32", "sherpa-onnx", 300.0, RATE)
    assert info.engine.startswith("sherpa-onnx ")
    assert set(info.files) == {"model.onnx", "tokens.txt"}
    run.recognise()
    rows = run.rows()
    assert [row.error for row in rows] == [None] * 4
    assert [row.hypothesis for row in rows] == ["abc", "bad cab", "ace", ""]
    assert [row.stream.text for row in rows] == [row.split_text for row in rows] == [row.hypothesis for row in rows]
    assert rows[1].stream.word_times == "recogniser"
    assert all(-0.1 < delay < 0.9 for delay in rows[1].stream.delays)
    assert [row.stream.endpoint for row in rows[:3]] == ["in time"] * 3


def test_a_zip_and_a_folder_inside_it(folder: Path, manifest: Path, tmp_path: Path) -> None:
    flat = Path(shutil.make_archive(str(tmp_path / "flat"), "zip", folder))
    deep = Path(shutil.make_archive(str(tmp_path / "deep"), "zip", folder.parent, folder.name))
    ((plain,), _) = plan_variants([folder])
    for zipped in (flat, deep):
        ((info,), _) = plan_variants([zipped])
        assert (info.files, info.size_bytes) == (plain.files, plain.size_bytes)
        system = open_system(info, Decoding())
        assert system.recognize(Item("m", 0, "u", "audio", str(manifest.with_name("1.wav")))).text == "bad cab"


def test_the_wheel_ends_its_process_and_nothing_else(evaluation: Any, folder: Path, manifest: Path) -> None:
    write_model(folder / "model.onnx", complete=False)
    run = evaluation([folder], manifest)
    assert run.recognise() == 4
    assert {row.error_kind for row in run.rows()} == {"not attempted"}
    (broken,) = read_broken(run.output)
    assert "its process ended with exit code 255" in broken.reason
    assert "state_dim" in broken.reason


def test_models_that_the_wheel_does_not_know(folder: Path) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    helper.set_model_props(model, {"model_type": "whisper-base"})
    onnx.save(model, str(folder / "model.onnx"))
    with pytest.raises(BundleError, match=r"no model type of CTC .*model.onnx: whisper-base"):
        plan_variants([folder])


def test_streaming_models_come_first_and_precisions_by_name(folder: Path) -> None:
    shutil.copy(folder / "model.onnx", folder / "model.int8.onnx")
    offline = onnx.load(str(folder / "model.onnx"))
    del offline.metadata_props[:]
    helper.set_model_props(offline, {"model_type": "zipformer2_ctc"})
    onnx.save(offline, str(folder / "offline.onnx"))
    names = [v.name for v in plan_variants([folder], "all")[0]]
    assert names == ["toy-t-one-float32", "toy-t-one-int8"]
    ((whole,), _) = plan_variants([folder], "offline-float32")
    assert (whole.name, whole.model_file, whole.chunk_ms) == ("toy-t-one-offline-float32", "offline.onnx", None)
    assert [v.name for v in plan_variants([folder])[0]] == ["toy-t-one-float32"]
    document = {"name": "our toy", "default_precision": "int8", "sample_rate": RATE, "provenance": {"recipe": "r"}}
    (folder / "sherpa-onnx.json").write_text(json.dumps(document), encoding="utf-8")
    ((info,), _) = plan_variants([folder])
    assert (info.name, info.method) == ("our-toy-int8", "labels only")
    assert "sherpa-onnx.json" in info.files


@pytest.mark.parametrize(
    ("stated", "chunk"),
    [
        ({"model_type": "zipformer2_ctc", "decode_chunk_len": "32"}, 320.0),
        ({"model_type": "EncDecCTCModelBPE", "window_size": "25", "chunk_shift": "16"}, 160.0),
        ({"model_type": "wenet_ctc", "right_context": "6", "subsampling_factor": "4"}, 640.0),
        ({"model_type": "t-one", "frame_length_ms": "300"}, 300.0),
        ({"model_type": "zipformer2_ctc"}, None),
        ({"model_type": "wenet_ctc", "subsampling_factor": "4"}, None),
        ({"model_type": "EncDecCTCModelBPE", "subsampling_factor": "8"}, None),
    ],
)
def test_chunks_by_what_each_family_states(stated: dict[str, str], chunk: float | None) -> None:
    assert sherpa._chunk_ms(stated) == chunk


def test_what_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((info,), _) = plan_variants([folder])
    with pytest.raises(OptionsError, match="decoded greedily here"):
        open_system(info, Decoding(DecoderOptions("beam")))

    def gone(name: str) -> str:
        raise sherpa.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sherpa.importlib.metadata, "version", gone)
    with pytest.raises(MissingDependencyError, match="pip install sherpa-onnx"):
        plan_variants([folder])
