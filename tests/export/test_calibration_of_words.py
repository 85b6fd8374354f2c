"""Fitting and judging calibrations: slow references, known answers, halves that share no speaker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_export.decoder_tuning.calibration import (
    MAX_KNOTS,
    JudgedWords,
    apply,
    area_under_roc,
    cross_validate,
    expected_calibration_error,
    fit_calibration,
    right_words,
    split_in_halves,
)
from kdcompress_export.errors import ExportError


def drawn(count, seed, truth=lambda raw: raw):
    """Words whose probability of being right is ``truth(raw)``."""
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0, 1, count)
    return raw, rng.uniform(0, 1, count) < truth(raw)


def test_the_fit_finds_the_truth_and_stays_small():
    raw, right = drawn(20_000, 0, lambda raw: 0.1 + 0.6 * raw**2)
    found = fit_calibration(raw, right)
    assert len(found.raw) <= MAX_KNOTS
    at = np.linspace(0.1, 0.9, 9)
    assert apply(found, at) == pytest.approx(0.1 + 0.6 * at**2, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.99, 1.0]), st.booleans()), min_size=1, max_size=150))
def test_whatever_the_words_the_fit_is_monotone_and_never_certain(words):
    raw, right = np.array([one for one, _ in words]), np.array([one for _, one in words])
    found = apply(fit_calibration(raw, right), np.linspace(0, 1, 21))
    assert (np.diff(found) >= 0).all()
    assert 0 < found.min() <= found.max() < 1


def test_no_words_cannot_be_fitted():
    with pytest.raises(ExportError, match="no word was recognised"):
        fit_calibration(np.zeros(0), np.zeros(0, bool))


def test_error_of_calibration_is_the_mean_gap():
    confidence = np.repeat([0.2, 0.9], 50)
    right = np.array([True] * 10 + [False] * 40 + [True] * 30 + [False] * 20)
    assert expected_calibration_error(confidence, right) == pytest.approx((0 + 0.3) / 2)
    assert expected_calibration_error(np.ones(40), np.ones(40, bool)) == 0
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) == 0


def test_the_order_of_words_of_equal_confidence_does_not_count():
    confidence, right = np.full(40, 0.5), np.repeat([True, False], 20)
    assert expected_calibration_error(confidence, right) == expected_calibration_error(confidence, right[::-1])
    assert expected_calibration_error(confidence, right) == pytest.approx(0)


def test_area_under_roc_counts_pairs():
    rng = np.random.default_rng(0)
    confidence, right = rng.integers(0, 6, 60) / 5, rng.uniform(size=60) < 0.5
    pairs = [(good > bad) + 0.5 * (good == bad) for good in confidence[right] for bad in confidence[~right]]
    assert area_under_roc(confidence, right) == pytest.approx(np.mean(pairs))
    assert area_under_roc(confidence, np.ones(60, bool)) is None


def test_words_are_right_where_the_alignment_says_so():
    assert right_words("a b c d", ["a", "x", "c", "c", "d"]).tolist() in (
        [True, False, True, False, True],
        [True, False, False, True, True],
    )
    assert right_words("", ["a"]).tolist() == [False]
    assert right_words("a  b", []).tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_halves_share_no_speaker_and_are_about_as_large(seed):
    rng = np.random.default_rng(seed)
    speakers = [f"s{index}" for index in rng.integers(0, 9, 200)]
    sizes = rng.integers(1, 12, 200)
    first, kind = split_in_halves(speakers, sizes.tolist(), seed)
    assert kind == "speakers"
    assert not {s for s, here in zip(speakers, first, strict=True) if here} & {
        s for s, here in zip(speakers, first, strict=True) if not here
    }
    assert 0.4 < sizes[first].sum() / sizes.sum() < 0.6


@pytest.mark.parametrize("speakers", [[None] * 40, ["one"] * 40, ["one", None] * 20])
def test_without_speakers_the_halves_share_no_utterance(speakers):
    first, kind = split_in_halves(speakers, [3] * 40, 0)
    assert kind == "utterances"
    assert first.sum() == 20


def test_cross_validation_is_honest_about_chance():
    """Confidence says nothing: calibration must come to the base rate, not to a memory of the words."""
    rng = np.random.default_rng(0)
    raw, right = rng.uniform(0.9, 1, 2000), rng.uniform(size=2000) < 0.7
    found = cross_validate(JudgedWords(raw, right, np.arange(2000) // 5), [None] * 400)
    assert found.ece_raw > 0.2
    assert found.ece < 0.06
    assert found.auroc == pytest.approx(0.5, abs=0.05)
    assert found.sure_and_wrong_raw > 0.05
    assert found.sure_and_wrong == 0
    assert found.right == pytest.approx(0.7, abs=0.03)


def test_too_few_words_are_refused():
    with pytest.raises(ExportError, match="larger manifest"):
        cross_validate(JudgedWords(np.ones(10), np.ones(10, bool), np.zeros(10, int)), [None])
