from __future__ import annotations

import json
from typing import Any

import jiwer
import pytest
from sacrebleu.metrics import BLEU, CHRF

from kdcompress_evaluation.derive import summarise
from kdcompress_evaluation.scoring import plain
from kdcompress_evaluation.significance import holm
from kdcompress_evaluation.summary import Summary


def measures(references: list[str], hypotheses: list[str]) -> jiwer.WordOutput:
    return jiwer.process_words([plain(t) for t in references], [plain(t) for t in hypotheses])


@pytest.fixture
def two(case: Any) -> tuple[Any, dict[str, list[str]], dict[str, dict[str, list[str]]]]:
    """Three variants over two manifests."""
    references = {"clean": case.sentences(70, 1), "noisy": case.sentences(50, 2)}
    heard = {
        name: {m: case.garble(texts, rate, seed) for m, texts in references.items()}
        for seed, (name, rate) in enumerate([("base", 0.05), ("small", 0.1), ("tiny", 0.3)])
    }
    folder = case.folder(references, ["base", case.variant("small", size_bytes=300_000), "tiny"])
    for name, texts in heard.items():
        folder.write_texts(name, texts)
    return folder, references, heard


def test_numbers_are_those_of_jiwer(two: Any) -> None:
    folder, references, heard = two
    summary = summarise(folder.path)
    assert [m.name for m in summary.metrics] == ["wer", "cer", "ser"]
    for variant in summary.variants:
        texts = heard[variant.info.name]
        every = [t for name in references for t in references[name]], [t for name in references for t in texts[name]]
        parts = [(variant.manifests[name], references[name], texts[name]) for name in references]
        for accuracy, wanted, found in [(variant.pooled, *every), *parts]:
            expected = measures(wanted, found)
            assert accuracy.metrics["wer"].value == pytest.approx(expected.wer, abs=1e-12)
            cer = jiwer.cer([plain(t) for t in wanted], [plain(t) for t in found])
            assert accuracy.metrics["cer"].value == pytest.approx(cer, abs=1e-12)
            wrong = sum(plain(a) != plain(b) for a, b in zip(wanted, found, strict=True))
            assert accuracy.metrics["ser"].value == pytest.approx(wrong / len(wanted))
            counts = accuracy.words
            assert (counts.hits, counts.substitutions) == (expected.hits, expected.substitutions)
            assert (counts.deletions, counts.insertions) == (expected.deletions, expected.insertions)
            assert accuracy.utterances == len(wanted)
            assert accuracy.empty_references == sum(not plain(t) for t in wanted) > 0
            assert accuracy.metrics["wer"].low < accuracy.metrics["wer"].value < accuracy.metrics["wer"].high


def test_differences_are_paired_tested_and_corrected(two: Any) -> None:
    summary = summarise(two[0].path)
    base, small, tiny = summary.variants
    assert base.pooled.differences == {}
    assert base.comparison is None
    for variant in (small, tiny):
        for name, one in variant.pooled.differences.items():
            rates = [v.pooled.metrics[name].value for v in (variant, base)]
            assert one.estimate.value == pytest.approx(rates[0] - rates[1])
            assert one.estimate.low < one.estimate.value < one.estimate.high
    raw = [v.pooled.differences["wer"].p_value for v in (small, tiny)]
    assert [v.pooled.differences["wer"].p_adjusted for v in (small, tiny)] == holm(raw)
    assert raw[1] < 0.005
    assert small.pooled.differences["wer"].p_adjusted is not None
    assert all(d.p_adjusted is None for m in tiny.manifests.values() for d in m.differences.values())


def test_comparison_counts_utterances_and_error_types(two: Any) -> None:
    folder, references, heard = two
    tiny = summarise(folder.path).variants[2]
    signs, shift = [], {"substitutions": 0, "deletions": 0, "insertions": 0}
    for name, wanted in references.items():
        for text, ours, theirs in zip(wanted, heard["tiny"][name], heard["base"][name], strict=True):
            a, b = measures([text], [ours]), measures([text], [theirs])
            for kind in shift:
                shift[kind] += getattr(a, kind) - getattr(b, kind)
            ours_wrong, theirs_wrong = (x.substitutions + x.deletions + x.insertions for x in (a, b))
            signs.append((ours_wrong > theirs_wrong) - (ours_wrong < theirs_wrong))
    assert tiny.comparison is not None
    found = tiny.comparison
    assert (found.better, found.same, found.worse) == (signs.count(-1), signs.count(0), signs.count(1))
    assert found.not_worse.value == pytest.approx(1 - signs.count(1) / 120)
    words = tiny.pooled.words.reference
    assert found.shift == pytest.approx({kind: count / words for kind, count in shift.items()})


def test_twins_do_not_differ_and_anchors_and_the_broken_are_no_part_of_the_correction(case: Any) -> None:
    references = {"m": case.sentences(60, 5)}
    anchor = case.variant("teacher", anchor=True)
    folder = case.folder(references, ["base", "twin", "worse", anchor, "gone"])
    heard = case.garble(references["m"], 0.1, 1)
    for name in ("base", "twin"):
        folder.write_texts(name, {"m": heard})
    folder.write_texts("worse", {"m": case.garble(references["m"], 0.2, 9)})
    folder.write_texts("teacher", references)
    lost = {"error": "given up", "error_kind": "not attempted"}
    folder.write("gone", "m", [folder.row("m", i, "", **lost) for i in range(60)])
    _, twin, worse, teacher, gone = (v.pooled.differences for v in summarise(folder.path).variants)
    for one in twin.values():
        assert (one.estimate.value, one.estimate.low, one.estimate.high, one.p_value) == (0, 0, 0, 1)
    assert worse["wer"].p_adjusted == holm([1.0, worse["wer"].p_value])[1]
    assert teacher["wer"].p_value is not None
    assert gone["wer"].p_value is not None
    assert teacher["wer"].p_adjusted is gone["wer"].p_adjusted is None


def test_shards_in_any_order_are_one_process_to_the_last_bit(case: Any) -> None:
    references = {"m": case.sentences(90, 3)}
    heard = {name: case.garble(references["m"], 0.2, seed) for seed, name in enumerate(["base", "new"])}
    more = {
        "speaker": lambda _, i: f"s{i * 7 % 13}",
        "extra": lambda _, i: {"snr": i * 37 % 101 / 7, "place": "abc"[i % 3], "mixed": i if i % 2 else str(i)},
    }
    whole = case.folder(references, list(heard), name="whole", **more)
    parts = case.folder(references, list(heard), name="parts", **more)
    for name, texts in heard.items():
        rows = [
            whole.row("m", i, text, stream=case.stream(text), error="broke" if i % 31 == 4 else None)
            for i, text in enumerate(texts)
        ]
        whole.write(name, "m", rows)
        for shard in (3, 1, 2):
            parts.write(name, "m", [row for row in reversed(rows) if row.index % 3 == shard - 1], (shard, 3))
    one, other = summarise(whole.path), summarise(parts.path)
    assert one.dumps() == other.dumps()
    assert one.variants[1].streaming is not None
    assert Summary.from_json(json.loads(one.dumps())) == one


def test_scene_text_is_judged_by_whole_lines(case: Any) -> None:
    references = {"signs": ["Exit", "Gate 12", "Café", "OPEN"] * 10}
    base = case.variant("base", task="scene_text", input_kind="image")
    folder = case.folder(references, [base, case.variant("new", size_bytes=200_000)], task="scene_text")
    folder.write_texts("base", references)
    folder.write_texts("new", {"signs": ["Exit", "Gate 72", "Café", "OPEN"] * 10})
    summary = summarise(folder.path)
    new = summary.variants[1]
    assert summary.primary.name == "ser"
    assert new.pooled.metrics["ser"].value == 0.25
    assert new.pooled.differences["ser"].estimate.value == 0.25
    assert new.pooled.metrics["cer"].value == pytest.approx(10 / (40 * 4 + 10 * 3))
    assert (summary.worst["new"][0].errors, summary.worst["new"][0].reference) == (1, "Gate 12")
    assert new.comparison is not None
    assert (new.comparison.same, new.comparison.worse) == (30, 10)
    assert "lines not exactly right" in summary.headline
    assert "word error" not in summary.headline + summary.reason


def test_translation_is_judged_by_chrf_and_bleu(case: Any) -> None:
    references = {"text": [text or "no" for text in case.sentences(40, 8)]}
    base = case.variant("base", task="translation", input_kind="text")
    folder = case.folder(references, [base, case.variant("new", size_bytes=200_000)], task="translation")
    heard = case.garble(references["text"], 0.2, 4)
    folder.write_texts("base", references)
    folder.write_texts("new", {"text": heard})
    summary = summarise(folder.path)
    new = summary.variants[1].pooled
    assert [m.name for m in summary.metrics] == ["chrf", "bleu", "copied"]
    assert new.metrics["chrf"].value == pytest.approx(CHRF().corpus_score(heard, [references["text"]]).score / 100)
    assert new.metrics["bleu"].value == pytest.approx(BLEU().corpus_score(heard, [references["text"]]).score / 100)
    change = new.differences["chrf"].estimate
    assert change.value < 0
    assert change.high < 0
    assert "lower character n-gram F-score" in summary.headline
    assert summary.variants[1].fronts["size"] is True
    assert summary.variants[0].fronts["size"] is True
    worst = summary.worst["new"]
    sentence = CHRF().sentence_score(worst[0].hypothesis, [worst[0].reference]).score
    assert worst[0].errors == pytest.approx(1 - sentence / 100)
    assert [one.errors for one in worst] == sorted((one.errors for one in worst), reverse=True)


def test_one_variant_alone_and_one_utterance(case: Any) -> None:
    folder = case.folder({"m": ["the sea"]}, ["only"])
    folder.write_texts("only", {"m": ["the see"]})
    summary = summarise(folder.path)
    (only,) = summary.variants
    assert (only.pooled.metrics["wer"].value, only.pooled.metrics["wer"].low) == (0.5, None)
    assert "nothing to compare" in summary.headline
    assert summary.chosen == "only"
    assert summary.regressions == summary.improvements == {"only": ()}
    assert summary.verdict is None


def test_only_empty_references_give_no_rate(case: Any) -> None:
    folder = case.folder({"m": ["", "..."]}, ["a", "b"])
    for name in ("a", "b"):
        folder.write_texts(name, {"m": ["two words", ""]})
    summary = summarise(folder.path)
    assert summary.variants[0].pooled.metrics["wer"].value is None
    assert summary.variants[0].pooled.words.insertions == 2
    assert summary.variants[1].pooled.differences["wer"].p_value is None
    assert "No word error rate" in summary.headline
