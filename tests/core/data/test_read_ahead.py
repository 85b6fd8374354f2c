"""Threads that read the next batches change nothing but the time; batches by seconds through whole trainings."""

from __future__ import annotations

import threading

import pytest
import torch
import yaml

from kdcompress.data.read_ahead import AHEAD, read_ahead
from kdcompress.data.speech import TrainingBatches
from kdcompress.distill import fit
from kdcompress.errors import RecipeError
from kdcompress_runtime.errors import AudioError

SECONDS = ["augment.speed=[0.9, 1.0, 1.1]", "augment.lead_in_s=[0.0, 0.2]"]


class Counted:
    """Answers with the step, and counts what was asked for."""

    def __init__(self) -> None:
        self.asked: set[int] = set()
        self.threads: set[int] = set()

    def __getitem__(self, step):
        if step == 13:
            raise AudioError("item 13")
        self.asked.add(step)
        self.threads.add(threading.get_ident())
        return step


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_and_errors_are_those_of_reading_in_turn(workers):
    counted = Counted()
    assert list(read_ahead(counted, range(12), workers)) == list(range(12))
    reading = read_ahead(counted, range(10, 20), workers)
    assert [next(reading) for _ in range(3)] == [10, 11, 12]
    with pytest.raises(AudioError, match="item 13"):
        next(reading)
    assert (threading.get_ident() in counted.threads) == (workers == 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_read_than_may_wait_and_nothing_after_the_end(workers):
    counted = Counted()
    reading = read_ahead(counted, (step for step in range(100, 200)), workers)
    assert next(reading) == 100
    assert max(counted.asked) <= 100 + AHEAD * workers
    reading.close()
    assert max(counted.asked) <= 100 + AHEAD * workers
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def interrupt_after(step):
    def progress(done, *_):
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_workers_train_the_same_network(make_recipe, tmp_path):
    for workers in (0, 2):
        fit(make_recipe("student", f"data.workers={workers}", steps=3), tmp_path / str(workers))
    assert equal(weights(tmp_path / "0"), weights(tmp_path / "2"))
    kept = [yaml.safe_load((tmp_path / name / "recipe.yaml").read_text())["data"].get("workers") for name in "02"]
    assert kept == [None, 2]  # left out where it is the default: earlier checkpoints stay valid


def test_batches_by_seconds_are_bounded_as_they_are_heard(corpus, make_recipe, vocabulary):
    """With the slowest speed and the longest lead-in, too; short items go many at a time."""
    train = corpus["train"].with_name("eight times.jsonl")
    train.write_text(8 * corpus["train"].read_text())
    recipe = make_recipe("student", *SECONDS, f"data.train={train}", batch_seconds=4)
    made = TrainingBatches(recipe, vocabulary, units_per_frame=320)
    sizes = {}
    for step in range(40):
        inputs = made[step].inputs
        assert inputs.numel() <= 4 * 8000 + len(inputs)
        sizes.setdefault(len(inputs), inputs.shape[1])
    assert len(sizes) > 2
    assert sizes[max(sizes)] < sizes[min(sizes)]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_batch_by_seconds_as_evenly_as_can_be(make_recipe, vocabulary, world):
    recipe = make_recipe("student", *SECONDS, batch_seconds=6)
    whole = TrainingBatches(recipe, vocabulary, units_per_frame=320)
    shares = [TrainingBatches(recipe, vocabulary, units_per_frame=320, rank=r, world=world) for r in range(world)]
    for step in range(6):
        parts, full = [share[step] for share in shares], whole[step]
        counts = [len(part.texts) for part in parts]
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1
        for rank, part in enumerate(parts):
            assert part.items.tolist() == full.items.tolist()[rank::world]
            assert part.seeds == full.seeds[rank::world]


def test_too_few_seconds_for_the_processes_are_refused(make_recipe, vocabulary):
    recipe = make_recipe("student", batch_seconds=1)
    TrainingBatches(recipe, vocabulary, units_per_frame=320)
    with pytest.raises(
        RecipeError, match=r"train.batch_seconds 1 holds 1 of the longest items .* too few for 2 proces"
    ):
        TrainingBatches(recipe, vocabulary, units_per_frame=320, world=2)


def test_a_training_by_seconds_goes_on_in_the_middle_of_an_epoch(make_recipe, tmp_path):
    recipe = make_recipe("student", "data.workers=1", steps=5, batch_seconds=3, checkpoint_every=2)
    seen = {}

    def remember(name):
        return lambda step, _, scalars: seen.setdefault(name, {}).update({step: scalars["loss"]})

    fit(recipe, tmp_path / "whole", remember("whole"))
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "stopped", interrupt_after(4))
    fit(recipe, tmp_path / "stopped", remember("resumed"))
    assert seen["resumed"] == {step: seen["whole"][step] for step in seen["resumed"]}
    assert min(seen["resumed"]) == 3
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
