"""The engines of ``bench_decoder.py``: from log-probabilities (T, C) to text."""

from __future__ import annotations

import functools
import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime import DecoderOptions, Vocabulary, build_decoder
from kdcompress_runtime.decoders.native import library
from kdcompress_runtime.lm import open_lm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.base import Decoder
    from kdcompress_runtime.lm import LanguageModel

SEPARATOR = "▁"
PRUNE, FLOOR = -10.0, -5.0
"""Beams and tokens below these are dropped, by every engine that can; pyctcdecode's defaults and ours."""
FLASHLIGHT_TOKENS = 16
"""Tokens that flashlight tries in a frame; it prunes them by number, not by probability."""


@dataclass(frozen=True)
class Task:
    """What to decode with."""

    vocabulary: Vocabulary
    beam: int
    lm: Path | None
    """ARPA file of a word model."""
    hotwords: tuple[str, ...]
    alpha: float
    beta: float
    hotword_weight: float
    """Nats a letter."""


@dataclass(frozen=True)
class Engine:
    """A decoder that is ready for one task."""

    decode: Callable[[NDArray[np.float32]], str]
    """Log-probabilities of a whole recording (T, C) to its text."""
    stream: Decoder[Any] | None = None
    """The same decoder to be fed chunk by chunk, where it can be."""


@functools.lru_cache(maxsize=2)
def language_model(arpa: Path) -> LanguageModel:
    """Read an ARPA file, once for all tasks."""
    return open_lm(arpa)


def _ours(task: Task, *, native: bool) -> Engine:
    """Our decoder, in C or in Python."""
    options = DecoderOptions(
        "beam",
        beam_width=task.beam,
        beam_prune_logp=PRUNE,
        token_min_logp=FLOOR,
        alpha=task.alpha,
        beta=task.beta,
        native=native,
    )
    lm = None if task.lm is None else language_model(task.lm)
    decoder = build_decoder(options, task.vocabulary, lm=lm)
    decoder = decoder.with_hotwords(dict.fromkeys(task.hotwords, task.hotword_weight))

    def decode(scores: NDArray[np.float32]) -> str:
        return task.vocabulary.text(decoder.best(decoder.advance(decoder.init_state(), scores)).token_ids)

    return Engine(decode, decoder)


def _pyctcdecode(task: Task) -> Engine | None:
    """As the library's documents say: its own builder, KenLM on the ARPA file, unigrams given."""
    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pyctcdecode import build_ctcdecoder
    except ImportError:
        return None
    labels = list(task.vocabulary.symbols)
    labels[task.vocabulary.blank_id] = ""
    if not any(label.startswith(SEPARATOR) and len(label) > 1 for label in labels):  # characters, not subwords
        labels = [" " if label == SEPARATOR else label for label in labels]
    weights = {"alpha": task.alpha, "beta": task.beta}
    lm = {} if task.lm is None else {"kenlm_model_path": str(task.lm), "unigrams": words_of(task.lm)}
    decoder = build_ctcdecoder(labels, **lm, **weights)
    options: dict[str, Any] = {"beam_width": task.beam, "beam_prune_logp": PRUNE, "token_min_logp": FLOOR}
    if task.hotwords:
        letters = sum(map(len, task.hotwords)) / len(task.hotwords)  # it counts words, we count letters
        options |= {"hotwords": list(task.hotwords), "hotword_weight": task.hotword_weight * letters}
    return Engine(lambda scores: str(decoder.decode(scores, **options)))


def _flashlight(task: Task) -> Engine | None:
    """The lexicon decoder with KenLM, the lexicon-free one without; characters only, no hotwords."""
    symbols = task.vocabulary.symbols
    if task.hotwords or SEPARATOR not in symbols or any(len(symbol) > 1 for symbol in symbols if symbol != "<blk>"):
        return None
    try:
        from flashlight.lib.text import decoder as flashlight
    except ImportError:
        return None
    shared = (min(FLASHLIGHT_TOKENS, len(symbols)), -PRUNE)
    silence, blank = symbols.index(SEPARATOR), task.vocabulary.blank_id
    if task.lm is None:
        free = flashlight.LexiconFreeDecoderOptions(task.beam, *shared, 0.0, 0.0, True, flashlight.CriterionType.CTC)
        plain = flashlight.LexiconFreeDecoder(free, flashlight.ZeroLM(), silence, blank, [])
        return Engine(lambda scores: task.vocabulary.text(_collapsed(_run(plain, scores).tokens, blank)))
    return _flashlight_lexicon(task, flashlight, shared, silence, blank)


def _flashlight_lexicon(task: Task, flashlight: Any, shared: tuple[int, float], silence: int, blank: int) -> Engine:  # noqa: ANN401
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    symbols = task.vocabulary.symbols
    words = [word for word in words_of(task.lm) if all(letter in symbols for letter in word)]
    dictionary = Dictionary()
    for word in [*words, "<unk>"]:
        dictionary.add_entry(word)
    lm = KenLM(str(task.lm), dictionary)
    start = lm.start(False)
    trie = flashlight.Trie(len(symbols), silence)
    for word in words:
        _, score = lm.score(start, dictionary.get_index(word))
        trie.insert([symbols.index(letter) for letter in (*word, SEPARATOR)], dictionary.get_index(word), score)
    trie.smear(flashlight.SmearingMode.MAX)
    options = flashlight.LexiconDecoderOptions(
        task.beam,
        *shared,
        task.alpha * math.log(10.0),  # its KenLM speaks in powers of ten
        task.beta,
        -math.inf,
        0.0,
        True,
        flashlight.CriterionType.CTC,
    )
    unknown = dictionary.get_index("<unk>")
    engine = flashlight.LexiconDecoder(options, trie, lm, silence, blank, unknown, [], False)
    end = np.full((1, len(symbols)), -30.0, np.float32)  # its words end in a separator, our recordings do not
    end[0, silence] = 0.0

    def decode(scores: NDArray[np.float32]) -> str:
        found = _run(engine, np.concatenate([scores, end])).words
        return " ".join(dictionary.get_entry(word) for word in found if word >= 0)

    return Engine(decode)


def _run(engine: Any, scores: NDArray[np.float32]) -> Any:  # noqa: ANN401 - of a library without types
    scores = np.ascontiguousarray(scores, np.float32)
    return engine.decode(scores.ctypes.data, *scores.shape)[0]


def _collapsed(labels: Sequence[int], blank: int) -> list[int]:
    kept = [label for label, before in zip(labels, [-1, *labels[:-1]], strict=True) if label != before]
    return [label for label in kept if label not in {blank, -1}]


def words_of(arpa: Path | None) -> list[str]:
    """Words of a language model, without its marks."""
    return [] if arpa is None else [word for word in language_model(arpa).words if not word.startswith("<")]


ENGINES: Mapping[str, Callable[[Task], Engine | None]] = {
    "native": lambda task: _ours(task, native=True) if library.is_there() else None,
    "python": lambda task: _ours(task, native=False),
    "pyctcdecode": _pyctcdecode,
    "flashlight": _flashlight,
}
"""By name; None for a task that an engine cannot do, or where its package is not installed."""
