"""Hugging Face ``*ForCTC`` models as optimum exports them, fed raw audio: onnxruntime and numpy alone."""

from __future__ import annotations

import hashlib
import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_evaluation.onnx_file import read_onnx
from kdcompress_evaluation.systems.base import Item, LiveStream, Recognised, no_stream
from kdcompress_evaluation.systems.files import choose, hash_file, precision_of
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_runtime.errors import BundleError, ForeignVocabularyError, ModelError, OptionsError
from kdcompress_runtime.hf_vocabulary import read_hf_vocabulary
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kdcompress_evaluation.decoding import Decoding

CONFIG, EXTRACTOR, VOCABULARY, TOKENIZER = (
    "config.json",
    "preprocessor_config.json",
    "vocab.json",
    "tokenizer_config.json",
)
_SETTINGS = (CONFIG, EXTRACTOR, VOCABULARY, TOKENIZER, "added_tokens.json", "special_tokens_map.json")
_NEEDED = (CONFIG, EXTRACTOR, VOCABULARY)
_RAW_AUDIO = "Wav2Vec2FeatureExtractor"
_EPSILON = 1e-7
"""What ``Wav2Vec2FeatureExtractor`` adds to the variance."""
_INPUT, _MASK = "input_values", "attention_mask"


def matches(path: Path) -> bool:
    """Whether it is a folder with a model's ``config.json``."""
    return path.is_dir() and (path / CONFIG).is_file()


def describe(path: Path, precisions: str) -> list[VariantInfo]:
    """List the ONNX files of the folder, float32 first.

    Raises:
        BundleError: not a raw-audio CTC model, not exported to ONNX, a file is missing or damaged, or no such
            precision.
    """
    config = _read(path / CONFIG)
    _check(path, config)
    models = {precision_of(file.name): file.name for file in sorted(path.glob("*.onnx"), reverse=True)}
    chosen = choose(path, models, precisions, default="float32")
    settings = {name: hash_file(path / name) for name in _SETTINGS if (path / name).is_file()}
    rate = int(_read(path / EXTRACTOR).get("sampling_rate", 16000))
    _Spelling.read(path)
    return [
        _describe(path, precision, models[precision], settings=settings, rate=rate, config=config)
        for precision in chosen
    ]


def load(info: VariantInfo, decoding: Decoding) -> HuggingFaceSystem:
    """Load a model; it is decoded greedily, as transformers' own pipeline does.

    Raises:
        ModelError, BundleError: it cannot be loaded.
        OptionsError: another decoder is asked for.
    """
    if decoding.options is not None and decoding.options.kind != "greedy":
        raise OptionsError(f"{info.bundle_path}: Hugging Face models are decoded greedily here; leave the decoder out")
    return HuggingFaceSystem(Path(info.bundle_path), info.model_file)


class HuggingFaceSystem:
    """A model that hears whole recordings."""

    input_kind = "audio"
    chunk_seconds: float | None = None

    def __init__(self, folder: Path, file: str) -> None:
        extractor = _read(folder / EXTRACTOR)
        self.sample_rate: int | None = int(extractor.get("sampling_rate", 16000))
        self.form = self.sample_rate
        self._normalise = bool(extractor.get("do_normalize", True))
        self._spelling = _Spelling.read(folder)
        try:
            self.session = onnxruntime.InferenceSession(
                str(folder / file), SessionOptions().build(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ModelError(f"{folder / file}: onnxruntime cannot load it ({error}); export it again") from error
        self._inputs = [value.name for value in self.session.get_inputs()]
        if _INPUT not in self._inputs or set(self._inputs) - {_INPUT, _MASK}:
            raise ModelError(f"{folder / file}: takes {', '.join(self._inputs)}, expected {_INPUT}; export it again")

    def recognize(self, item: Item) -> Recognised:
        """See ``System``."""
        samples, _ = item.audio(self.sample_rate)
        fed = {_INPUT: self.prepare(samples)[None], _MASK: np.ones((1, len(samples)), dtype=np.int64)}
        logits = self.session.run(["logits"], {name: fed[name] for name in self._inputs})[0][0]
        ids = logits.argmax(axis=-1)
        peak = logits.max(axis=-1)
        totals = np.log(np.exp(logits - peak[:, None]).sum(axis=-1))
        return Recognised(self._spelling.text(ids.tolist()), -float(totals.sum()))

    def prepare(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples as the model wants them, float32, shape ``(n,)``."""
        if not self._normalise:
            return samples
        scaled = (samples - samples.mean()) / np.sqrt(samples.var() + _EPSILON)
        return np.asarray(scaled, dtype=np.float32)

    def open_stream(self, *, endpoints: bool = False) -> LiveStream:  # noqa: ARG002 - there is no stream
        """See ``System``."""
        raise OptionsError(no_stream())


class _Spelling:
    """From ids to text, as ``Wav2Vec2CTCTokenizer`` does it."""

    def __init__(self, symbols: dict[int, str], blank: str, delimiter: str | None, *, lower: bool) -> None:
        self._symbols, self._blank, self._delimiter, self._lower = symbols, blank, delimiter, lower

    @classmethod
    def read(cls, folder: Path) -> _Spelling:
        """Read the tables of a folder.

        Raises:
            BundleError: missing, damaged, or of several languages.
        """
        try:
            read = read_hf_vocabulary(folder)
        except ForeignVocabularyError as error:
            raise BundleError(str(error)) from error
        return cls(dict(read.symbols), read.blank, read.delimiter, lower=read.lower)

    def text(self, ids: list[int]) -> str:
        """Spell one best id a frame.

        Raises:
            ModelError: the model answers an id that the tables do not have.
        """
        if not ids:
            return ""
        try:
            spelled = [self._symbols[index] for index, _ in groupby(ids)]
        except KeyError as error:
            raise ModelError(f"the model answers the id {error}, which {VOCABULARY} does not have") from error
        # As transformers does it, runs are those of symbols, and a word delimiter may be any symbol.
        kept = [symbol for symbol, _ in groupby(spelled) if symbol != self._blank]
        text = "".join(" " if symbol == self._delimiter else symbol for symbol in kept).strip()
        return text.lower() if self._lower else text


def _check(path: Path, config: dict[str, Any]) -> None:
    """Refuse what is not a raw-audio CTC model in ONNX, with the way there is."""
    remedy = f"make a bundle of it: `kdcompress export --hf {path} -o BUNDLE`"
    named = config.get("architectures") or []
    if not any(isinstance(name, str) and name.endswith("ForCTC") for name in named):
        raise BundleError(f"{path} holds {named or 'no named architecture'}, not a *ForCTC model")
    extractor = _read(path / EXTRACTOR) if (path / EXTRACTOR).is_file() else {}
    kind = extractor.get("feature_extractor_type", _RAW_AUDIO)
    if kind != _RAW_AUDIO or extractor.get("feature_size", 1) != 1:
        raise BundleError(
            f"{path / EXTRACTOR} names {kind}: the model is fed features, which are not made here; {remedy}"
        )
    if not any(path.glob("*.onnx")):
        raise BundleError(f"{path}: no ONNX file; {remedy}")
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if missing:
        raise BundleError(f"{path}: no {' and no '.join(missing)}; export it with its tokenizer, or {remedy}")


def _describe(
    path: Path, precision: str, file: str, *, settings: dict[str, str], rate: int, config: dict[str, Any]
) -> VariantInfo:
    model = path / file
    weights = [one for one in (model, *path.glob(f"{file}_data"), *path.glob(f"{file}.data")) if one.is_file()]
    hashes = {one.name: hash_file(one) for one in weights}
    name = path.resolve().name
    versions = {"transformers": config.get("transformers_version")}
    return VariantInfo(
        name=f"{name}-{precision}",
        kind="huggingface",
        anchor=False,
        task="speech",
        input_kind="audio",
        bundle_name=name,
        bundle_path=str(path),
        precision=precision,
        engine=f"onnxruntime {onnxruntime.__version__}",
        format_version=None,
        files=dict(sorted({**hashes, **settings}.items())),
        model_file=file,
        model_sha256=hashlib.sha256("".join(hashes.values()).encode()).hexdigest() if len(hashes) > 1 else hashes[file],
        tokens_sha256=settings[VOCABULARY],
        geometry_sha256=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        size_bytes=sum(one.stat().st_size for one in [*weights, *(path / needed for needed in _NEEDED)]),
        parameters=read_onnx(model).parameters,
        sample_rate=rate,
        lookahead_ms=None,
        chunk_ms=None,
        provenance={"method": f"{(config.get('architectures') or ['?'])[0]} of Hugging Face", "versions": versions},
        measured={},
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{file.parent}: no {file.name}; export it with its tokenizer") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read as JSON ({error}); save the model again") from error
    if not isinstance(row, dict):
        raise BundleError(f"{file}: expected a JSON object; save the model again")
    return row
