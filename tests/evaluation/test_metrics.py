from __future__ import annotations

import builtins
import importlib
import random
import sys

import jiwer
import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from kdcompress_evaluation.metrics import Metric, metrics_for
from kdcompress_evaluation.scoring import NORMALISERS, ErrorCounts, plain, score
from kdcompress_runtime.errors import MissingDependencyError, OptionsError

PLAIN = NORMALISERS["plain"]
TEXT = """the quick brown fox, jumps over lazy dogs . Straße ÜBER naïve cafe\u0301 café İstanbul don\u2019t it's 12,5 %
東京 で 会いましょう привет 🙂 x — «guillemets» e.g. U.S.A. ﬁn"""
WORDS = TEXT.split()


def texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """References and hypotheses with every kind of error; some of either are empty."""
    rng = random.Random(seed)
    references = [" ".join(rng.choices(WORDS, k=rng.choice([0, 1, 3, 8, 20]))) for _ in range(count)]
    hypotheses = []
    for reference in references:
        kept = [rng.choice(WORDS) if rng.random() < 0.15 else word for word in reference.split() if rng.random() > 0.1]
        kept += rng.choices(WORDS, k=rng.choice([0, 0, 0, 1, 2]))
        hypotheses.append("" if rng.random() < 0.05 else " ".join(kept))
    return references, hypotheses


def by_name(task: str) -> dict[str, Metric]:
    return {metric.info.name: metric for metric in metrics_for(task, PLAIN)}


REFERENCES, HYPOTHESES = texts(250, 0)


def test_the_first_metric_of_each_task_decides() -> None:
    assert [m.info.name for m in metrics_for("speech", PLAIN)] == ["wer", "cer", "ser"]
    assert [m.info.name for m in metrics_for("scene_text", PLAIN)] == ["ser", "cer"]
    assert [m.info.name for m in metrics_for("translation", PLAIN)] == ["chrf", "bleu"]
    assert {m.info.lower_is_better for m in metrics_for("translation", PLAIN)} == {False}
    with pytest.raises(OptionsError, match="no metrics for task 'chess'"):
        metrics_for("chess", PLAIN)


def test_error_rates_are_jiwers() -> None:
    found = by_name("speech")
    wanted, heard = [plain(t) for t in REFERENCES], [plain(t) for t in HYPOTHESES]
    words = found["wer"].statistics(REFERENCES, HYPOTHESES)
    expected = jiwer.process_words(wanted, heard)
    assert words[:, 0].sum() == expected.substitutions
    assert words[:, 1].sum() == expected.deletions
    assert words[:, 2].sum() == expected.insertions
    assert words[:, 3].sum() == expected.hits + expected.substitutions + expected.deletions
    assert found["wer"].value(words.sum(axis=0)) == pytest.approx(jiwer.wer(wanted, heard), abs=1e-12)
    characters = found["cer"].statistics(REFERENCES, HYPOTHESES)
    assert found["cer"].value(characters.sum(axis=0)) == pytest.approx(jiwer.cer(wanted, heard), abs=1e-12)
    assert ErrorCounts.of(words.sum(axis=0)) == sum(
        (s.words for s in score(REFERENCES, HYPOTHESES, PLAIN)), ErrorCounts()
    )


def test_exact_match_is_of_normalised_texts() -> None:
    ser = by_name("scene_text")["ser"]
    statistics = ser.statistics(["Exit!", "a b", "", ""], ["exit", "a c", "", "x"])
    assert statistics[:, 0].tolist() == [0, 1, 0, 1]
    assert ser.value(statistics.sum(axis=0)) == 0.5
    assert ser.trials(statistics.sum(axis=0)) == 4


@pytest.mark.parametrize(("name", "scorer"), [("chrf", CHRF()), ("bleu", BLEU())])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_sacrebleus(name: str, scorer: CHRF | BLEU, seed: int) -> None:
    metric = by_name("translation")[name]
    references, hypotheses = texts(120, seed)
    statistics = metric.statistics(references, hypotheses)
    whole = scorer.corpus_score(hypotheses, [references]).score / 100
    assert metric.value(statistics.sum(axis=0)) == pytest.approx(whole, abs=1e-12)
    assert f"{scorer.get_signature()}" in metric.info.scorer
    # Sums of draws, down to single segments: no match of some order, no n-gram of some order, empty hypotheses.
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, 120, rng.integers(1, 4)) for _ in range(200)]
    values = metric.value(np.array([statistics[rows].sum(axis=0) for rows in drawn]))
    for rows, value in zip(drawn, values, strict=True):
        expected = scorer.corpus_score([hypotheses[i] for i in rows], [[references[i] for i in rows]]).score / 100
        if any(references[i].strip() for i in rows):
            assert value == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(value)


def test_batches_give_the_rows_of_the_whole() -> None:
    for task in ("speech", "scene_text", "translation"):
        for metric in metrics_for(task, PLAIN):
            whole = metric.statistics(REFERENCES, HYPOTHESES)
            assert whole.shape == (len(REFERENCES), len(metric.columns))
            assert whole.dtype == np.float64
            parts = [metric.statistics(REFERENCES[k : k + 60], HYPOTHESES[k : k + 60]) for k in range(0, 250, 60)]
            assert np.array_equal(np.concatenate(parts), whole)
            assert metric.statistics([], []).shape == (0, len(metric.columns))
            stacked = np.stack([whole.sum(axis=0), whole[:9].sum(axis=0)]).reshape(2, 1, -1)
            assert metric.value(stacked).shape == (2, 1)


def test_empty_references_are_insertions_and_have_no_value_alone() -> None:
    for task in ("speech", "translation"):
        for metric in metrics_for(task, PLAIN):
            if metric.info.name != "ser":
                assert np.isnan(metric.value(metric.statistics([""], ["two words"]).sum(axis=0)))
    words = by_name("speech")["wer"].statistics(["", "a b c d"], ["two words", "a b c d"])
    assert words[0].tolist() == [0, 0, 2, 0]
    assert by_name("speech")["wer"].value(words.sum(axis=0)) == 0.5


def test_costs_rank_utterances() -> None:
    references, hypotheses = ["a b c d", "a b c d", "", "a b c d"], ["a b c d", "a x c", "z", ""]
    assert by_name("speech")["wer"].costs(by_name("speech")["wer"].statistics(references, hypotheses)).tolist() == [
        0,
        2,
        1,
        4,
    ]
    for metric in metrics_for("translation", PLAIN):
        same, changed, nothing, missed = metric.costs(metric.statistics(references, hypotheses))
        assert same == pytest.approx(0, abs=1e-12)
        assert same < changed <= missed == 1
        assert nothing == 0


def test_translation_without_sacrebleu_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def missing(name: str, *rest: object, **more: object) -> object:
        if name.split(".", maxsplit=1)[0] == "sacrebleu":
            raise ModuleNotFoundError(name)
        return find(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "kdcompress_evaluation.translation_metrics", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kdcompress\[eval\]'"):
        metrics_for("translation", PLAIN)
    monkeypatch.undo()
    importlib.import_module("kdcompress_evaluation.translation_metrics")
