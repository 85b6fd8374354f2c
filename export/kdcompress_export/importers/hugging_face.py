"""Hugging Face ``*ForCTC`` folder -> ``Source``: converted by optimum, wrapped to take PCM, proven against torch."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import helper, numpy_helper
from torch.nn.utils import parametrize

from kdcompress.teachers.quiet import quiet_and_offline
from kdcompress_export.convert import OPSET
from kdcompress_export.errors import ForeignModelError, UnsupportedModelError
from kdcompress_export.importers import surgery
from kdcompress_export.importers.hf_folder import (
    RawAudio,
    check_weights,
    read_architecture,
    read_extractor,
    read_vocabulary,
)
from kdcompress_export.importers.proof import compare_with_origin, proof_inputs
from kdcompress_export.importers.provenance import origin
from kdcompress_export.inputs import inputs_for
from kdcompress_export.prove import FLOAT
from kdcompress_export.source import Source
from kdcompress_runtime.bundle import BundleMetadata, InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto

    from kdcompress_runtime.vocabulary import Vocabulary

DEFAULT_ATOL = 1e-3
"""Largest difference of a log-probability. Two dozen transformer layers in float32, summed in another order, differ
by 1e-5 to 1e-4; a wrong axis, a lost normalisation or a wrong weight differs by more than 1e-2."""
EPSILON = 1e-7
"""What ``Wav2Vec2FeatureExtractor`` adds to the variance."""
TASK = "automatic-speech-recognition"
_INPUT = "input_values"
_LENGTHS_TRIED = 64
_LIBRARY_ERRORS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OSError, ImportError, IndexError)


def import_hugging_face(
    folder: Path,
    *,
    calibration: Path | None = None,
    dev: Path | None = None,
    atol: float = DEFAULT_ATOL,
    say: Callable[[str], None] = lambda _: None,
) -> Source:
    """Read a folder that ``save_pretrained`` wrote: model, feature extractor and tokenizer.

    Only files of the folder are read, weights from safetensors only, and no code of the folder is run. Checkpoints
    in 16 bits become float32. The model takes whole recordings; it hears each one alone, so attention masks, which
    tell padding from speech, are not in the graph.

    Args:
        folder: of a Wav2Vec2, HuBERT, WavLM, Wav2Vec2-Conformer, Data2VecAudio, SEW, SEW-D, UniSpeech or
            UniSpeech-SAT model for CTC, fed raw audio.
        calibration: manifest for int8 ranges.
        dev: manifest for the proof.
        atol: allowed difference of log-probabilities between the graph and torch.
        say: called with one line at every stage.

    Raises:
        ForeignModelError: a file is missing or damaged, or the files contradict each other.
        UnsupportedModelError: no CTC model, pickled weights, features other than raw audio, or a kind of model that
            optimum cannot convert.
        GraphError: the graph is not what was asked for.
        ParityError: it differs from torch by more than ``atol``.
        ManifestError, AudioError: data cannot be read.
    """
    say(f"Reading {folder}")
    architecture, config = read_architecture(folder)
    weights, audio = check_weights(folder), read_extractor(folder)
    with quiet_and_offline():
        model = _load(folder, architecture)
        vocabulary = read_vocabulary(folder, model.config.vocab_size, config.get("pad_token_id"))
        metadata = _describe(folder, model, audio, vocabulary)
        expected = _Torch(model, audio)
        say("Converting to ONNX with optimum")
        # A second copy: torch lets two that were copied from each other share what folding removes.
        exported = _convert(fold_parametrizations(_load(folder, architecture)))
    content = surgery.finish(_wrap(exported, audio), metadata, len(vocabulary))
    source = Source(
        content,
        metadata,
        vocabulary,
        parity={},
        provenance=origin("hugging_face", folder, weights, architecture=architecture),
        calibration=calibration,
        dev=dev,
    )
    say("Comparing float32 with torch")
    recordings = proof_inputs(calibration, dev, inputs_for(metadata.input))
    with quiet_and_offline():
        parity = compare_with_origin(
            source.load(), expected, origin=f"{architecture} in torch", atol=atol, recordings=recordings
        )
    source.parity.update(parity)
    return source


def _load(folder: Path, architecture: str) -> Any:  # noqa: ANN401 - the class is only known by its name
    """Load the model in float32, and refuse one that misses weights: transformers would make some up."""
    import transformers

    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise UnsupportedModelError(f"{folder}: transformers {transformers.__version__} knows no {architecture}")
    try:
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except _LIBRARY_ERRORS as error:
        raise ForeignModelError(f"{folder}: transformers cannot load it as {architecture} ({_line(error)})") from error
    wrong = sorted([*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])])
    if wrong:
        raise ForeignModelError(
            f"{folder}: {len(wrong)} weights of {architecture} are missing or have another shape, for example "
            f"{wrong[0]}; give a model that was trained for CTC, saved whole"
        )
    return model.eval().requires_grad_(requires_grad=False)


def _describe(folder: Path, model: Any, audio: RawAudio, vocabulary: Vocabulary) -> BundleMetadata:  # noqa: ANN401
    config = model.config
    kernels, strides = list(config.conv_kernel), list(config.conv_stride)
    shift, least = math.prod(strides), 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        least = (least - 1) * stride + kernel
    if getattr(config, "add_adapter", False):
        shift *= config.adapter_stride**config.num_adapter_layers
    return BundleMetadata(
        name=folder.resolve().name,
        task="speech",
        input=InputSpec("pcm", "pcm", shift, audio.sample_rate, _shortest(model, least, math.prod(strides))),
        states=(),
        frame_shift_ms=1000.0 * shift / audio.sample_rate,
        subsampling_factor=1,
        lookahead_frames=0,
        chunk_frames=1,
        models=(),
        default_precision=FLOAT,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        blank_id=vocabulary.blank_id,
        streaming=False,
        frontend={"kind": "waveform", "sample_rate": audio.sample_rate, "normalize": _normalization(audio)},
    )


def _normalization(audio: RawAudio) -> str:
    return "zero_mean_unit_var" if audio.normalize else "none"


def _shortest(model: Any, receptive_field: int, stride: int) -> int:  # noqa: ANN401
    """Fewest samples that give an output: the receptive field, or a little more where later layers squeeze frames."""
    for frames in range(_LENGTHS_TRIED):
        samples = receptive_field + frames * stride
        try:
            with torch.no_grad():
                logits = model(torch.zeros(1, samples)).logits
        except (RuntimeError, ValueError, IndexError):
            continue
        if logits.shape[1] and bool(torch.isfinite(logits).all()):
            return samples
    raise UnsupportedModelError(f"the model answers nothing to up to {_LENGTHS_TRIED} frames of silence")


class _Torch:
    """The original, transformers' extractor and model: ``(N, n)`` samples to ``(N, T, C)`` log-probabilities."""

    def __init__(self, model: Any, audio: RawAudio) -> None:  # noqa: ANN401
        from transformers import Wav2Vec2FeatureExtractor

        self.model, self.sample_rate = model, audio.sample_rate
        # Made from the file itself, so that a setting read wrongly here shows.
        self.extractor: Any = Wav2Vec2FeatureExtractor.from_dict(audio.settings)

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        fed = self.extractor(list(samples), sampling_rate=self.sample_rate, return_tensors="pt", padding=True)
        with torch.no_grad():
            logits = self.model(**fed).logits
        found: NDArray[np.float32] = torch.log_softmax(logits.double(), dim=-1).float().numpy()
        return found


def _convert(model: Any) -> ModelProto:  # noqa: ANN401
    """Export through optimum, in its exporter's opset, weights inside."""
    from optimum.exporters.onnx import onnx_export_from_model

    with tempfile.TemporaryDirectory() as temporary:
        try:
            onnx_export_from_model(
                model, temporary, opset=OPSET, task=TASK, do_validation=False, no_post_process=True, device="cpu"
            )
        except _LIBRARY_ERRORS as error:
            kind = type(model).__name__
            raise UnsupportedModelError(f"optimum cannot convert {kind} to ONNX ({_line(error)})") from error
        return surgery.to_opset(surgery.load_graph(Path(temporary) / "model.onnx"), type(model).__name__)


def _wrap(model: ModelProto, audio: RawAudio) -> ModelProto:
    """Put the feature extractor in front and the log-softmax behind, in place."""
    graph = model.graph
    names, output = [value.name for value in graph.input], graph.output[0].name
    if names != [_INPUT]:
        raise UnsupportedModelError(f"optimum gave the graph the inputs {names}; only {_INPUT} is known how to feed")
    surgery.lift_constants(graph)
    surgery.drop_identities(graph)
    surgery.name_weights(graph)
    surgery.append_scores(graph, output, "logits")
    if audio.normalize:
        normalize_waveform(graph, "pcm", _INPUT)
    else:
        surgery.rename(graph, {_INPUT: "pcm"})
    return model


def normalize_waveform(graph: GraphProto, source: str, target: str) -> None:
    """Write ``target``: each recording of ``source`` ``(N, n)`` with zero mean and unit variance, in place."""
    tensors = [
        numpy_helper.from_array(np.array([1], dtype=np.int64), "waveform_axis"),
        numpy_helper.from_array(np.array(EPSILON, dtype=np.float32), "waveform_epsilon"),
    ]
    nodes = [
        helper.make_node("ReduceMean", [source, "waveform_axis"], ["waveform_mean"], keepdims=1),
        helper.make_node("Sub", [source, "waveform_mean"], ["waveform_centred"]),
        helper.make_node("Mul", ["waveform_centred", "waveform_centred"], ["waveform_square"]),
        helper.make_node("ReduceMean", ["waveform_square", "waveform_axis"], ["waveform_variance"], keepdims=1),
        helper.make_node("Add", ["waveform_variance", "waveform_epsilon"], ["waveform_safe"]),
        helper.make_node("Sqrt", ["waveform_safe"], ["waveform_deviation"]),
        helper.make_node("Div", ["waveform_centred", "waveform_deviation"], [target]),
    ]
    surgery.prepend(graph, nodes, tensors)


def fold_parametrizations(model: Any) -> Any:  # noqa: ANN401
    """Replace weights that are computed (weight norm) by what they amount to, in place; return the model."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(getattr(module, "parametrizations", {})):
                parametrize.remove_parametrizations(module, name)
    return model


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
