"""What counts as the same text, and what is shown of a line or a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation import EvalOptions, evaluate
from kdcompress_evaluation.metrics import Copied, ExactMatch
from kdcompress_evaluation.rows import Row
from kdcompress_evaluation.scoring import NORMALISERS, character_diff

if TYPE_CHECKING:
    from pathlib import Path

QUICK = EvalOptions(resamples=1000, speed_utterances=0)


@pytest.mark.parametrize(
    ("text", "case", "nocase", "alnum"),
    [
        ("Total:  RM 9.90", "Total: RM 9.90", "total: rm 9.90", "totalrm990"),
        (" \uff21bc \u2460 ", "Abc 1", "abc 1", "abc1"),
        ("caf\u00e9 No.7", "caf\u00e9 No.7", "caf\u00e9 no.7", "caf\u00e9no7"),
        ("\u0130stanbul", "\u0130stanbul", "i\u0307stanbul", "i\u0307stanbul"),
        ("...", "...", "...", ""),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940",
         "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
    ],
)  # fmt: skip
def test_rules_for_case_punctuation_and_spaces(text: str, case: str, nocase: str, alnum: str) -> None:
    for name, expected in (("case", case), ("nocase", nocase), ("alnum", alnum)):
        found = NORMALISERS[name].apply(text)
        assert found == expected
        assert NORMALISERS[name].apply(found) == found


def test_every_rule_names_case_punctuation_and_spaces() -> None:
    for name in ("case", "nocase", "alnum"):
        told = NORMALISERS[name].description
        assert all(word in told for word in ("case", "punctuation", "space"))


def test_exact_match_is_one_minus_the_lines_that_are_wrong() -> None:
    references, hypotheses = ["No.7", "a b", "x"], ["no.7", "ab", "x"]
    for name, right in (("case", 1), ("nocase", 2), ("alnum", 3)):
        metric = ExactMatch(NORMALISERS[name])
        assert metric.value(metric.statistics(references, hypotheses).sum(axis=0)) == pytest.approx(right / 3)
        assert not metric.info.lower_is_better


def test_characters_are_laid_side_by_side() -> None:
    found = character_diff("RM 9.90", "rn 9,9", NORMALISERS["nocase"])
    assert "".join(piece.reference for piece in found) == "rm 9.90"
    assert "".join(piece.hypothesis for piece in found) == "rn 9,9"
    assert [(p.kind, p.reference, p.hypothesis) for p in found if p.kind != "equal"] == [
        ("substitute", "m", "n"),
        ("substitute", ".", ","),
        ("delete", "0", ""),
    ]


def test_copied_words_are_those_of_the_source() -> None:
    rows = [
        Row(id="1", index=0, reference="Tom \u00e4r h\u00e4r.", input="Tom is here.", hypothesis="tom is h\u00e4r"),
        Row(id="2", index=1, reference="Ja.", input="Yes.", hypothesis=""),
    ]
    metric = Copied()
    counts = metric.of_rows(rows)
    assert counts.tolist() == [[2, 3, 1, 3], [0, 0, 0, 1]]
    assert metric.value(counts.sum(axis=0)) == pytest.approx(2 / 3)
    assert metric.costs(counts).tolist() == [2, 0]


def test_a_report_of_lines(tasks: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    summary = evaluate([tasks.lines], {"lines": tasks.manifests["lines"]}, output, QUICK)
    pooled = summary.variants[0].pooled
    assert pooled.failures == 0
    # "bed 1" is read as "bed", "a b" as "a c"; case does not count.
    assert pooled.metrics["ser"].value == pytest.approx(2 / 6)
    assert pooled.metrics["exact"].value == pytest.approx(4 / 6)
    assert (pooled.characters.substitutions, pooled.characters.deletions) == (1, 2)
    fields = {part.field for part in summary.slices}
    assert {"image height", "image width", "characters", "digits in it"} <= fields
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') >= 2
    assert "nocase 1" in page
    assert "bed 1" in page
    cased = evaluate(
        [tasks.lines],
        {"lines": tasks.manifests["lines"]},
        output,
        EvalOptions(resamples=1000, speed_utterances=0, normaliser="case"),
    )
    assert cased.variants[0].pooled.metrics["exact"].value == pytest.approx(3 / 6)


def test_a_report_of_sentences(tasks: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    summary = evaluate([tasks.pairs], {"pairs": tasks.manifests["pairs"]}, output, QUICK)
    assert {"chrf", "bleu", "copied"} == set(summary.variants[0].pooled.metrics)
    assert any("stand in the source" in note for note in summary.notes)
    assert {part.field for part in summary.slices} == {"source words"}
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "nrefs:1|case:mixed" in page
    assert page.count('<span class="tag">source</span>') >= 2
