"""Decoding a manifest with hotwords that differ from utterance to utterance, and what came of it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.files import replacing
from kdcompress_evaluation.bootstrap import paired_difference
from kdcompress_evaluation.scoring import NORMALISERS, score
from kdcompress_export.decoder_tuning.calibration import (
    apply,
    area_under_roc,
    expected_calibration_error,
    fit_calibration,
)
from kdcompress_runtime.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from kdcompress_export.decoder_tuning.calibration import JudgedWords
    from kdcompress_export.decoder_tuning.dev_set import DevSet
    from kdcompress_runtime.confidence import Calibration
    from kdcompress_runtime.decoders import Decoder
    from kdcompress_runtime.vocabulary import Vocabulary


@dataclass(frozen=True)
class Row:
    """One utterance, decoded by one system."""

    system: str
    """What decoded it."""
    id: str
    """Of the utterance."""
    reference: str
    """What was said."""
    text: str
    """What was recognised."""
    word_errors: int
    """Substitutions, deletions and insertions of words."""
    words: int
    """Reference words."""
    character_errors: int
    """The same of characters."""
    characters: int
    """Reference characters."""
    rare: int
    """Reference words that are rare."""
    rare_found: int
    """Of these, how many the text has."""
    false_alarms: int
    """Words of the distractor list that the text has and the reference has not; counted for every system."""


def common_words(texts: Iterable[str], count: int) -> frozenset[str]:
    """The ``count`` most frequent words; among equals the first in the alphabet."""
    found = Counter(word for text in texts for word in text.split())
    return frozenset(sorted(found, key=lambda word: (-found[word], word))[:count])


def read_texts(manifest: Path) -> list[str]:
    """Texts of a manifest, in order."""
    return [entry.text for entry in read_manifest(manifest)]


def spelt(vocabulary: Vocabulary) -> frozenset[str]:
    """Letters that a vocabulary can spell."""
    blank = vocabulary.blank_id
    return frozenset("".join(symbol for index, symbol in enumerate(vocabulary.symbols) if index != blank))


def rare_words(text: str, common: frozenset[str], letters: frozenset[str]) -> list[str]:
    """Words of a text that are not common and can be spelt, each once."""
    return [word for word in dict.fromkeys(text.split()) if word not in common and letters.issuperset(word)]


def distractors(
    texts: Sequence[str], common: frozenset[str], letters: frozenset[str], count: int, seed: int
) -> list[tuple[str, ...]]:
    """For every utterance up to ``count`` rare words of the others, none of which it has."""
    pool = sorted({word for text in texts for word in rare_words(text, common, letters)})
    rng, drawn = np.random.default_rng(seed), []
    for text in texts:
        mine = set(text.split())
        others = [word for word in pool if word not in mine]
        chosen = rng.choice(len(others), min(count, len(others)), replace=False) if others else []
        drawn.append(tuple(others[index] for index in sorted(chosen)))
    return drawn


def decode(
    system: str,
    data: DevSet,
    decoder: Decoder[Any],
    vocabulary: Vocabulary,
    *,
    common: frozenset[str],
    lists: Sequence[Sequence[str]],
    hotwords: Callable[[int], dict[str, float]] | None = None,
) -> list[Row]:
    """Decode a data set.

    Args:
        system: name of the rows.
        data: log-probabilities and texts.
        decoder: without hotwords.
        vocabulary: spells tokens.
        common: words that are not rare.
        lists: distractors of every utterance; false alarms are counted whether they were given or not.
        hotwords: words and weights of an utterance, by its index.
    """
    texts = []
    for index, log_probs in enumerate(data.log_probs):
        given = hotwords(index) if hotwords else {}
        here = decoder.with_hotwords(given) if given else decoder
        texts.append(vocabulary.text(here.best(here.advance(here.init_state(), log_probs)).token_ids))
    scores = score(data.texts, texts, NORMALISERS["plain"])
    rows = []
    for index, (reference, text, found) in enumerate(zip(data.texts, texts, scores, strict=True)):
        said, heard = Counter(reference.split()), Counter(text.split())
        rare = {word: count for word, count in said.items() if word not in common}
        rows.append(
            Row(
                system=system,
                id=data.ids[index],
                reference=reference,
                text=text,
                word_errors=found.words.errors,
                words=found.words.reference,
                character_errors=found.characters.errors,
                characters=found.characters.reference,
                rare=sum(rare.values()),
                rare_found=sum(min(count, heard[word]) for word, count in rare.items()),
                false_alarms=sum(heard[word] for word in lists[index]),
            )
        )
    return rows


def summary(rows: Sequence[Row], baseline: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Rates of a system in percent, and its paired differences from the baseline with 95 % intervals."""
    total = {name: sum(getattr(row, name) for row in rows) for name in ("rare", "rare_found", "false_alarms")}
    return {
        "utterances": len(rows),
        "wer": _rate(rows, "word_errors", "words"),
        "cer": _rate(rows, "character_errors", "characters"),
        "wer_difference": _difference(rows, baseline, "word_errors", "words", seed),
        "cer_difference": _difference(rows, baseline, "character_errors", "characters", seed),
        "rare_recall": 100 * total["rare_found"] / max(1, total["rare"]),
        "rare_words": total["rare"],
        "false_alarms_per_utterance": total["false_alarms"] / max(1, len(rows)),
    }


def confidence_summary(words: JudgedWords, calibration: Calibration | None) -> dict[str, Any]:
    """Expected calibration error of raw and calibrated confidences, in percent, on words that nothing was fitted on."""
    found = {
        "words": len(words.raw),
        "right": 100 * float(words.right.mean()),
        "auroc": area_under_roc(words.raw, words.right),
        "ece_raw": 100 * expected_calibration_error(words.raw, words.right),
        "wrong_above_0.99_raw": _sure(words.raw, words.right),
    }
    if calibration is not None:
        calibrated = apply(calibration, words.raw)
        found["ece"] = 100 * expected_calibration_error(calibrated, words.right)
        found["wrong_above_0.99"] = _sure(calibrated, words.right)
        best = apply(fit_calibration(words.raw, words.right), words.raw)
        found["ece_fitted_here"] = 100 * expected_calibration_error(best, words.right)
    return found


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as gzipped JSON lines; the same rows give the same bytes."""
    lines = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(lines.encode(), mtime=0))


def markdown(name: str, found: dict[str, Any]) -> str:
    """The tables of one bundle."""
    lines = [
        f"### {name}",
        "",
        "| system | WER % | minus greedy (95 %) | CER % | minus greedy (95 %) | rare words found % | false alarms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for system, row in found["systems"].items():
        cells = [
            f"{row['wer']:.2f}",
            _interval(row["wer_difference"]),
            f"{row['cer']:.2f}",
            _interval(row["cer_difference"]),
            f"{row['rare_recall']:.1f}",
            f"{row['false_alarms_per_utterance']:.3f}",
        ]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    lines += [
        "",
        "| confidence | words | right % | AUROC | error raw % | calibrated % | wrong above 0.99 raw % | calibrated % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for system, row in found["confidence"].items():
        auroc = "-" if row["auroc"] is None else f"{row['auroc']:.3f}"
        ece, sure = (f"{row[key]:.1f}" if key in row else "-" for key in ("ece", "wrong_above_0.99"))
        lines.append(
            f"| {system} | {row['words']} | {row['right']:.1f} | {auroc} | {row['ece_raw']:.1f} | {ece} "
            f"| {row['wrong_above_0.99_raw']:.1f} | {sure} |"
        )
    lines += [
        "",
        "| nats a letter, among others, dev | WER % | rare words found % | false alarms |",
        "| --- |" + " --- |" * 3,
    ]
    for system, curve in found["hotword_weights_on_dev"].items():
        for weight, row in curve.items():
            cells = f"{row['wer']:.2f} | {row['rare_recall']:.1f} | {row['false_alarms_per_utterance']:.3f}"
            lines.append(f"| {system} + hotwords of {weight} | {cells} |")
    lines += [
        "",
        "False alarms: words of the others' lists in the text, an utterance. Confidence: expected calibration error.",
    ]
    return "\n".join(lines) + "\n"


def _rate(rows: Sequence[Row], errors: str, units: str) -> float:
    return 100 * sum(getattr(row, errors) for row in rows) / max(1, sum(getattr(row, units) for row in rows))


def _difference(
    rows: Sequence[Row], baseline: Sequence[Row], errors: str, units: str, seed: int
) -> dict[str, float | None]:
    one, two = ([getattr(row, errors) for row in which] for which in (rows, baseline))
    found = paired_difference(one, two, [getattr(row, units) for row in rows], seed=seed)
    return {
        key: None if value is None else 100 * value
        for key, value in (("points", found.value), ("low", found.low), ("high", found.high))
    }


def _interval(row: dict[str, float | None]) -> str:
    if row["points"] is None or row["low"] is None or row["high"] is None:
        return "-"
    return f"{row['points']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def _sure(confidence: Any, right: Any) -> float:  # noqa: ANN401 - arrays
    return 100 * float((confidence[~right] >= 0.99).mean()) if (~right).any() else 0.0
