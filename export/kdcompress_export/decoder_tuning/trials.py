"""Trying settings of a decoder on the dev set; every trial is kept, so that an interrupted search goes on."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from kdcompress_export.decoder_tuning.calibration import JudgedWords, right_words
from kdcompress_export.error_rates import Counted, ErrorRates, ItemErrors, combine, count_text_errors
from kdcompress_runtime.confidence import raw_confidence
from kdcompress_runtime.decoders import build_decoder
from kdcompress_runtime.result import split_words

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from kdcompress_export.decoder_tuning.dev_set import DevSet
    from kdcompress_runtime.decoders import DecoderOptions, Hypothesis
    from kdcompress_runtime.lm.base import LanguageModel
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Trial:
    """One setting and the errors it made."""

    options: DecoderOptions
    """The setting."""
    errors: ItemErrors
    """In every item of the dev set."""
    seconds: float
    """Time to decode the dev set; only told to people, never decided by."""
    counted: Counted = "words"
    """Errors of what decide."""

    @property
    def wrong(self) -> tuple[int, ...]:
        """Errors in each item, of what decides."""
        return self.errors.of(self.counted)

    @property
    def rank(self) -> tuple[int, int]:
        """Less is better: errors of what decides, then of the other."""
        other: Counted = "characters" if self.counted == "words" else "words"
        return sum(self.wrong), sum(self.errors.of(other))


@dataclass(frozen=True, eq=False)
class Trials:
    """The dev set, what decodes it, and every setting tried."""

    dev: DevSet
    """What is decoded."""
    vocabulary: Vocabulary
    """Spells the tokens."""
    lm: LanguageModel | None = None
    """Of the beam."""
    lexicon: Collection[str] | None = None
    """Of the beam."""
    origin: str = ""
    """Says which language model and lexicon these are."""
    work: Path | None = None
    """Folder that keeps the trials."""
    on_item: Callable[[int, int], None] | None = None
    """Called after each decoded item with how many are done and how many there are."""
    done: dict[DecoderOptions, Trial] = field(default_factory=dict)
    """By setting."""

    def run(self, options: DecoderOptions) -> Trial:
        """Try a setting, or return what it did before.

        Raises:
            OptionsError: the decoder cannot use the language model or the lexicon.
        """
        if options in self.done:
            return self.done[options]
        path = None if self.work is None else self.work / f"{self._key(options)}.json"
        found = None if path is None else _read(path, options, len(self.dev.ids), self.dev.references.counted)
        if found is None:
            found = self._decode(options)
            if path is not None:
                _write(path, found)
        self.done[options] = found
        return found

    def rates(self, trials: dict[str, Trial]) -> ErrorRates:
        """Error rates of several trials, by any name."""
        return combine(self.dev.references, {name: trial.errors for name, trial in trials.items()})

    def judge(self, options: DecoderOptions) -> JudgedWords:
        """Decode again and tell which words are right."""
        raw: list[float] = []
        right: list[bool] = []
        item: list[int] = []
        for index, found in enumerate(self.hypotheses(options)):
            tokens = [self.vocabulary.symbols[token] for token in found.token_ids]
            words = split_words(tokens)
            raw += [raw_confidence([found.token_log_probs[row] for row in rows]) for _, rows in words]
            right += right_words(self.dev.texts[index], [text for text, _ in words]).tolist()
            item += [index] * len(words)
        return JudgedWords(np.array(raw, dtype=np.float64), np.array(right, dtype=bool), np.array(item, dtype=np.int64))

    def hypotheses(self, options: DecoderOptions) -> Iterator[Hypothesis]:
        """Decode the dev set, item by item."""
        greedy = options.kind == "greedy"
        lm, lexicon = (None, None) if greedy else (self.lm, self.lexicon)
        decoder = build_decoder(options, self.vocabulary, lm=lm, lexicon=lexicon)
        for done, log_probs in enumerate(self.dev.log_probs, 1):
            yield decoder.best(decoder.advance(decoder.init_state(), log_probs))
            if self.on_item:
                self.on_item(done, len(self.dev.ids))

    def _decode(self, options: DecoderOptions) -> Trial:
        start = time.perf_counter()
        texts = [self.vocabulary.text(found.token_ids) for found in self.hypotheses(options)]
        seconds = time.perf_counter() - start
        return Trial(options, count_text_errors(self.dev.texts, texts), seconds, self.dev.references.counted)

    def _key(self, options: DecoderOptions) -> str:
        setting = asdict(options) | {"native": None}  # the compiled core answers the same
        text = json.dumps([self.dev.digest, self.vocabulary.symbols, self.origin, setting, version("kdcompress")])
        return f"trial-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def _read(path: Path, options: DecoderOptions, items: int, counted: Counted) -> Trial | None:
    """What was kept of a setting, None where there is nothing or nothing of use."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        errors = ItemErrors.from_json(row)
        whole = len(errors.words) == len(errors.characters) == items
        return Trial(options, errors, float(row["seconds"]), counted) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, trial: Trial) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**asdict(trial.errors), "seconds": trial.seconds}), encoding="utf-8")
    partial.replace(path)
