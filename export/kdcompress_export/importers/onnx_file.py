"""CTC ONNX file from elsewhere -> ``Source``: its features are put in front, in the graph, and it is proven equal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime import InferenceSession

from kdcompress.teachers.features import compute
from kdcompress_export.errors import ForeignModelError, GraphError, ParityError, UnsupportedModelError
from kdcompress_export.importers import surgery
from kdcompress_export.importers.description import OnnxDescription, missing_fields
from kdcompress_export.importers.frontend_graph import Builder, frame_counts, frontend_model, log_mel
from kdcompress_export.importers.hugging_face import EPSILON, normalize_waveform
from kdcompress_export.importers.original import Original, look_like, to_log_probs
from kdcompress_export.importers.proof import compare_with_origin, proof_inputs
from kdcompress_export.importers.provenance import origin
from kdcompress_export.importers.reading import read_facts
from kdcompress_export.inputs import inputs_for
from kdcompress_export.prove import FLOAT
from kdcompress_export.source import Source
from kdcompress_export.streams import speech_like_noise
from kdcompress_runtime.bundle import BundleMetadata, InputSpec
from kdcompress_runtime.errors import ModelError
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from kdcompress.teachers.features import Recipe
    from kdcompress_export.importers.reading import Facts

DEFAULT_ATOL = 1e-2
"""Largest difference of a log-probability. The graph computes features in float32, the judge in float64: near-silent
bins differ by up to 1e-3 before the model, and a model may stretch that; a shift by one sample differs by far more."""
FEATURE_ATOL = 1e-4
"""Largest mean difference of a log-mel feature."""
_PCM = "pcm"
_FEATURE_SECONDS = 5.0
_LONGEST = {True: 1 << 17, False: 1 << 11}  # samples, feature frames: some seconds
_MOST_BYTES = 2**31 - 1


@dataclass(frozen=True)
class _Foreign:
    """A file, and what is known of it."""

    file: Path
    facts: Facts
    original: Original
    recipe: Recipe | None
    """None: it hears samples."""


def import_onnx(
    file: Path,
    description: OnnxDescription | None = None,
    *,
    calibration: Path | None = None,
    dev: Path | None = None,
    atol: float = DEFAULT_ATOL,
    say: Callable[[str], None] = lambda _: None,
) -> Source:
    """Read a CTC model of whole recordings: NeMo, WeNet, icefall, or any that takes log-mel features or samples.

    What the graph, its ``metadata_props`` and ``tokens.txt`` beside it tell is read; the rest must be said. Data that
    the file keeps beside it is brought in.

    Args:
        file: ONNX, float32, batch and time dynamic.
        description: what the file does not tell.
        calibration: manifest for int8 ranges.
        dev: manifest for the proof.
        atol: allowed difference of log-probabilities between the graph and the original.
        say: called with one line at every stage.

    Raises:
        MissingFieldsError: naming every field that must be said.
        ForeignModelError: the file is damaged, or is not what was said.
        UnsupportedModelError: a streaming model, a quantized one, or operators beyond ONNX.
        GraphError: the graph is not what was asked for.
        ParityError: it differs from the original on separately computed features by more than ``atol``.
        ManifestError, AudioError: data cannot be read.
    """
    say(f"Reading {file}")
    model = surgery.load_graph(file)
    facts = read_facts(file, model, description or OnnxDescription())
    if model.ByteSize() > _MOST_BYTES:
        raise UnsupportedModelError(f"{file} is larger than 2 GB, the most that one ONNX file can hold")
    original = Original(model.SerializeToString(), facts.signature, str(file))
    recipe = facts.recipe()
    facts, size = _measure(file, facts, original, recipe)
    foreign = _Foreign(file, facts, original, recipe)
    vocabulary = facts.vocabulary(size)
    converted = surgery.to_opset(model, str(file))
    metadata = _describe(foreign, vocabulary.blank_id, surgery.count_parameters(model.graph))
    say("Putting the features into the graph")
    content = surgery.finish(_wrap(converted, facts, recipe), metadata, size)
    details = {"fields": _fields(facts), "properties": facts.properties}
    provenance = origin("onnx", file, [file], **details)
    source = Source(content, metadata, vocabulary, {}, provenance, calibration, dev)
    say("Comparing float32 with the original")
    recordings = proof_inputs(calibration, dev, inputs_for(metadata.input))
    source.parity.update(_prove(source, foreign, atol, recordings))
    return source


def _measure(file: Path, facts: Facts, original: Original, recipe: Recipe | None) -> tuple[Facts, int]:
    """Run the original on speech-like noise: see what it answers and how it subsamples; compare with what was said."""
    said = facts.description
    waveform, rate = recipe is None, said.sample_rate or 16000
    noise = speech_like_noise(2.0, rate, seed=0)[None]
    scores = original.run(_prepared(facts, recipe, noise))
    seen = look_like(scores)
    kind = said.scores or ("log_probs" if seen == "log_probs" else None)
    if kind is None and seen == "probabilities":
        raise missing_fields(file, ["scores"])
    if kind in {"log_probs", "probabilities"} and seen != kind:
        raise ForeignModelError(
            f"{file}: {facts.signature.output} was taken for {kind}, but its rows do not sum to one"
        )
    width = 0 if waveform else said.num_mel_bins or 0
    factor = original.subsampling(width, _LONGEST[waveform])
    if said.subsampling_factor not in {None, factor}:
        unit = "samples" if waveform else "feature frames"
        raise ForeignModelError(
            f"{file} gives an output frame for every {factor} {unit}, but subsampling_factor is said to be "
            f"{said.subsampling_factor}"
        )
    complete = replace(said, scores=kind or "logits", subsampling_factor=factor)
    return replace(facts, description=complete), scores.shape[2]


def _prepared(facts: Facts, recipe: Recipe | None, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the original is fed for samples ``(N, n)``, computed without the graph."""
    if recipe is not None:
        return compute(recipe, samples)
    if facts.description.normalize == "none":
        return samples
    rows = samples.astype(np.float64)
    centred = rows - rows.mean(axis=1, keepdims=True)
    found: NDArray[np.float32] = (centred / np.sqrt(rows.var(axis=1, keepdims=True) + EPSILON)).astype(np.float32)
    return found


def _describe(foreign: _Foreign, blank_id: int, parameters: int) -> BundleMetadata:
    facts, recipe = foreign.facts, foreign.recipe
    said, waveform = facts.description, recipe is None
    factor, rate = said.subsampling_factor or 1, said.sample_rate or 16000
    least = foreign.original.first_length(1, 0 if waveform else said.num_mel_bins or 0, _LONGEST[waveform])
    if recipe is not None:
        # A deviation needs two frames.
        least = recipe.samples(least if recipe.normalize == "none" else max(2, least))
    shift = factor * (recipe.hop if recipe else 1)
    return BundleMetadata(
        name=foreign.file.stem,
        task="speech",
        input=InputSpec(_PCM, _PCM, shift, rate, least),
        states=(),
        frame_shift_ms=1000.0 * shift / rate,
        subsampling_factor=1 if waveform else factor,
        lookahead_frames=0,
        chunk_frames=1,
        models=(),
        default_precision=FLOAT,
        parameters=parameters,
        blank_id=blank_id,
        streaming=False,
        frontend=_frontend(facts, recipe),
    )


def _frontend(facts: Facts, recipe: Recipe | None) -> dict[str, Any]:
    """As ``bundle.json`` tells it; ``log_mel`` is said of features that our own students hear, too."""
    if recipe is None:
        rate, normalize = facts.description.sample_rate, facts.description.normalize
        return {"kind": "waveform", "sample_rate": rate, "normalize": normalize}
    own = recipe.kind == "kaldi" and not recipe.snip_edges
    return {
        **recipe.mel.model_dump(mode="json"),
        "kind": "log_mel" if own else recipe.kind,
        "normalize": recipe.normalize,
        "snip_edges": recipe.snip_edges,
        "late_features": 0,
    }


def _wrap(model: ModelProto, facts: Facts, recipe: Recipe | None) -> ModelProto:
    """Put features and lengths in front and log-probabilities behind, in place."""
    graph, signature = model.graph, facts.signature
    surgery.free_names(graph, {name for name in (_PCM, "log_probs") if name not in {signature.input, signature.output}})
    names = {signature.input: "foreign_input", signature.output: "foreign_scores"}
    if signature.lengths:
        names[signature.lengths] = "foreign_lengths"
    surgery.rename(graph, names)
    surgery.lift_constants(graph)
    surgery.append_scores(graph, "foreign_scores", facts.description.scores or "logits")
    build = Builder()
    if recipe is not None:
        features = log_mel(build, _PCM, recipe)
        perm = [0, 2, 1] if signature.layout == "NFT" else [0, 1, 2]
        build.op("Transpose", features, output="foreign_input", perm=perm)
        counted = features
    else:
        counted, heard = _PCM, _PCM if facts.description.normalize == "none" else "normalized_pcm"
        if signature.channel:
            build.op("Unsqueeze", heard, build.integers(1), output="foreign_input")
        else:
            build.op("Identity", heard, output="foreign_input")
    if signature.lengths:
        dtype = {"int32": 6, "int64": 7}[signature.lengths_dtype]
        frame_counts(build, counted, 1, dtype, "foreign_lengths")
    surgery.prepend(graph, build.nodes, build.tensors)
    if recipe is None and facts.description.normalize != "none":
        normalize_waveform(graph, _PCM, "normalized_pcm")
    surgery.drop_identities(graph)
    surgery.name_weights(graph)
    return model


def _prove(source: Source, foreign: _Foreign, atol: float, recordings: list[NDArray[np.float32]]) -> dict[str, Any]:
    kind, rate = foreign.facts.description.scores or "logits", source.metadata.input.sample_rate or 16000
    proof: dict[str, Any] = {}
    if foreign.recipe is not None:
        noise = speech_like_noise(_FEATURE_SECONDS, rate, seed=1)[None]
        proof["features"] = compare_features(foreign.recipe, noise, *recordings[:1])

    def expected(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return to_log_probs(foreign.original.run_each(_prepared(foreign.facts, foreign.recipe, samples)), kind)

    origin_name = f"{foreign.file.name} on separately computed features"
    try:
        compared = compare_with_origin(source.load(), expected, origin=origin_name, atol=atol, recordings=recordings)
    except ModelError as error:
        raise GraphError(
            f"{foreign.file}: the graph fails where the original runs ({error}); most likely it takes one recording "
            "at a time, or one length only, inside: export it with dynamic axes"
        ) from error
    return {**compared, **proof}


def compare_features(recipe: Recipe, *recordings: NDArray[np.float32]) -> dict[str, float]:
    """Run the frontend alone and compare its features with those computed separately.

    Raises:
        ParityError: the mean difference is above ``FEATURE_ATOL``.
    """
    session = InferenceSession(frontend_model(recipe).SerializeToString(), SessionOptions().build())
    differences = []
    for samples in recordings:
        rows = np.ascontiguousarray(samples.reshape(1, -1))
        if rows.shape[1] >= recipe.samples(2):
            differences.append(np.abs(session.run(None, {_PCM: rows})[0] - compute(recipe, rows)).ravel())
    difference = np.concatenate(differences)
    found = {"max_abs_diff": float(difference.max()), "mean_abs_diff": float(difference.mean())}
    if not found["mean_abs_diff"] <= FEATURE_ATOL:
        raise ParityError(f"features in the graph differ by {found} from those computed separately")
    return found


def _fields(facts: Facts) -> dict[str, Any]:
    values = vars(facts.description)
    return {name: str(value) if name == "tokens" else value for name, value in values.items() if value is not None}
