"""``sherpa-onnx``: a folder whose models sherpa-onnx runs unchanged, offline and streaming.

``offline.onnx`` is an offline ``zipformer_ctc``, ``streaming.onnx`` a streaming ``zipformer2_ctc``; smaller precisions
have their name before the suffix. ``sherpa-onnx.json`` says what a user must pass, and what was proven.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from kdcompress_export.errors import TargetError
from kdcompress_export.prove import FLOAT
from kdcompress_export.signature import METADATA_KEY, geometry
from kdcompress_export.targets.retarget import TARGET_KEY
from kdcompress_export.targets.sherpa_checks import check_folder
from kdcompress_export.targets.sherpa_document import DOCUMENT, FORMAT_VERSION, NAME, check_bundle, file_names
from kdcompress_export.targets.sherpa_layout import DECODE_CHUNK, FRAMES_FED, lay_out
from kdcompress_export.targets.sherpa_proof import agreement, probe_features, prove
from kdcompress_export.targets.sherpa_sessions import OfflineGraph
from kdcompress_runtime.bundle import TOKENS_FILE, sha256
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.model import CtcModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kdcompress_export.targets.sherpa_layout import Layout
    from kdcompress_export.verify import Check
    from kdcompress_runtime.bundle import Bundle

__all__ = ["DOCUMENT", "NAME", "files", "verify"]


def files(
    bundle: Bundle, *, precisions: Sequence[str] | None = None, chunk_frames: int | None = None
) -> dict[str, bytes]:
    """Make the files of the folder, ``sherpa-onnx.json`` first.

    Args:
        bundle: a finished bundle of a streaming speech student with a log_mel frontend.
        precisions: models to take; all of the bundle when left out.
        chunk_frames: frames of 40 ms that the streaming model answers at a time; the bundle's when left out.

    Raises:
        BundleError: a file is missing or damaged, or a precision is not there.
        TargetError: sherpa-onnx cannot run such a model; the message says why.
        ParityError: a graph does not compute what the bundle computes.
        OptionsError: ``chunk_frames`` is below 1.
    """
    check_bundle(bundle)
    metadata = bundle.metadata
    chunk = metadata.chunk_frames if chunk_frames is None else chunk_frames
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise OptionsError(f"chunk_frames must be an integer of at least 1, found {chunk!r}")
    chosen = [metadata.model_file(name) for name in precisions or [model.precision for model in metadata.models]]
    contents, proof, layouts = {TOKENS_FILE: bundle.vocabulary.dumps().encode()}, {}, []
    for model in chosen:
        names = file_names(model.precision)
        offline, streaming, frontend, layout = _graphs(bundle, model.precision, chunk)
        loaded = CtcModel.from_bundle(bundle, model.precision)
        proof[model.precision] = asdict(prove(model.precision, offline, streaming, frontend, loaded))
        contents |= {names["offline"]: offline, names["streaming"]: streaming}
        layouts.append(layout)
    _prove_small(bundle, contents, proof)
    document = _document(bundle, contents, layouts[0], proof)
    return {DOCUMENT: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(), **contents}


def verify(folder: Path) -> list[Check]:
    """Repeat the proof on this machine: hashes, metadata, streaming against offline, small against float32.

    Needs neither torch nor onnx nor the bundle.

    Args:
        folder: folder or ``.zip``.

    Raises:
        BundleError: there is no such folder, or its ``sherpa-onnx.json`` cannot be read.
    """
    return check_folder(folder)


def _graphs(bundle: Bundle, precision: str, chunk_frames: int) -> tuple[bytes, bytes, bytes, Layout]:
    """Offline graph, streaming graph, frontend, and the streaming graph's layout."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from kdcompress_export.targets.sherpa_encoder import cut, frontend
    from kdcompress_export.targets.sherpa_graphs import offline_graph, streaming_graph

    metadata, tokens = bundle.metadata, len(bundle.vocabulary)
    name = metadata.model_file(precision).file
    try:
        model = onnx.load_from_string(bundle.read(name))
    except DecodeError as error:
        raise TargetError(f"{bundle.path}/{name} is no ONNX file; give a bundle for onnxruntime") from error
    encoder = cut(model, metadata)
    layout = lay_out(
        encoder.states,
        chunk_frames=chunk_frames,
        lookahead_frames=metadata.lookahead_frames,
        feature_dim=int(metadata.frontend["num_mel_bins"]),
    )
    offline, streaming = offline_graph(encoder, metadata, tokens), streaming_graph(encoder, layout, tokens)
    common = {METADATA_KEY: json.dumps(geometry(metadata, precision), ensure_ascii=False, sort_keys=True)}
    # The version of these layouts in sherpa-onnx; it prints the author, and reads nothing of the three.
    common |= {"model_type": "zipformer2_ctc", "version": "1", "model_author": f"kdcompress {version('kdcompress')}"}
    onnx.helper.set_model_props(offline, common)
    onnx.helper.set_model_props(streaming, common | layout.properties)
    made = [one.SerializeToString() for one in (offline, streaming, frontend(model, metadata))]
    return made[0], made[1], made[2], layout


def _prove_small(bundle: Bundle, contents: Mapping[str, bytes], proof: dict[str, dict[str, Any]]) -> None:
    """Record how far every precision agrees with float32 on the probe, for ``verify`` to find again."""
    if FLOAT not in proof:
        return
    features = probe_features(bundle.metadata.input.sample_rate or 16000, int(bundle.metadata.frontend["num_mel_bins"]))
    found = {name: OfflineGraph(contents[file_names(name)["offline"]]).log_probs(features) for name in proof}
    for name in proof.keys() - {FLOAT}:
        proof[name]["against_float32"] = asdict(agreement(found[FLOAT], found[name]))


def _document(
    bundle: Bundle, contents: Mapping[str, bytes], layout: Layout, proof: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``sherpa-onnx.json``."""
    metadata = bundle.metadata
    default = metadata.default_precision if metadata.default_precision in proof else next(iter(proof))
    return {
        TARGET_KEY: NAME,
        "format_version": FORMAT_VERSION,
        "name": metadata.name,
        "sample_rate": metadata.input.sample_rate,
        "feature_dim": layout.feature_dim,
        "models": {precision: file_names(precision) for precision in proof},
        "default_precision": default,
        "streaming": {
            "chunk_frames": layout.chunk_frames,
            "lookahead_frames": layout.lookahead_frames,
            "frame_shift_ms": metadata.frame_shift_ms,
            "features_fed": layout.metadata[FRAMES_FED],
            "features_advanced": layout.metadata[DECODE_CHUNK],
            "tail_padding_seconds": layout.metadata[FRAMES_FED] / 100,
        },
        "vocabulary": {"size": len(bundle.vocabulary), "blank_id": bundle.vocabulary.blank_id},
        "proof": dict(proof),
        "made_from": {model.file: metadata.files[model.file] for model in metadata.models if model.precision in proof},
        "provenance": {**metadata.provenance, TARGET_KEY: NAME},
        "files": {name: sha256(content) for name, content in contents.items()},
    }
