"""Where spikes are: made-up paths, pairing against all ways to pair, and what a run keeps of it."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.alignment import WITHIN_FRAMES, compare, measure_alignment, paired_offsets, spikes_of
from kdcompress.bridge import build_bridge
from kdcompress.distill import fit
from kdcompress.run import load_run
from kdcompress.sources import student_side
from kdcompress.targets import Source
from kdcompress.teachers.run_teacher import RunTeacher

BLANK, TOKENS, FRAMES = 1, 4, 20


def said(spikes: dict[int, int], frames: int = FRAMES, held: int = 1) -> torch.Tensor:
    """Log-probabilities of blank but for the tokens ``spikes`` by frame, each held for some frames."""
    scores = torch.zeros(frames, TOKENS)
    scores[:, BLANK] = 3
    for frame, token in spikes.items():
        scores[frame : frame + held, token] = 6
    return scores.log_softmax(dim=1)


def test_what_is_counted():
    """Four spikes: one on the frame, one three late, one early by one, and one that is missed; one is too many."""
    teacher = {2: 0, 6: 2, 10: 2, 15: 3}
    student = {2: 0, 9: 2, 14: 3, 18: 0}
    found = compare([(said(student), said(teacher))], BLANK, within_frames=5)
    assert (found.teacher_spikes, found.within_frames) == (4, 5)
    assert found.missed == 25
    # the student's 2 at frame 9 is nearer to the second of the teacher's
    assert found.moved == pytest.approx(100 * 2 / 3)
    assert found.mean_offset == pytest.approx((0 - 1 - 1) / 3)
    assert found.median_offset == -1
    assert found.mean_distance == pytest.approx(2 / 3)
    assert found.student_blank == found.teacher_blank == 80
    assert found.to_json() == {
        "within_frames": 5,
        "student_blank": 80.0,
        "teacher_blank": 80.0,
        "teacher_spikes": 4,
        "missed": 25.0,
        "moved": 66.667,
        "mean_offset": -0.667,
        "median_offset": -1.0,
        "mean_distance": 0.667,
    }


@pytest.mark.parametrize("delay", [-3, 0, 1, 7])
def test_a_student_that_is_late_by_a_constant(delay):
    teacher = {5: 0, 7: 2, 9: 2, 11: 3}
    student = {frame + delay: token for frame, token in teacher.items()}
    found = compare([(said(student), said(teacher))] * 3, BLANK)
    assert (found.missed, found.mean_offset, found.median_offset) == (0, delay, delay)
    assert found.mean_distance == abs(delay)
    assert found.moved == (100 if delay else 0)
    assert found.teacher_spikes == 12


def test_a_long_spike_is_one_at_its_first_frame():
    """Only blank or another token between two makes them two."""
    assert spikes_of([0, 0, 1, 0, 2, 2, 0, 1, 1], BLANK) == {0: [0, 3, 6], 2: [4]}
    assert spikes_of([1, 1], BLANK) == spikes_of([], BLANK) == {}
    found = compare([(said({4: 2}, held=5), said({4: 2}))], BLANK)
    assert (found.missed, found.moved, found.student_blank, found.teacher_blank) == (0, 0, 75, 95)


def test_nothing_to_pair_is_none_and_no_number():
    silent, spoken = said({}), said({3: 2})
    found = compare([(silent, spoken)], BLANK)
    assert (found.missed, found.moved, found.mean_offset, found.median_offset) == (100, None, None, None)
    found = compare([(spoken, silent)], BLANK)
    assert (found.teacher_spikes, found.missed, found.mean_distance) == (0, None, None)
    found = compare([], BLANK)
    assert (found.student_blank, found.missed) == (None, None)
    assert "NaN" not in json.dumps(found.to_json())


def test_another_token_or_one_too_far_away_is_missed():
    assert compare([(said({3: 2}), said({3: 0}))], BLANK).missed == 100
    assert compare([(said({13: 2}), said({3: 2}))], BLANK, within_frames=10).missed == 0
    assert compare([(said({13: 2}), said({3: 2}))], BLANK, within_frames=9).missed == 100


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="the student has 19 frames of an item, the teacher 20"):
        compare([(said({}, frames=19), said({}))], BLANK)


FRAMES_OF_SPIKES = st.lists(st.integers(0, 25), max_size=4, unique=True).map(sorted)


@settings(max_examples=60, deadline=None)
@given(FRAMES_OF_SPIKES, FRAMES_OF_SPIKES, st.integers(0, 12))
def test_pairs_are_the_best_of_all_ways_in_order(student, teacher, reach):
    best = (0, 0)
    for count in range(min(len(student), len(teacher)) + 1):
        for mine in itertools.combinations(student, count):
            for its in itertools.combinations(teacher, count):
                apart = [abs(a - b) for a, b in zip(mine, its, strict=True)]
                if all(distance <= reach for distance in apart):
                    best = max(best, (count, -sum(apart)))
    found = paired_offsets(student, teacher, reach)
    assert (len(found), -sum(map(abs, found))) == best


# ---- what a run keeps


@pytest.mark.parametrize("teacher", ["oracle", "conventional"])
def test_run_json_says_where_the_spikes_are(teacher, make_recipe, taught, runs, tmp_path):
    summary = fit(make_recipe("student", *taught(runs[teacher]), steps=2), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "run.json").read_text())["alignment"]
    assert found == summary["alignment"]
    assert found["within_frames"] == WITHIN_FRAMES
    assert all(value is None or math.isfinite(value) for value in found.values())
    assert 0 <= found["student_blank"] <= 100
    assert summary["losses"] == ["ctc", "frame_kl"]


def test_there_is_none_where_there_is_nothing_to_compare(make_recipe, taught, runs, tmp_path):
    """No dev, several teachers, or none."""
    both = taught(runs["oracle"], runs["conventional"], combine={"kind": "interpolation"})
    recipes = {
        "dev": make_recipe("student", "data.dev=null", *taught(runs["oracle"]), steps=1),
        "both": make_recipe("student", *both, steps=1),
        "labels": make_recipe("student", steps=1),
    }
    for name, recipe in recipes.items():
        assert "alignment" not in fit(recipe, tmp_path / name)


def test_a_network_beside_itself(make_recipe, runs):
    """Shown on dev, with padding: nothing is missed and nothing moved, and it is left in the mode it was in."""
    from kdcompress.data.task import TASKS

    run = load_run(runs["conventional"])
    network, task = run.network, TASKS[run.recipe.task]
    with torch.no_grad():
        network.head.bias[run.vocabulary.blank_id] -= 9  # so that there is something to see
    items = task.items(run.recipe.data.dev, run.recipe, run.vocabulary, network.units_per_frame)
    teacher = RunTeacher(run)
    side = student_side(run.recipe, run.vocabulary)
    source = Source(teacher, build_bridge(side, teacher.info, set(run.vocabulary.symbols[1:])))
    batches = task.evaluation_batches(items, run.recipe)
    network.eval()  # what a teacher is
    found = measure_alignment(network, source, run.recipe, batches, run.vocabulary.blank_id)
    assert not network.training
    network.train()
    batches = task.evaluation_batches(items, run.recipe)
    measure_alignment(network, source, run.recipe, batches, run.vocabulary.blank_id)
    assert network.training
    assert found.teacher_spikes > 0
    assert (found.missed, found.moved, found.mean_distance) == (0, 0, 0)
    assert found.student_blank == found.teacher_blank
