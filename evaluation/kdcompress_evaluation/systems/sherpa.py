"""CTC models of sherpa-onnx, in its own wheel: our ``--target sherpa-onnx``, icefall, WeNet, NeMo, T-one...

Streaming models run as its ``OnlineRecognizer``, others as its ``OfflineRecognizer``; which they are stands in the
metadata of the ONNX file. The wheel ends the process on a model that it cannot read, so it is loaded in a worker.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_evaluation.onnx_file import read_onnx
from kdcompress_evaluation.systems.base import Item, Recognised, Word, no_stream
from kdcompress_evaluation.systems.files import choose, hash_file, precision_of
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_runtime.errors import BundleError, MissingDependencyError, OptionsError
from kdcompress_runtime.result import split_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from kdcompress_evaluation.decoding import Decoding
    from kdcompress_evaluation.onnx_file import OnnxFile

TOKENS, DOCUMENT = "tokens.txt", "sherpa-onnx.json"
"""The document is that of our own export; other folders have none."""
_FEATURE_MS = 10.0
_FRAME_SECONDS = 0.04
"""What sherpa-onnx takes for a frame of every model; the end of a word's last token, of which it tells the begin."""
_TAIL_SECONDS = 0.66
"""Silence behind a recording, without which a streaming model keeps its last word: as sherpa-onnx's own examples."""
_NEMO = ("EncDecCTCModelBPE", "EncDecCTCModel", "EncDecHybridRNNTCTCBPEModel")
_OFFLINE = {
    "zipformer2_ctc": "from_zipformer_ctc",
    "wenet_ctc": "from_wenet_ctc",
    "telespeech_ctc": "from_telespeech_ctc",
    "tdnn": "from_tdnn_ctc",
    "tdnn_lstm": "from_tdnn_ctc",
    **dict.fromkeys(_NEMO, "from_nemo_ctc"),
}
_ONLINE = {
    "zipformer2_ctc": "from_zipformer2_ctc",
    "wenet_ctc": "from_wenet_ctc",
    "t-one": "from_t_one_ctc",
    **dict.fromkeys(_NEMO, "from_nemo_ctc"),
}
"""Constructor in the wheel by the model type that the ONNX file states."""
_WENET_CHUNK = 16
"""Frames of a chunk that the wheel gives WeNet's models, unless told otherwise."""


@dataclass(frozen=True)
class _Model:
    """One ONNX file."""

    file: str
    outside: OnnxFile
    chunk_ms: float | None
    sample_rate: int
    feature_dim: int

    @property
    def constructor(self) -> str | None:
        """Name of the function of the wheel that opens it."""
        table = _OFFLINE if self.chunk_ms is None else _ONLINE
        return table.get(self.outside.metadata.get("model_type", ""))


def matches(path: Path) -> bool:
    """Whether a folder or ``.zip`` holds ``tokens.txt`` and ONNX files."""
    if path.is_dir():
        return (path / TOKENS).is_file() and any(path.glob("*.onnx"))
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name).name for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return False
    return TOKENS in names and any(name.endswith(".onnx") for name in names)


def describe(path: Path, precisions: str) -> list[VariantInfo]:
    """List the models of a folder by precision: those that stream; the others where none does, or by name.

    Our own export holds every model twice. What takes whole recordings is then called ``offline-float32``.

    Raises:
        MissingDependencyError: the wheel is not installed.
        BundleError: no model that the wheel opens, or no such precision.
        ModelError: a file is no ONNX file.
    """
    engine = f"sherpa-onnx {_wheel_version()}"
    with _unpacked(path) as folder:
        document = _document(folder)
        models = [_look(folder, file.name, document) for file in sorted(folder.glob("*.onnx"))]
        known = [model for model in models if model.constructor is not None]
        if not known:
            found = ", ".join(f"{m.file}: {m.outside.metadata.get('model_type') or 'none'}" for m in models)
            raise BundleError(
                f"{path}: no model type of CTC that sherpa-onnx {_wheel_version()} opens ({found}); it knows "
                f"{', '.join(sorted({*_OFFLINE, *_ONLINE}))}"
            )
        named = _by_precision(known)
        first = [name for name in named if not name.startswith("offline-")] or list(named)
        default = document.get("default_precision", "float32")
        wanted = precisions if precisions != "default" or default in first else first[0]
        files = {name: model.file for name, model in named.items()}
        chosen = sorted(first) if wanted == "all" else choose(path, files, wanted, default)
        name = str(document.get("name") or path.resolve().stem)
        told: dict[str, Any] = {"document": document, "engine": engine}
        return [_describe(path, folder, name=name, key=key, model=named[key], **told) for key in chosen]


def load(info: VariantInfo, decoding: Decoding) -> SherpaSystem:
    """Load a model with one thread.

    Raises:
        MissingDependencyError: the wheel is not installed.
        OptionsError: another decoder than greedy is asked for.
    """
    if decoding.options is not None and decoding.options.kind != "greedy":
        raise OptionsError(f"{info.bundle_path}: sherpa-onnx models are decoded greedily here; leave the decoder out")
    wheel = _wheel()
    with _unpacked(Path(info.bundle_path)) as folder:
        document = _document(folder)
        model = _look(folder, info.model_file, document)
        table = wheel.OfflineRecognizer if model.chunk_ms is None else wheel.OnlineRecognizer
        more = {} if model.chunk_ms is None else {"enable_endpoint_detection": True}
        recognizer = getattr(table, model.constructor or "")(
            model=str(folder / model.file),
            tokens=str(folder / TOKENS),
            num_threads=1,
            sample_rate=model.sample_rate,
            feature_dim=model.feature_dim,
            **more,
        )
    tail = float(document.get("streaming", {}).get("tail_padding_seconds", _TAIL_SECONDS))
    return SherpaSystem(recognizer, model.sample_rate, model.chunk_ms, tail)


class SherpaSystem:
    """A recogniser of the wheel as a system under test."""

    input_kind = "audio"

    def __init__(self, recognizer: Any, sample_rate: int, chunk_ms: float | None, tail_seconds: float) -> None:  # noqa: ANN401
        self.recognizer, self.sample_rate, self.form = recognizer, sample_rate, sample_rate
        self.chunk_seconds = None if chunk_ms is None else chunk_ms / 1000
        self._tail = np.zeros(round(tail_seconds * sample_rate), dtype=np.float32)

    def recognize(self, item: Item) -> Recognised:
        """See ``System``; a streaming model takes the recording in one piece."""
        samples, rate = item.audio(self.sample_rate)
        if self.chunk_seconds is not None:
            stream = self.open_stream()
            stream.accept(samples)
            return stream.finish()
        offline = self.recognizer.create_stream()
        offline.accept_waveform(rate, samples)
        self.recognizer.decode_stream(offline)
        return _recognised(offline.result)

    def open_stream(self, *, endpoints: bool = False) -> SherpaStream:
        """See ``System``; the endpoint rules are the wheel's own."""
        if self.chunk_seconds is None:
            raise OptionsError(no_stream())
        return SherpaStream(self.recognizer, self.sample_rate or 0, self._tail, endpoints=endpoints)


class SherpaStream:
    """An online stream of the wheel."""

    def __init__(self, recognizer: Any, rate: int, tail: NDArray[np.float32], *, endpoints: bool) -> None:  # noqa: ANN401
        self._recognizer, self._rate, self._tail, self._endpoints = recognizer, rate, tail, endpoints
        self._stream = recognizer.create_stream()
        self._fed = 0

    def accept(self, samples: NDArray[np.float32]) -> None:
        """See ``LiveStream``."""
        self._stream.accept_waveform(self._rate, samples)
        self._fed += len(samples)
        self._decode()

    def partial(self) -> str:
        """See ``LiveStream``."""
        return str(self._recognizer.get_result(self._stream)).strip()

    def finish(self) -> Recognised:
        """See ``LiveStream``."""
        self._stream.accept_waveform(self._rate, self._tail)
        self._stream.input_finished()
        self._decode()
        return _recognised(self._recognizer.get_result_all(self._stream))

    def endpoint(self) -> float | None:
        """See ``LiveStream``; the wheel does not say where, so it is where this was asked."""
        if not self._endpoints or not self._recognizer.is_endpoint(self._stream):
            return None
        if self.partial():
            return self._fed / self._rate
        self._recognizer.reset(self._stream)
        return None

    def _decode(self) -> None:
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode_stream(self._stream)


def _recognised(result: Any) -> Recognised:  # noqa: ANN401 - a class of the wheel
    tokens, times = list(result.tokens), list(result.timestamps)
    words: tuple[Word, ...] = ()
    if len(times) == len(tokens):
        words = tuple(
            Word(text, times[rows[0]], times[rows[-1]] + _FRAME_SECONDS) for text, rows in split_words(tokens)
        )
    return Recognised(str(result.text).strip(), None, words)


def _by_precision(models: list[_Model]) -> dict[str, _Model]:
    """By precision, streaming models first; ``offline-`` before the others where both are there."""
    streams = [model for model in models if model.chunk_ms is not None]
    named: dict[str, _Model] = {}
    for model in [*streams, *(model for model in models if model.chunk_ms is None)]:
        key = precision_of(model.file)
        if model.chunk_ms is None and streams:
            key = f"offline-{key}"
        named.setdefault(key, model)
    return named


def _look(folder: Path, file: str, document: dict[str, Any]) -> _Model:
    outside = read_onnx(folder / file)
    rate = document.get("sample_rate") or outside.metadata.get("sample_rate") or 16000
    kind = outside.metadata.get("model_type", "")
    small = kind.startswith("tdnn")
    dim = document.get("feature_dim") or outside.metadata.get("feature_dim") or (23 if small else 80)
    if small and not document:
        rate = outside.metadata.get("sample_rate") or 8000
    return _Model(file, outside, _chunk_ms(outside.metadata), int(rate), int(dim))


def _chunk_ms(metadata: dict[str, str]) -> float | None:
    """Milliseconds of a chunk, by what each family of streaming models states; ``None``: it does not stream."""
    if "decode_chunk_len" in metadata:
        return float(metadata["decode_chunk_len"]) * _FEATURE_MS
    if "chunk_shift" in metadata:
        return float(metadata["chunk_shift"]) * _FEATURE_MS
    if "frame_length_ms" in metadata:
        return float(metadata["frame_length_ms"])
    if metadata.get("model_type") == "wenet_ctc" and "right_context" in metadata:
        return _WENET_CHUNK * float(metadata["subsampling_factor"]) * _FEATURE_MS
    return None


def _describe(
    path: Path, folder: Path, *, name: str, key: str, model: _Model, document: dict[str, Any], engine: str
) -> VariantInfo:
    beside = [file for file in (TOKENS, DOCUMENT) if (folder / file).is_file()]
    hashes = {file: hash_file(folder / file) for file in [model.file, *beside]}
    stated = document.get("streaming", {}) if model.chunk_ms is not None else {}
    lookahead = stated.get("lookahead_frames")
    fed = {"rate": model.sample_rate, "features": model.feature_dim, "chunk": model.chunk_ms}
    fed["tail"] = stated.get("tail_padding_seconds", _TAIL_SECONDS)
    return VariantInfo(
        name=f"{name}-{key}",
        kind="sherpa-onnx",
        anchor=False,
        task="speech",
        input_kind="audio",
        bundle_name=name,
        bundle_path=str(path),
        precision=key.removeprefix("offline-"),
        engine=engine,
        format_version=None,
        files=dict(sorted(hashes.items())),
        model_file=model.file,
        model_sha256=hashes[model.file],
        tokens_sha256=hashes[TOKENS],
        geometry_sha256=hashlib.sha256(json.dumps(fed, sort_keys=True).encode()).hexdigest(),
        size_bytes=(folder / model.file).stat().st_size + (folder / TOKENS).stat().st_size,
        parameters=model.outside.parameters,
        sample_rate=model.sample_rate,
        lookahead_ms=None if lookahead is None else float(lookahead) * float(stated.get("frame_shift_ms", 40.0)),
        chunk_ms=model.chunk_ms,
        provenance=dict(
            document.get("provenance") or {"method": f"{model.outside.metadata['model_type']}, not stated"}
        ),
        measured={},
    )


def _document(folder: Path) -> dict[str, Any]:
    """Our own description, or nothing.

    Raises:
        BundleError: it is there and damaged.
    """
    file = folder / DOCUMENT
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read as JSON ({error}); export the folder again") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file}: expected a JSON object; export the folder again")
    return document


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """A folder with the models: the path itself, or what a ``.zip`` holds, gone again afterwards.

    Raises:
        BundleError: the zip cannot be read.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kdcompress-") as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    name = PurePosixPath(entry.filename).name  # flat: folders of the archive lead nowhere
                    if name in {TOKENS, DOCUMENT} or name.endswith((".onnx", ".onnx_data", ".data")):
                        with archive.open(entry) as source, (Path(temporary) / name).open("wb") as target:
                            while block := source.read(1 << 20):
                                target.write(block)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            raise BundleError(f"{path}: cannot be unpacked ({error}); export or copy it again") from error
        yield Path(temporary)


def _wheel() -> ModuleType:
    try:
        return importlib.import_module("sherpa_onnx")
    except ImportError as error:
        raise MissingDependencyError(
            f"sherpa-onnx models run in its wheel ({error}); install it with `pip install sherpa-onnx`"
        ) from error


def _wheel_version() -> str:
    try:
        return importlib.metadata.version("sherpa-onnx")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependencyError(
            "sherpa-onnx models run in its wheel; install it with `pip install sherpa-onnx`"
        ) from error
