"""Autoregressive translators of Hugging Face (MarianMT and its like) as optimum exports them, with key-value cache.

``python -m optimum.exporters.onnx --task text2text-generation-with-past`` writes an encoder, a decoder for the first
token and one for those that follow. onnxruntime, numpy and ``tokenizers`` run them, so that an autoregressive teacher
stands in the same report as its student: same items, same thread, same clock.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from kdcompress_evaluation.onnx_file import read_onnx
from kdcompress_evaluation.systems.base import Item, LiveStream, Recognised, no_stream
from kdcompress_evaluation.systems.files import choose, hash_file, precision_of
from kdcompress_evaluation.systems.generation import Settings, beam, greedy
from kdcompress_evaluation.tasks import TEXT, TRANSLATION
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_runtime.errors import BundleError, MissingDependencyError, ModelError, OptionsError
from kdcompress_runtime.model import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from kdcompress_evaluation.decoding import Decoding

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
ENCODER, FIRST, NEXT = "encoder_model", "decoder_model", "decoder_with_past_model"
"""Stems of the three graphs; what follows in the file's name tells the precision."""
BEAMS = 4
"""Of the beam, unless ``generation_config.json`` says more than one."""
_EXPORT = "export it: `python -m optimum.exporters.onnx -m {} --task text2text-generation-with-past FOLDER`"
_UNKNOWN = ("no_repeat_ngram_size", "repetition_penalty", "suppress_tokens", "forced_bos_token_id", "do_sample")
"""Settings of ``generate`` that would change the text and are not followed here."""
_NEUTRAL: tuple[Any, ...] = (None, 0, False, 1.0, [])


def matches(path: Path) -> bool:
    """Whether it is a folder with the ``config.json`` of an encoder with a decoder."""
    if not path.is_dir() or not (path / CONFIG).is_file():
        return False
    try:
        return bool(_read(path / CONFIG).get("is_encoder_decoder"))
    except BundleError:
        return False  # who reads configurations of CTC models says what is wrong


def describe(path: Path, precisions: str) -> list[VariantInfo]:
    """List each precision twice, greedy and with a beam.

    Raises:
        BundleError: not exported to ONNX with its cache, a file is missing or damaged, no such precision, or
            ``generate`` is to be run in a way that is not followed here.
    """
    config, generation = _read(path / CONFIG), _generation(path)
    suffixes = {precision_of(file.name): file.name.removeprefix(ENCODER) for file in path.glob(f"{ENCODER}*.onnx")}
    if not suffixes:
        raise BundleError(f"{path}: no {ENCODER}.onnx; {_EXPORT.format(path)}")
    if not (path / TOKENIZER).is_file():
        raise BundleError(
            f"{path}: no {TOKENIZER}; save it with a fast tokenizer (`AutoTokenizer.from_pretrained(...)"
            ".save_pretrained(FOLDER)`); SentencePiece files alone are not read"
        )
    _settings(path, config, generation)
    searches = (1, max(int(generation.get("num_beams") or 1), BEAMS))
    return [
        _describe(path, precision, suffixes[precision], config=config, beams=beams)
        for precision in choose(path, suffixes, precisions, default="float32")
        for beams in searches
    ]


def shipped(files: Iterable[str]) -> list[str]:
    """Names of the files that count as shipped.

    The two decoders hold the same weights, which ship once, as in optimum's merged decoder. An embedding that encoder
    and decoder share is in both graphs, and counts twice.
    """
    return [name for name in files if not name.startswith(NEXT)]


def load(info: VariantInfo, decoding: Decoding) -> Seq2SeqSystem:
    """Load a model; it searches as its variant says, whatever the decoder of the bundles.

    Raises:
        ModelError, BundleError: it cannot be loaded.
        MissingDependencyError: ``tokenizers`` is not installed.
        OptionsError: a language model is asked for.
    """
    if decoding.lm is not None:
        raise OptionsError(f"{info.bundle_path}: an autoregressive model takes no language model; leave it out")
    return Seq2SeqSystem(Path(info.bundle_path), info.model_file.removeprefix(ENCODER), int(info.options["beams"]))


class Seq2SeqSystem:
    """A model that writes one token after the other."""

    input_kind = TEXT
    sample_rate: int | None = None
    form: int | None = None
    chunk_seconds: float | None = None

    def __init__(self, folder: Path, suffix: str, beams: int) -> None:
        config, generation = _read(folder / CONFIG), _generation(folder)
        self._settings = _settings(folder, config, generation)
        self._limits = (generation.get("max_length"), config.get("max_position_embeddings"))
        self._tokenizer = _tokenizer(folder)
        self._beams = beams
        self._encoder, self._first, self._next = (_Graph(folder / f"{stem}{suffix}") for stem in (ENCODER, FIRST, NEXT))

    def recognize(self, item: Item) -> Recognised:
        """See ``System``."""
        ids = np.array([self._tokenizer.encode(item.value(None)).ids], dtype=np.int64)
        ids = ids[:, : self._limits[1]]
        mask = np.ones_like(ids)
        hidden = self._encoder.run({"input_ids": ids, "attention_mask": mask})["last_hidden_state"]
        decoder, limit = _Decoder(self._first, self._next, hidden, mask), self._limit(ids.shape[1])
        if self._beams == 1:
            found = greedy(decoder, self._settings, limit)
        else:
            found = beam(decoder, self._settings, limit, self._beams)
        return Recognised(self._tokenizer.decode(found.tokens, skip_special_tokens=True), found.log_prob)

    def open_stream(self, *, endpoints: bool = False) -> LiveStream:  # noqa: ARG002 - there is no stream
        """See ``System``."""
        raise OptionsError(no_stream())

    def _limit(self, source: int) -> int:
        """Most tokens of an output: what the model was saved with, else twice the source's and fifty."""
        stated, positions = self._limits
        wanted = int(stated) - 1 if stated else 2 * source + 50
        return min(wanted, int(positions) - 1) if positions else wanted


class _Graph:
    """A session, with the names of what goes in and comes out."""

    def __init__(self, file: Path) -> None:
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), SessionOptions().build(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise ModelError(f"{file}: onnxruntime cannot load it ({error}); export it again") from error
        self.inputs = frozenset(value.name for value in self._session.get_inputs())
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, fed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs by name; what the graph does not take is left out."""
        taken = {name: values for name, values in fed.items() if name in self.inputs}
        return dict(zip(self._outputs, self._session.run(None, taken), strict=True))


class _Decoder:
    """The two decoder graphs for one source, with their cache; see ``generation.Decoder``."""

    def __init__(self, first: _Graph, following: _Graph, hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> None:
        self._first, self._next = first, following
        self._source: dict[str, NDArray[Any]] = {"encoder_hidden_states": hidden, "encoder_attention_mask": mask}
        self._past: dict[str, NDArray[np.float32]] = {}

    def step(self, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        """See ``generation.Decoder``."""
        graph = self._next if self._past else self._first
        mask = self._source["encoder_attention_mask"]
        if len(tokens) != len(mask):
            self._source["encoder_attention_mask"] = mask[:1].repeat(len(tokens), axis=0)
        for name, values in self._past.items():
            if not _same(parents, len(values)):
                self._past[name] = values[parents]
        answers = graph.run({"input_ids": tokens[:, None], **self._source, **self._past})
        for name, values in answers.items():
            if name.startswith("present"):  # keys of the encoder come once, from the first graph, and stay
                self._past[name.replace("present", "past_key_values", 1)] = values
        logits: NDArray[np.float32] = answers["logits"][:, -1]
        return logits


def _same(parents: NDArray[np.int64], rows: int) -> bool:
    return len(parents) == rows and bool((parents == np.arange(rows)).all())


def _tokenizer(folder: Path) -> Any:  # noqa: ANN401 - a package that need not be there
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(f"{folder} needs the package tokenizers; run `pip install tokenizers`") from error
    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the package raises plain Exception
        raise BundleError(f"{folder / TOKENIZER}: cannot be read ({error}); save the tokenizer again") from error


def _generation(folder: Path) -> dict[str, Any]:
    return _read(folder / GENERATION) if (folder / GENERATION).is_file() else {}


def _settings(folder: Path, config: dict[str, Any], generation: dict[str, Any]) -> Settings:
    """How to search, by ``generation_config.json``, else by ``config.json``.

    Raises:
        BundleError: no first or last token is named, or a setting would change the text and is not followed here.
    """
    both = {**config, **generation}
    strange = [name for name in _UNKNOWN if both.get(name) not in _NEUTRAL]
    if strange or any(len(words) > 1 for words in both.get("bad_words_ids") or ()):
        named = ", ".join(strange) or "bad_words_ids of several tokens"
        raise BundleError(f"{folder}: {named} in {GENERATION} is not followed here; give its texts as a .jsonl instead")
    start, end = both.get("decoder_start_token_id"), both.get("eos_token_id")
    if start is None or end is None:
        raise BundleError(f"{folder / CONFIG}: names no decoder_start_token_id or no eos_token_id; save it again")
    return Settings(
        start=int(start),
        end=tuple(end) if isinstance(end, list) else (int(end),),
        forbidden=tuple(words[0] for words in both.get("bad_words_ids") or ()),
        forced_end=both.get("forced_eos_token_id"),
        length_penalty=float(both.get("length_penalty") or 1.0),
        early_stopping=both.get("early_stopping") is True,
    )


def _describe(path: Path, precision: str, suffix: str, *, config: dict[str, Any], beams: int) -> VariantInfo:
    graphs = [path / f"{stem}{suffix}" for stem in (ENCODER, FIRST, NEXT)]
    missing = [graph.name for graph in graphs if not graph.is_file()]
    if missing:
        raise BundleError(f"{path}: no {' and no '.join(missing)}; {_EXPORT.format(path)}")
    settings = [name for name in (CONFIG, GENERATION, TOKENIZER) if (path / name).is_file()]
    files = {name: hash_file(path / name) for name in [*(graph.name for graph in graphs), *settings]}
    rules = json.dumps([beams, *(files[name] for name in settings)])
    search = "greedy" if beams == 1 else f"beam{beams}"
    name = path.resolve().name
    return VariantInfo(
        name=f"{name}-{search}-{precision}",
        kind="seq2seq",
        anchor=False,
        task=TRANSLATION,
        input_kind=TEXT,
        bundle_name=name,
        bundle_path=str(path),
        precision=precision,
        engine=f"onnxruntime {onnxruntime.__version__}",
        format_version=None,
        files=dict(sorted(files.items())),
        model_file=graphs[0].name,
        model_sha256=hashlib.sha256("".join(files[graph.name] for graph in graphs).encode()).hexdigest(),
        tokens_sha256=files[TOKENIZER],
        geometry_sha256=hashlib.sha256(rules.encode()).hexdigest(),
        size_bytes=sum((path / name).stat().st_size for name in shipped(files)),
        parameters=read_onnx(graphs[0]).parameters + read_onnx(graphs[1]).parameters,
        sample_rate=None,
        lookahead_ms=None,
        chunk_ms=None,
        provenance={
            "method": f"{(config.get('architectures') or ['?'])[0]} of Hugging Face, autoregressive, "
            + ("greedy" if beams == 1 else f"{beams} beams"),
            "versions": {"transformers": config.get("transformers_version")},
        },
        measured={},
        options={"beams": beams},
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read as JSON ({error}); save the model again") from error
    if not isinstance(row, dict):
        raise BundleError(f"{file}: expected a JSON object; save the model again")
    return row
