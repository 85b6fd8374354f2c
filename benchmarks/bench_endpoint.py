#!/usr/bin/env python3
"""From the end of speech to the final text: with ``flush`` and with endpoint rules; latency against utterances cut.

Usage: python benchmarks/bench_endpoint.py --bundle BUNDLE --dev DEV.jsonl --test TEST.jsonl [--count 800]

Behind every recording come 3 s of noise with the spectrum of its quietest tenth. Speech ends where the level, 10 ms at
a time, was last 12 dB above the room and less than 35 dB below the loudest of the recording as it was.

- ``flush``: the program knows that speech has ended (a button, a VAD) and calls ``flush`` at its very end, or 200 or
  400 ms later; timed after a rest of 50 ms. The text is compared with that of the recording as it was.
- endpoint rules: audio comes in pieces of 20 ms; latency is the audio heard since the end of speech when
  ``is_endpoint`` says so, and the computation of that piece and of ``result``.
- cut: the rules ended an utterance more than 0.1 s before its speech ended. Pauses are those of the speakers
  (children and adults who read a foreign language) and, in a second table, one of a given length at the quietest place.
- the curve: what each rule would do, from the same probabilities; ``as streamed`` says how often streams agree.

The rule is chosen on dev: the lowest median latency with at most ``--most-cut`` of utterances cut. Test is only told.
Rows, table and plot go to benchmarks/results/stream; the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np
from bench_stream import write
from endpoint_cases import AFTER_SECONDS, Case, cases, end_of, flush_at_end, grid, rates, stream_to_endpoint, told
from exit_codes import with_exit_code

from kdcompress_runtime import Bundle, CtcModel, EndpointRules, Recognizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
FLUSH_LATER = (0.0, 0.2, 0.4)
"""Seconds after the end of speech: what a program could wait for late tokens."""
PAUSES = (0.2, 0.4, 0.6, 0.8, 1.2)
SHERPA = EndpointRules(trailing_silence=1.2, confident_silence=1.2)
"""The defaults of sherpa-onnx, for comparison: 2.4 s at the beginning, 1.2 s after speech."""


def curve(found: Sequence[Case], model: CtcModel) -> list[dict[str, Any]]:
    """Every rule of the grid on some cases."""
    return [
        {"family": family, **told(rules), **rates([end_of(case, rules, model) for case in found])}
        for family, members in grid(EndpointRules()).items()
        for rules in members
    ]


def choose(lines: Sequence[Mapping[str, Any]], most_cut: float) -> EndpointRules:
    """The rule with the lowest median latency (then the lowest p95) among those that cut few enough."""
    allowed = [line for line in lines if line["cut_rate"] <= most_cut and math.isfinite(line["p50_ms"])]
    if not allowed:
        raise SystemExit(f"no rule cuts at most {100 * most_cut:g} % of the utterances; allow more with --most-cut")
    best = min(allowed, key=lambda line: (line["p50_ms"], line["p95_ms"], line["cut_rate"]))
    return EndpointRules(**{name: best[name] for name in told(EndpointRules())})


def streamed(found: Sequence[Case], rules: EndpointRules, model: CtcModel) -> tuple[list[dict], dict]:
    """Stream all cases under a rule: one row each, and the summary."""
    recognizer = Recognizer(model, endpoint=rules)
    rows, same = [], 0
    for index, case in enumerate(found):
        heard, expected = stream_to_endpoint(case, recognizer), end_of(case, rules, model)
        same += (None if heard is None else heard[1]) == (None if expected is None else expected.frame)
        if heard is not None and expected is not None:
            latency, frames, spent, text = heard
            row = {"latency_ms": 1000 * latency, "compute_ms": 1000 * spent, "frames": frames, "cut": expected.cut}
            rows.append({"utterance": index, **row, "text": text})
    kept = [row for row in rows if not row["cut"]]
    latency, compute = ([row[name] for row in kept] for name in ("latency_ms", "compute_ms"))
    return rows, {**percentiles("", latency), **percentiles("compute_", compute), "as_streamed": same / len(found)}


def flushed(found: Sequence[Case], model: CtcModel) -> tuple[list[dict], list[dict]]:
    """``flush`` at the end of speech and a little later: a row for each case and delay, a summary for each delay."""
    recognizer = Recognizer(model)
    rate, texts = model.metadata.input.sample_rate or 16000, [case.text for case in found]
    wholes = [recognizer.recognize(case.audio[: -round(AFTER_SECONDS * rate)], rate).text for case in found]
    # A vocabulary of phones spells other texts than the manifest.
    spelt = set("".join(texts)) - {" "} <= set("".join(model.vocabulary.symbols))
    rows, lines = [], []
    for later in FLUSH_LATER:
        flushes = [flush_at_end(case, recognizer, later) for case in found]
        said = [text for _, text in flushes]
        rows += [
            {
                "utterance": index,
                "flush_later": later,
                "flush_ms": 1000 * seconds,
                "text": text,
                "same_text": text == whole,
            }
            for index, ((seconds, text), whole) in enumerate(zip(flushes, wholes, strict=True))
        ]
        line = {"later_ms": 1000 * later, **percentiles("", [1000 * seconds for seconds, _ in flushes])}
        line["same_text"] = sum(text == whole for text, whole in zip(said, wholes, strict=True)) / len(said)
        line["edits_to_whole"] = 100 * jiwer.cer([one or " " for one in wholes], said)
        if spelt:
            line |= {"cer": 100 * jiwer.cer(texts, said), "cer_whole": 100 * jiwer.cer(texts, wholes)}
        lines.append(line)
    return rows, lines


def percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    """p50 and p95."""
    some = list(values) or [float("nan")]
    return {f"{name}p{percent}_ms": float(np.percentile(some, percent)) for percent in (50, 95)}


def plot(dev: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]], marks: Mapping, path: Path) -> None:
    """The trade-off on dev (dashed) and test."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for index, family in enumerate(dict.fromkeys(line["family"] for line in test)):
        for lines, style in ((dev, "--"), (test, "-")):
            chosen = [line for line in lines if line["family"] == family]
            axes.plot(
                [line["p50_ms"] for line in chosen],
                [100 * line["cut_rate"] for line in chosen],
                f"C{index}{style}",
                marker="." if style == "-" else "",
                linewidth=1 if style == "-" else 0.6,
                label=family if style == "-" else None,
            )
    for name, one in marks.items():
        axes.annotate(name, (one["p50_ms"], 100 * one["cut_rate"]), xytext=(6, 6), textcoords="offset points", size=8)
        axes.plot(one["p50_ms"], 100 * one["cut_rate"], "k*")
    axes.set(xlabel="end of speech to endpoint, median, ms of audio", ylabel="utterances cut, %")
    axes.legend(fontsize=7, title="test; dashed: dev", title_fontsize=7)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def markdown(ended: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        f"{ended['bundle']}, {ended['precision']}, {ended['utterances']} test utterances.\n",
        "| `flush` after the end of speech | p50 ms | p95 ms | same text as all of the recording % | CER % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for one in ended["flush"]:
        cer = f"{one['cer']:.2f} (whole recording {one['cer_whole']:.2f})" if "cer" in one else ""
        same = f"{100 * one['same_text']:.1f}"
        lines.append(f"| {one['later_ms']:.0f} ms | {one['p50_ms']:.1f} | {one['p95_ms']:.1f} | {same} | {cer} |")
    lines += [
        "",
        "| rule | p50 ms | p95 ms | of it computation, p50 | cut % | tokens lost % | never % | as streamed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in ended["rules"].items():
        rule = f"{one['trailing_silence']:g} s, sure ({one['confident_probability']:g}) {one['confident_silence']:g} s"
        lines.append(
            f"| {name}: {rule} | {one['p50_ms']:.0f} | {one['p95_ms']:.0f} | {one['compute_p50_ms']:.2f} | "
            f"{100 * one['cut_rate']:.1f} | {100 * one['lost_rate']:.1f} | {100 * one['never_rate']:.1f} | "
            f"{100 * one['as_streamed']:.1f} % |"
        )
    lines += [
        "\nUtterances cut (%), with a pause of this length inserted:\n",
        f"| rule | {' | '.join(f'{pause:g} s' for pause in ended['pauses'])} |",
        "| --- |" + " ---: |" * len(ended["pauses"]),
    ]
    for name, one in ended["rules"].items():
        lines.append(f"| {name} | {' | '.join(f'{100 * rate:.1f}' for rate in one['cut_with_pause'])} |")
    return "\n".join(lines) + "\n"


def valid(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The same without NaN, which JSON does not know: a latency of no utterance is null."""
    if isinstance(value, dict):
        return {key: valid(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [valid(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Choose on dev, tell test."""
    model = CtcModel.from_bundle(Bundle.open(args.bundle), args.precision)
    dev = cases(model, args.dev, args.count)
    dev_curve = curve(dev, model)
    rules = {"default": EndpointRules(), "chosen on dev": choose(dev_curve, args.most_cut), "sherpa-onnx's": SHERPA}
    test = cases(model, args.test, args.count)
    paused = [cases(model, args.test, min(args.count, args.pause_count), pause) for pause in PAUSES]
    rows, flush = flushed(test, model)
    ended: dict[str, Any] = {"bundle": args.bundle.name, "utterances": len(test), "most_cut": args.most_cut}
    ended |= {"precision": args.precision or model.metadata.default_precision}
    ended |= {"flush": flush, "pauses": PAUSES, "rules": {}}
    for name, rule in rules.items():
        found, spent = streamed(test, rule, model)
        rows += [{"rule": name, **row} for row in found]
        cut = [rates([end_of(case, rule, model) for case in some])["cut_rate"] for some in paused]
        audio, on_dev = (rates([end_of(case, rule, model) for case in some]) for some in (test, dev))
        ended["rules"][name] = {**asdict(rule), **audio, **spent, "cut_with_pause": cut, "dev": on_dev}
    ended |= {"dev_curve": dev_curve, "test_curve": curve(test, model)}
    return ended, rows


@with_exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write rows, tables and plot, print JSON as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--precision", help="the bundle's default when left out")
    parser.add_argument("--dev", type=Path, required=True, help="manifest on which the rule is chosen")
    parser.add_argument("--test", type=Path, required=True, help="manifest that nothing is chosen on")
    parser.add_argument("--count", type=int, default=800, help="utterances of each, at most")
    parser.add_argument("--pause-count", type=int, default=200, help="of them with pauses inserted")
    parser.add_argument("--most-cut", type=float, default=0.05, help="share of utterances that a rule may cut, on dev")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "stream")
    args = parser.parse_args(arguments)
    ended, rows = measure(args)
    name = f"endpoint-{args.bundle.name.removesuffix('-bundle')}"
    table = markdown(ended)
    write(args.output / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write(args.output / f"{name}.md", table)
    write(args.output / f"{name}.json", json.dumps(valid(ended), indent=1) + "\n")
    plot(ended["dev_curve"], ended["test_curve"], ended["rules"], args.output / f"{name}.svg")
    print(table)
    chosen, theirs = ended["rules"]["chosen on dev"], ended["rules"]["sherpa-onnx's"]
    short = {key: value for key, value in ended.items() if not key.endswith("curve")}
    print(json.dumps(valid({"ratio": chosen["p50_ms"] / theirs["p50_ms"], **short})))


if __name__ == "__main__":
    sys.exit(main())
