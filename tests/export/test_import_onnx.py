"""CTC ONNX files of other toolkits: small files with their signatures go in, bundles that the runtime runs come out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from torch import nn

from kdcompress.frontend import LogMelConfig
from kdcompress.teachers.features import Recipe, compute
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.errors import ForeignModelError, MissingFieldsError, ParityError, UnsupportedModelError
from kdcompress_export.graphs import FEATURE_NORM_MARK, FRONTEND_MARK
from kdcompress_export.importers import onnx_file
from kdcompress_export.importers.description import FIELDS, HELP, OnnxDescription
from kdcompress_export.importers.frontend_graph import frontend_model
from kdcompress_export.importers.onnx_file import compare_features, import_onnx
from kdcompress_export.quantization.static import plan_nodes
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime import Recognizer
from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, ModelFile, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress_export.source import Source

RATE, BINS = 16000, 80
TOKENS = ("<blk>", "<unk>", "▁", *"abcdef")
SAID = OnnxDescription(sample_rate=RATE)


class Net(nn.Module):
    """A model of whole recordings, subsampling by four, that masks by length as others do."""

    def __init__(self, *, transposed: bool, scores: str, inputs: int = BINS) -> None:
        super().__init__()
        self.transposed, self.scores = transposed, scores
        self.first = nn.Conv1d(inputs, 16, 3, stride=2, padding=1)
        self.second = nn.Conv1d(16, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, len(TOKENS))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        swapped = features if self.transposed else features.transpose(1, 2)
        hidden = self.norm(torch.relu(self.second(torch.relu(self.first(swapped))))).transpose(1, 2)
        kept = (lengths + 3) // 4
        hidden = hidden * (torch.arange(hidden.shape[1])[None] < kept[:, None]).float()[:, :, None]
        logits = 5 * self.head(hidden)
        if self.scores == "logits":
            return logits * 1.0, kept
        return (logits.log_softmax(-1) if self.scores == "log_probs" else logits.softmax(-1)), kept


def save_file(
    file: Path,
    names: tuple[str, str, str, str],
    properties: dict[str, str],
    *,
    transposed: bool = False,
    scores: str = "log_probs",
    opset: int = 13,
) -> Path:
    """Export a ``Net`` as other toolkits do, with the token table beside it."""
    torch.manual_seed(1)
    net = Net(transposed=transposed, scores=scores).eval()
    net.norm.running_mean.uniform_(-0.3, 0.3)
    features = torch.randn(2, BINS, 40) if transposed else torch.randn(2, 40, BINS)
    axes = {names[0]: {0: "N", 2 if transposed else 1: "T"}, names[1]: {0: "N"}, names[2]: {0: "N", 1: "T"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (features, torch.tensor([40, 40])),
            str(file),
            dynamo=False,
            opset_version=opset,
            input_names=list(names[:2]),
            output_names=list(names[2:]),
            dynamic_axes={**axes, names[3]: {0: "N"}},
        )
    model = onnx.load(file)
    helper.set_model_props(model, properties)
    onnx.save(model, file)
    write_tokens(file)
    return file


def write_tokens(file: Path, symbols: tuple[str, ...] = TOKENS) -> None:
    lines = "".join(f"{symbol} {index}\n" for index, symbol in enumerate(symbols))
    file.with_name("tokens.txt").write_text(lines, encoding="utf-8")


ICEFALL = (("x", "x_lens", "log_probs", "log_probs_len"), {"model_type": "zipformer2_ctc", "model_author": "k2-fsa"})
WENET = (("x", "x_lens", "log_probs", "log_probs_lens"), {"model_type": "wenet_ctc", "subsampling_factor": "4"})
NEMO = (
    ("audio_signal", "length", "logprobs", "encoded_lengths"),
    {"model_type": "EncDecCTCModelBPE", "normalize_type": "per_feature", "subsampling_factor": "4", "vocab_size": "8"},
)


@pytest.fixture(scope="module")
def icefall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with icefall's signature. Tests that change it work on a copy."""
    return save_file(tmp_path_factory.mktemp("icefall") / "model.onnx", *ICEFALL)


@pytest.fixture(scope="module")
def source(icefall: Path) -> Source:
    """The same, imported."""
    return import_onnx(icefall, SAID)


def changed(icefall: Path, folder: Path, change: Any) -> Path:
    """Write a copy after ``change(model)``."""
    model = onnx.load(icefall)
    change(model)
    onnx.save(model, folder / "model.onnx")
    write_tokens(folder / "model.onnx")
    return folder / "model.onnx"


def save_bundle(source: Source, output: Path) -> Path:
    tokens = source.vocabulary.dumps().encode()
    metadata = replace(
        source.metadata,
        models=(ModelFile("float32", "model.onnx"),),
        measured={"parity": source.parity},
        provenance=source.provenance,
        files={TOKENS_FILE: sha256(tokens), "model.onnx": sha256(source.content)},
    )
    contents = {METADATA_FILE: metadata.dumps().encode(), TOKENS_FILE: tokens, "model.onnx": source.content}
    write_bundle(output, contents)
    return output


def run_file(file: Path, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file))
    first, *lengths = [value.name for value in session.get_inputs()]
    transposed = session.get_inputs()[0].shape[1] == BINS
    fed = {first: features.transpose(0, 2, 1) if transposed else features}
    fed |= {name: np.full(len(features), features.shape[1], np.int64) for name in lengths}
    return session.run(None, fed)[0]


def kaldi_features(samples: np.ndarray, *, scale: float = 1.0, snip_edges: bool = False, high: float = -400.0) -> Any:
    """Kaldi's own answer ``(1, T, F)``."""
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = RATE
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = BINS
    options.mel_opts.high_freq = high
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE, (samples * scale).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(index) for index in range(bank.num_frames_ready)])[None]


def nemo_features(samples: np.ndarray) -> np.ndarray:
    """NeMo's steps, written down with torch and with librosa's filters as transformers has them, ``(1, T, F)``."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(257, BINS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    signal = torch.from_numpy(samples)
    signal = torch.cat([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    window = torch.hann_window(400, periodic=False)
    spectrum = torch.stft(signal, 512, 160, 400, window, center=True, pad_mode="constant", return_complex=True)
    power = spectrum.abs().pow(2)[:, : len(samples) // 160]
    features = torch.log(torch.from_numpy(filters.T).float() @ power + 2**-24)
    return ((features - features.mean(1, True)) / (features.std(1, keepdim=True) + 1e-5)).T[None].numpy()


@pytest.mark.parametrize(("toolkit", "opset"), [("icefall", 11), ("icefall", 13), ("wenet", 13), ("nemo", 17)])
def test_files_become_bundles_that_hear_what_the_toolkit_feeds(toolkit: str, opset: int, tmp_path: Path) -> None:
    known = {"icefall": ICEFALL, "wenet": WENET, "nemo": NEMO}[toolkit]
    file = save_file(tmp_path / "model.onnx", *known, transposed=toolkit == "nemo", opset=opset)
    source = import_onnx(file, SAID)
    assert source.parity["max_abs_diff"] < 2e-3
    assert source.parity["features"]["mean_abs_diff"] < 1e-5
    samples = speech_like_noise(1.237, RATE, seed=4)
    features = {
        "icefall": lambda: kaldi_features(samples),
        "wenet": lambda: kaldi_features(samples, scale=32768.0, snip_edges=True, high=0.0),
        "nemo": lambda: nemo_features(samples),
    }[toolkit]()
    expected = run_file(file, features)[0]
    recognizer = Recognizer.from_dir(save_bundle(source, tmp_path / "bundle"))
    np.testing.assert_allclose(recognizer.log_probs(samples, RATE), expected, atol=2e-3)
    result = recognizer.recognize(samples, RATE)
    assert result.tokens
    assert source.metadata.frame_shift_ms == 40.0


def test_graph_is_a_bundles_graph_with_a_marked_frontend(source: Source) -> None:
    model = onnx.load_from_string(source.content)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert [value.name for value in model.graph.input] == ["pcm"]
    assert [value.name for value in model.graph.output] == ["log_probs"]
    names = [tensor.name for tensor in model.graph.initializer]
    assert sum(FRONTEND_MARK in name for name in names) == 2
    assert sum(FEATURE_NORM_MARK in name for name in names) == 1
    assert {"first.weight", "second.weight", "head.weight"} <= set(names)
    planned = [node for node in model.graph.node if node.name in plan_nodes(model)]
    weights = {name for node in planned for name in node.input if name in names}
    assert {"first.weight", "second.weight", "head.weight"} <= weights
    assert not any(FRONTEND_MARK in name for name in weights)


def test_what_the_file_tells_is_read(source: Source, icefall: Path) -> None:
    metadata = source.metadata
    assert metadata.subsampling_factor == 4
    assert metadata.input.units_per_frame == 640
    assert metadata.input.min_units == 200
    assert metadata.blank_id == 0
    assert (metadata.frontend["kind"], metadata.frontend["late_features"]) == ("log_mel", 0)
    assert source.vocabulary.symbols == TOKENS
    fields = source.provenance["origin"]["fields"]
    assert (fields["features"], fields["scores"], fields["layout"]) == ("kaldi", "log_probs", "NTF")
    assert source.provenance["origin"]["sha256"] == {"model.onnx": sha256(icefall.read_bytes())}


def test_every_missing_field_is_asked_for_at_once(tmp_path: Path) -> None:
    file = save_file(tmp_path / "model.onnx", ("a", "b", "c", "d"), {})
    file.with_name("tokens.txt").unlink()
    with pytest.raises(MissingFieldsError) as caught:
        import_onnx(file)
    asked = [line.split("=")[0].split()[-1] for line in str(caught.value).splitlines()[1:]]
    assert asked == ["tokens", "features", "sample_rate", "normalize"]
    write_tokens(file, ("_", *TOKENS[1:]))
    with pytest.raises(MissingFieldsError, match="--field blank=") as again:
        import_onnx(file, OnnxDescription.from_fields({"features": "kaldi", "sample_rate": "16000"}))
    assert "--field features" not in str(again.value)
    said = {"features": "kaldi", "sample_rate": "16000", "blank": "_"}
    assert import_onnx(file, OnnxDescription.from_fields(said)).vocabulary.symbols[0] == "<blk>"
    by_id = OnnxDescription.from_fields({**said, "blank": "0"})
    assert import_onnx(file, by_id).vocabulary.symbols[0] == "<blk>"


def test_nemo_tables_may_leave_out_the_blank(tmp_path: Path) -> None:
    file = save_file(tmp_path / "model.onnx", *NEMO, transposed=True, opset=17)
    write_tokens(file, TOKENS[1:])
    assert import_onnx(file, SAID).vocabulary.symbols == (*TOKENS[1:], "<blk>")


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_other_scores_become_log_probabilities(scores: str, tmp_path: Path) -> None:
    file = save_file(tmp_path / "model.onnx", *ICEFALL, scores=scores)
    source = import_onnx(file, SAID)
    samples = speech_like_noise(0.5, RATE, seed=4)
    expected = run_file(file, kaldi_features(samples))
    expected = np.log(expected) if scores == "probabilities" else expected - np.log(np.exp(expected).sum(-1))[..., None]
    np.testing.assert_allclose(source.load().step(samples[None], {})[0], expected, atol=2e-3)


def test_what_was_said_must_agree_with_the_file(icefall: Path) -> None:
    cases = {
        "num_mel_bins": ("40", "takes 80 features a frame"),
        "subsampling_factor": ("8", "an output frame for every 4 feature frames"),
        "scores": ("probabilities", "do not sum to one"),
        "normalize": ("per_feature", "normalize is 'per_feature'"),
        "output": ("nothing", "no output 'nothing'"),
        "blank": ("q", "no symbol 'q'"),
        "tokens": ("/nonexistent/tokens.txt", "cannot be read"),
        "high_freq": ("9000", "no filterbank"),
    }
    for name, (value, message) in cases.items():
        said = OnnxDescription.from_fields({"sample_rate": "16000", name: value})
        with pytest.raises(ForeignModelError, match=message):
            import_onnx(icefall, said)


def test_fields_are_read_from_text() -> None:
    said = OnnxDescription.from_fields({"snip_edges": "true", "window_ms": "20", "num_mel_bins": "64", "layout": "NFT"})
    assert (said.snip_edges, said.window_ms, said.num_mel_bins, said.layout) == (True, 20.0, 64, "NFT")
    assert set(FIELDS) == set(HELP)
    bad = {"snip_edges": "perhaps", "sample_rate": "-1", "features": "mfcc", "window_ms": "nan", "color": "red"}
    with pytest.raises(ForeignModelError) as caught:
        OnnxDescription.from_fields(bad)
    for part in ("unknown field 'color'", "true or false", "above 0", "one of kaldi", "must be a number"):
        assert part in str(caught.value)
    with pytest.raises(ForeignModelError, match="features is 'mfcc'"):
        OnnxDescription(features="mfcc")


def test_token_table_must_fit(icefall: Path, tmp_path: Path) -> None:
    for symbols, message in [((*TOKENS, "x"), "no output for 'x'"), (TOKENS[:-1], "no symbol for 1 ids")]:
        file = changed(icefall, tmp_path, lambda _: None)
        write_tokens(file, symbols)
        with pytest.raises(ForeignModelError, match=message):
            import_onnx(file, SAID)
    write_tokens(file, (*TOKENS, "#0", "#1"))  # icefall's disambiguation symbols
    assert import_onnx(file, SAID).vocabulary.symbols == TOKENS


def test_external_data_is_brought_in(icefall: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx.save_model(onnx.load(icefall), file, save_as_external_data=True, location="weights.bin", size_threshold=64)
    write_tokens(file)
    content = import_onnx(file, SAID).content
    model = onnx.load_from_string(content)
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    whole = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(whole[:100])
    with pytest.raises(ForeignModelError, match=r"weights\.bin"):
        import_onnx(file, SAID)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ForeignModelError, match=r"weights\.bin"):
        import_onnx(file, SAID)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "a/../../weights.bin", ""])
def test_external_data_outside_of_the_folder_is_refused(icefall: Path, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    file = folder / "model.onnx"
    onnx.save_model(onnx.load(icefall), file, save_as_external_data=True, location="weights.bin", size_threshold=64)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ForeignModelError, match="outside the file's folder"):
        import_onnx(file, SAID)


def test_external_data_behind_a_link_is_refused(icefall: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    file = folder / "model.onnx"
    onnx.save_model(onnx.load(icefall), file, save_as_external_data=True, location="weights.bin", size_threshold=64)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ForeignModelError, match="outside the file's folder"):
        import_onnx(file, SAID)


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("cached_key_0", TensorProto.FLOAT, [64, "N", 128]))


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def fix_time(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 40


def quantize(model: onnx.ModelProto) -> None:
    writer = next(node for node in model.graph.node if node.op_type == "Relu")
    after = [numpy_helper.from_array(np.array(0.1, np.float32), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    model.graph.initializer.extend(after)
    there = helper.make_node("QuantizeLinear", [writer.output[0], "scale", "zero"], ["q"])
    back = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"])
    place = list(model.graph.node).index(writer) + 1
    for node in list(model.graph.node)[place:]:
        node.input[:] = ["dq" if name == writer.output[0] else name for name in node.input]
    model.graph.node.insert(place, back)
    model.graph.node.insert(place, there)


def use_contrib(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "QuickGelu"
    next(node for node in model.graph.node if node.op_type == "QuickGelu").domain = "com.microsoft"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_input, "as streaming models do.*export the offline"),
        (fix_batch, "fixed shape .*dynamic axes"),
        (fix_time, "fixed shape .*dynamic axes"),
        (quantize, "quantized already"),
        (use_contrib, "com.microsoft.QuickGelu"),
    ],
)
def test_unsupported_files_are_refused(icefall: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        import_onnx(changed(icefall, tmp_path, change), SAID)


def test_damaged_files_are_refused(icefall: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    for content in (b"", b"no onnx at all", icefall.read_bytes()[:-500]):
        file.write_bytes(content)
        with pytest.raises(ForeignModelError, match="no ONNX file"):
            import_onnx(file, SAID)
    with pytest.raises(ForeignModelError, match="cannot be read"):
        import_onnx(tmp_path / "missing.onnx", SAID)


WAVEFORM = """
<ir_version: 8, opset_import: ["" : 17]>
model (float[N, samples] audio) => (float[N, frames, 4] logits)
<int64[1] one = {1}, bool yes = {1}, float pcm = {2.0}>
{
  channel = Unsqueeze(audio, one)
  scaled = If(yes) <
    then_branch = then () => (float[N, c, s] a) { a = Mul(channel, pcm) },
    else_branch = other () => (float[N, c, s] b) { b = Identity(channel) }
  >
  waves = Conv<strides = [32]>(scaled, weight)
  logits = Transpose<perm = [0, 2, 1]>(waves)
}
"""


def test_waveform_models_with_subgraphs_are_brought_in(tmp_path: Path) -> None:
    model = parser.parse_model(WAVEFORM)
    weight = 0.02 * np.random.default_rng(0).standard_normal((4, 1, 64), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "weight"))
    file = tmp_path / "wave.onnx"
    onnx.save(model, file)
    write_tokens(file, ("<blank>", "a", "<space>", "b"))
    said = OnnxDescription.from_fields({"sample_rate": "8000", "normalize": "zero_mean_unit_var", "scores": "logits"})
    source = import_onnx(file, said)
    assert source.vocabulary.symbols == ("<blk>", "a", "▁", "b")
    assert (source.metadata.input.units_per_frame, source.metadata.input.min_units) == (32, 64)
    assert source.metadata.frame_shift_ms == 4.0
    recognizer = Recognizer.from_dir(save_bundle(source, tmp_path / "bundle"))
    samples = speech_like_noise(0.4, 8000, seed=1)
    normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    logits = onnxruntime.InferenceSession(str(file)).run(None, {"audio": normal[None]})[0][0]
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(recognizer.log_probs(samples, 8000), expected, atol=1e-3)


@pytest.mark.parametrize("count", [400, 401, 4000, 12345])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("kaldi", LogMelConfig()),
        Recipe("kaldi", LogMelConfig(sample_rate=8000, num_mel_bins=40)),
        Recipe("kaldi_int16", LogMelConfig(high_freq=0.0), snip_edges=True),
        Recipe("nemo", LogMelConfig(num_mel_bins=64, low_freq=0.0, high_freq=0.0, window_ms=20.0), "per_feature"),
        Recipe("nemo", LogMelConfig(low_freq=0.0, high_freq=0.0), "all_features"),
        Recipe("nemo", LogMelConfig(low_freq=0.0, high_freq=0.0)),
    ],
    ids=["kaldi", "kaldi-8k", "wenet", "nemo-quartznet", "nemo-all", "nemo"],
)
def test_graph_and_separate_features_agree_at_any_length(recipe: Recipe, count: int) -> None:
    samples = speech_like_noise(1.0, RATE, seed=3)[2000 : 2000 + count]
    samples = np.stack([samples, samples[::-1]])
    samples = (samples + 1e-3 * np.random.default_rng(0).standard_normal(samples.shape)).astype(np.float32)
    session = onnxruntime.InferenceSession(frontend_model(recipe).SerializeToString())
    found, expected = session.run(None, {"pcm": samples})[0], compute(recipe, samples)
    assert found.shape == expected.shape == (2, recipe.frames(count), recipe.mel.num_mel_bins)
    np.testing.assert_allclose(found, expected, atol=5e-3)
    least = np.zeros((1, recipe.samples(1)), np.float32)
    assert recipe.frames(recipe.samples(1)) >= 1
    assert compute(replace(recipe, normalize="none"), least).shape[1] >= 1


def test_kaldi_itself_computes_these_features() -> None:
    samples = speech_like_noise(1.0, RATE, seed=8)
    np.testing.assert_allclose(
        compute(Recipe("kaldi", LogMelConfig()), samples[None]), kaldi_features(samples), atol=2e-3
    )


def test_parity_with_a_frontend_that_is_wrong_fails(icefall: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = compute
    monkeypatch.setattr(onnx_file, "compute", lambda recipe, samples: later(recipe, np.roll(samples, 40, axis=1)))
    with pytest.raises(ParityError, match="features in the graph differ"):
        import_onnx(icefall, SAID)
    monkeypatch.setattr(onnx_file, "compare_features", lambda *_: {})
    with pytest.raises(ParityError, match=r"on separately computed features by more than 0.01"):
        import_onnx(icefall, SAID)


def test_features_shorter_than_two_frames_are_not_compared() -> None:
    noise = speech_like_noise(0.5, RATE, seed=1)
    found = compare_features(Recipe("kaldi", LogMelConfig()), noise, noise[:100])
    assert found["mean_abs_diff"] < 1e-5
