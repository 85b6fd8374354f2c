#!/usr/bin/env python3
"""What beam search, a language model and hotwords bring: error rates, false alarms, honest confidences.

Usage: python benchmarks/bench_language.py BUNDLE... --lm LM --data FOLDER [--work DIR] [--save DIR]

FOLDER holds ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``, as ``kdcompress prepare sentences`` writes them. Weights
and calibrations are found on dev, everything is reported on test. Hotwords of an utterance are its rare words: those
that are not among the ``--common`` most frequent of the training texts. They are given alone, among ``--others`` rare
words of other utterances, and only these others (nothing that was said): each of them in the text is a false alarm.
The bundles are not changed. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exit_codes import with_exit_code
from language_scores import (
    common_words,
    confidence_summary,
    decode,
    distractors,
    markdown,
    rare_words,
    read_texts,
    spelt,
    summary,
    write_rows,
)

from kdcompress.files import write_text
from kdcompress_export.decoder_tuning import TuneOptions, tune_decoder
from kdcompress_export.decoder_tuning.dev_set import read_dev_set
from kdcompress_export.decoder_tuning.trials import Trials
from kdcompress_export.entries import check_disjoint
from kdcompress_export.timing import cpu_name
from kdcompress_runtime import Bundle, CtcModel, DecoderOptions, build_decoder
from kdcompress_runtime.lm import open_lm

if TYPE_CHECKING:
    from collections.abc import Callable

    from language_scores import Row

    from kdcompress_export.decoder_tuning.dev_set import DevSet
    from kdcompress_runtime.decoder_settings import DecoderSettings
    from kdcompress_runtime.decoders import Decoder
    from kdcompress_runtime.vocabulary import Vocabulary

GREEDY, TUNED, BEAM, LM = "greedy, untuned", "greedy", "beam", "beam + LM"
WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Nats for each letter of a hotword that are tried on dev."""


@dataclass(frozen=True, eq=False)
class Data:
    """One split, as one bundle hears it, with the lists of hotwords."""

    items: DevSet
    """Log-probabilities and texts."""
    common: frozenset[str]
    """Words that are not rare."""
    own: list[list[str]]
    """Rare words of every utterance."""
    others: list[tuple[str, ...]]
    """Rare words of other utterances."""


def measure(args: argparse.Namespace, bundle: Path) -> tuple[dict[str, Any], list[Row]]:
    """Tune on dev, decode test."""
    settings = {system: tuned(args, bundle, system) for system in (TUNED, BEAM, LM)}
    opened, lm = Bundle.open(bundle), open_lm(args.lm)
    dev, test = (split(args, opened, part) for part in ("dev", "test"))
    decoders: dict[str, Decoder[Any]] = {GREEDY: build_decoder(DecoderOptions(), opened.vocabulary)}
    for system, one in settings.items():
        decoders[system] = build_decoder(
            one.decoder_options(), opened.vocabulary, lm=lm if system == LM else None, lexicon=None
        )
    decode_all = Runner(bundle.name, opened.vocabulary)
    rows = {system: decode_all(system, decoder, test) for system, decoder in decoders.items()}
    weights, curves = {}, {}
    for system in (BEAM, LM):
        weights[system], curves[system] = best_weight(system, decoders[system], dev, decode_all)
        for label, own, others in lists(args):
            named, words = f"{system} + {label}", given(test, weights[system], own=own, others=others)
            rows[named] = decode_all(named, decoders[system], test, words)
    judges = {system: Trials(test.items, opened.vocabulary, lm if system == LM else None) for system in settings}
    both = f"{LM} + {lists(args)[1][0]}"
    found = {
        "systems": {system: summary(one, rows[GREEDY]) for system, one in rows.items()},
        "lm_minus_beam": summary(rows[LM], rows[BEAM])["wer_difference"],
        "hotwords_minus_lm": summary(rows[both], rows[LM])["wer_difference"],
        "confidence": {
            system: confidence_summary(judges[system].judge(one.decoder_options()), one.confidence)
            for system, one in settings.items()
        },
        "hotword_weights": weights,
        "hotword_weights_on_dev": curves,
        "decoders": {system: one.to_json() for system, one in settings.items()},
        "precision": opened.metadata.default_precision,
        "files": dict(opened.metadata.files),
    }
    return found, [row for one in rows.values() for row in one]


@dataclass(frozen=True)
class Runner:
    """Decodes for one bundle, and says so."""

    name: str
    """Of the bundle."""
    vocabulary: Vocabulary
    """Of the bundle."""

    def __call__(
        self,
        system: str,
        decoder: Decoder[Any],
        data: Data,
        hotwords: Callable[[int], dict[str, float]] | None = None,
    ) -> list[Row]:
        """Rows of one system."""
        say(f"{self.name}: {system}")
        return decode(
            system,
            data.items,
            decoder,
            self.vocabulary,
            common=data.common,
            lists=data.others,
            hotwords=hotwords,
        )


def lists(args: argparse.Namespace) -> tuple[tuple[str, bool, bool], ...]:
    """Name of every kind of list, and whether it holds rare words that were said, and others."""
    return (
        ("hotwords", True, False),
        (f"hotwords among {args.others} others", True, True),
        (f"{args.others} others alone", False, True),
    )


def tuned(args: argparse.Namespace, bundle: Path, system: str) -> DecoderSettings:
    """Settings that were found on dev, each for itself."""
    say(f"{bundle.name}: tuning {system} on dev")
    options = TuneOptions(
        kind="greedy" if system == TUNED else "beam",
        lm=args.lm if system == LM else None,
        trials=args.trials,
        limit=args.limit,
        work=args.work / "kept",
    )
    output = args.work / bundle.name / system.replace(" ", "")
    tune_decoder(bundle, args.data / "dev.jsonl", output, options)
    settings = Bundle.open(output).metadata.decoder_settings
    if settings is None:
        raise RuntimeError(f"{output} holds no decoder")
    return settings


def split(args: argparse.Namespace, bundle: Bundle, part: str) -> Data:
    """What the bundle hears in a split, and who is rare there."""
    say(f"{bundle.path.name}: listening to {part}")
    file = bundle.metadata.model_file().file
    manifest = args.data / f"{part}.jsonl"
    items = read_dev_set(
        CtcModel.from_bundle(bundle), bundle.metadata.files[file], manifest, work=args.work / "kept", limit=args.limit
    )
    common, letters = common_words(read_texts(args.data / "train.jsonl"), args.common), spelt(bundle.vocabulary)
    own = [rare_words(text, common, letters) for text in items.texts]
    return Data(items, common, own, distractors(items.texts, common, letters, args.others, seed=1))


def given(data: Data, weight: float, *, own: bool, others: bool) -> Callable[[int], dict[str, float]]:
    """Hotwords of an utterance, by its index."""
    return lambda index: dict.fromkeys(
        [*(data.own[index] if own else ()), *(data.others[index] if others else ())], weight
    )


def best_weight(
    system: str, decoder: Decoder[Any], dev: Data, decode_all: Runner
) -> tuple[float, dict[str, dict[str, float]]]:
    """The weight with which rare words among others make the fewest word errors on dev, and what every weight does."""
    curve = {}
    for weight in WEIGHTS:
        words = given(dev, weight, own=True, others=True)
        rows = decode_all(f"{system} + hotwords of {weight:g} on dev", decoder, dev, words)
        found = summary(rows, rows)
        curve[f"{weight:g}"] = {name: found[name] for name in ("wer", "rare_recall", "false_alarms_per_utterance")}
    return min(WEIGHTS, key=lambda weight: (curve[f"{weight:g}"]["wer"], weight)), curve


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


@with_exit_code
def main(arguments: list[str] | None = None) -> None:
    """Print tables and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--lm", type=Path, required=True, help="language model of words: ARPA or packed")
    parser.add_argument("--data", type=Path, default=Path("runs/sentences"))
    parser.add_argument("--work", type=Path, default=Path("runs/bench-language"))
    parser.add_argument("--save", type=Path, default=Path("benchmarks/results/language"))
    parser.add_argument("--common", type=int, default=500, help="words of the training texts that are not rare")
    parser.add_argument("--others", type=int, default=100, help="rare words of other utterances in every list")
    parser.add_argument("--trials", type=int, default=TuneOptions.trials)
    parser.add_argument("--limit", type=int, help="items of dev and test; all when left out")
    args = parser.parse_args(arguments)
    check_disjoint(args.data / "dev.jsonl", args.data / "test.jsonl")
    found = {}
    for bundle in args.bundles:
        found[bundle.name], rows = measure(args, bundle)
        write_rows(args.save / f"{bundle.name}.rows.jsonl.gz", rows)
        write_text(args.save / f"{bundle.name}.json", json.dumps(found[bundle.name], indent=2) + "\n")
        write_text(args.save / f"{bundle.name}.md", markdown(bundle.name, found[bundle.name]))
        print(markdown(bundle.name, found[bundle.name]))
    about = {"cpu": cpu_name(), "lm": str(args.lm), "common": args.common, "others": args.others}
    print(json.dumps({"bundles": found, "settings": about}))


if __name__ == "__main__":
    sys.exit(main())
