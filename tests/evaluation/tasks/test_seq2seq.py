"""An autoregressive translator as optimum exports it, beside a bundle in one report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from kdcompress_evaluation import EvalOptions, evaluate
from kdcompress_evaluation.decoding import Decoding
from kdcompress_evaluation.systems import Item, describe, open_system
from kdcompress_evaluation.systems.generation import Settings, beam, greedy
from kdcompress_evaluation.systems.seq2seq import ENCODER, FIRST, NEXT, shipped
from kdcompress_runtime.decoders import DecoderOptions
from kdcompress_runtime.errors import BundleError, ModelError, OptionsError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = ("<pad>", "</s>", "a", "b", "c", "d")
SIZE = len(TOKENS)


def graph(nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]]) -> bytes:
    value = helper.make_tensor_value_info
    table = np.random.default_rng(5).normal(size=(SIZE, SIZE)).astype(np.float32)
    constants = {
        "eye": np.eye(SIZE, dtype=np.float32),
        "table": table,
        "time": np.array([2]),
        "heads": np.array([1]),
        "half": np.array(0.4, np.float32),
    }
    used = {name for node in nodes for name in node.input}
    found = helper.make_graph(
        nodes,
        "g",
        [value(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [value(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    model = helper.make_model(found, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_model(folder: Path, **generation: Any) -> Path:
    """Three graphs: logits from the last token, all tokens so far (the cache), and the source."""
    folder.mkdir(parents=True)
    node, integer, real = helper.make_node, TensorProto.INT64, TensorProto.FLOAT
    ids, mask = (integer, ["B", "T"]), (integer, ["B", "S"])
    hidden, cache = (real, ["B", "S", SIZE]), (real, ["B", 1, "P", SIZE])
    encoder = [node("Gather", ["eye", "input_ids"], ["last_hidden_state"])]
    said = [
        node("Gather", ["eye", "input_ids"], ["hot"]),
        node("Unsqueeze", ["hot", "heads"], ["own"]),
        node("Gather", ["table", "input_ids"], ["following"]),
    ]
    source = [node("Unsqueeze", ["encoder_hidden_states", "heads"], ["present.0.encoder.key"])]
    ended = [
        node("ReduceSum", ["present.0.decoder.key", "time"], ["used"], keepdims=0),
        node("ReduceSum", ["{encoder}", "time"], ["wanted"], keepdims=0),
        node("Sub", ["wanted", "used"], ["left"]),
        node("Mul", ["left", "half"], ["pull"]),
        node("Add", ["following", "pull"], ["logits"]),
    ]
    first = [*said, *source, node("Identity", ["own"], ["present.0.decoder.key"])]
    following = [*said, node("Concat", ["past_key_values.0.decoder.key", "own"], ["present.0.decoder.key"], axis=2)]
    for nodes, key in ((first, "present.0.encoder.key"), (following, "past_key_values.0.encoder.key")):
        for one in ended:
            copy = onnx.NodeProto()
            copy.CopyFrom(one)
            copy.input[:] = [key if name == "{encoder}" else name for name in one.input]
            nodes.append(copy)
    logits = {"logits": ["B", "T", SIZE], "present.0.decoder.key": ["B", 1, "P2", SIZE]}
    files = {
        ENCODER: graph(encoder, {"input_ids": ids, "attention_mask": mask}, {"last_hidden_state": ["B", "T", SIZE]}),
        FIRST: graph(
            first,
            {"input_ids": ids, "encoder_hidden_states": hidden, "encoder_attention_mask": mask},
            {**logits, "present.0.encoder.key": ["B", 1, "S", SIZE]},
        ),
        NEXT: graph(
            following,
            {
                "input_ids": ids,
                "encoder_attention_mask": mask,
                "past_key_values.0.decoder.key": cache,
                "past_key_values.0.encoder.key": (real, ["B", 1, "S", SIZE]),
            },
            logits,
        ),
    }
    for stem, content in files.items():
        (folder / f"{stem}.onnx").write_bytes(content)
    config = {"architectures": ["MarianMTModel"], "is_encoder_decoder": True, "eos_token_id": 1, "pad_token_id": 0}
    config |= {"decoder_start_token_id": 0, "max_position_embeddings": 12, "bad_words_ids": [[0]]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(TOKENS)}, unk_token="d"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


class Anew:
    """The same decoder without any cache: everything is computed from all tokens at each step."""

    def __init__(self, source: str) -> None:
        self.table = np.random.default_rng(5).normal(size=(SIZE, SIZE)).astype(np.float32)
        self.eye = np.eye(SIZE, dtype=np.float32)
        self.wanted = self.eye[[*(TOKENS.index(token) for token in source.split()), 1]].sum(axis=0)
        self.rows: list[list[int]] = [[]]

    def step(self, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        self.rows = [[*self.rows[p], int(t)] for t, p in zip(tokens, parents, strict=True)]
        left = [self.wanted - self.eye[row].sum(axis=0) for row in self.rows]
        return np.stack([self.table[row[-1]] + np.float32(0.4) * one for row, one in zip(self.rows, left, strict=True)])


def test_the_cache_changes_nothing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "marian")
    plain, wide = describe(folder, "all")
    assert [plain.name, wide.name] == ["marian-greedy-float32", "marian-beam4-float32"]
    assert (plain.task, plain.input_kind, plain.kind) == ("translation", "text", "seq2seq")
    assert plain.geometry_sha256 != wide.geometry_sha256
    assert plain.size_bytes == sum((folder / name).stat().st_size for name in shipped(plain.files))
    system, searched = (open_system(info, Decoding()) for info in (plain, wide))
    settings, longest = Settings(start=0, end=(1,), forbidden=(0,)), 11
    for source in ("a b", "c d a", "b", "d d d a b c"):
        item = Item("", 0, "", "text", source)
        expected = (greedy(Anew(source), settings, longest), beam(Anew(source), settings, longest, 4))
        for one, wanted in zip((system, searched), expected, strict=True):
            found = one.recognize(item)
            assert found.text.split() == [TOKENS[token] for token in wanted.tokens]
            assert found.log_prob == pytest.approx(wanted.log_prob, abs=1e-5)
    with pytest.raises(OptionsError, match="does not stream"):
        system.open_stream()


def test_teacher_and_student_in_one_report(tasks: Any, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "marian")
    options = EvalOptions(
        resamples=1000,
        speed_utterances=0,
        anchors=(folder,),
        baseline="marian",
        decoding=Decoding(DecoderOptions("beam")),
    )
    summary = evaluate([tasks.pairs], {"pairs": tasks.manifests["pairs"]}, tmp_path / "out", options)
    assert [v.info.name for v in summary.variants] == [
        "translator-float32",
        "marian-greedy-float32",
        "marian-beam4-float32",
    ]
    assert summary.run.baseline == "marian-greedy-float32"
    assert not summary.failures
    assert summary.variants[0].pooled.differences["chrf"].estimate.value is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json; save it with a fast tokenizer"),
        (lambda folder: (folder / f"{ENCODER}.onnx").unlink(), "text2text-generation-with-past"),
        (lambda folder: (folder / f"{NEXT}.onnx").unlink(), "no decoder_with_past_model.onnx"),
        (
            lambda folder: (folder / "generation_config.json").write_text('{"no_repeat_ngram_size": 3}'),
            "no_repeat_ngram_size in generation_config.json is not followed",
        ),
        (lambda folder: (folder / "generation_config.json").write_text("{"), "cannot be read as JSON"),
    ],
)
def test_what_cannot_be_run_says_why(change: Any, message: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "marian")
    change(folder)
    with pytest.raises(BundleError, match=message):
        describe(folder, "all")


def test_damaged_graphs_and_language_models_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "marian")
    (info, _) = describe(folder, "all")
    with pytest.raises(OptionsError, match="takes no language model"):
        open_system(info, Decoding(DecoderOptions("beam"), tmp_path / "lm.arpa"))
    (folder / f"{NEXT}.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        open_system(info, Decoding())
    with pytest.raises(BundleError, match="holds no int8 model"):
        describe(folder, "int8")
