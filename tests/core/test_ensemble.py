"""Several teachers: who is asked, what becomes of the answers, and whole runs with each way to combine."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from kdcompress.distill import fit, loss_of
from kdcompress.errors import RecipeError
from kdcompress.losses.base import TeacherSignals
from kdcompress.run import RunFolder, load_run
from kdcompress.teachers.ensemble import Hybrid, Interpolation, MultiStream, Single, Situation, Switching
from kdcompress.teachers.run_teacher import RunTeacher
from kdcompress.trainer import setup

ITEMS, FRAMES, TOKENS = 3, 6, 4
LENS = torch.tensor([6, 4, 5])
LABELS = torch.tensor([[1, 2, 2], [3, 0, 0], [0, 0, 0]])
LABEL_LENS = torch.tensor([3, 1, 0])


def log_probs(seed: int, items: int = ITEMS, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(items, FRAMES, TOKENS, generator=generator)).log_softmax(2)


def situation(**changed) -> Situation:
    standing = {
        "step": 0,
        "progress": 0.0,
        "seed": 1,
        "dev_error": (None,) * 3,
        "streams": torch.zeros(ITEMS, dtype=torch.int64),
        "frame_lens": LENS,
        "labels": LABELS,
        "label_lens": LABEL_LENS,
        "blank_id": 0,
    }
    return Situation(**{**standing, **changed})


class Teacher:
    """Answers with fixed log-probabilities, and remembers what it was asked."""

    def __init__(self, said: torch.Tensor) -> None:
        self.said = said
        self.asked = []

    def __call__(self, items: torch.Tensor | None) -> TeacherSignals:
        self.asked.append(None if items is None else items.tolist())
        return TeacherSignals(self.said if items is None else self.said[items])


@pytest.fixture
def three():
    return [Teacher(log_probs(seed)) for seed in range(3)]


def test_a_single_teacher_is_passed_on_as_it_is(three):
    assert Single()(three[:1], situation()).log_probs is three[0].said


@pytest.mark.parametrize(
    "settings",
    [{"schedule": "random"}, {"schedule": "round_robin"}, {"schedule": "accuracy", "sharpness": 2.0}],
    ids=lambda settings: settings["schedule"],
)
def test_switching_asks_one_teacher_a_batch_for_the_whole_batch(three, settings):
    switching = Switching(**settings)
    for step in range(30):
        before = [len(teacher.asked) for teacher in three]
        now = situation(step=step, progress=step / 30, dev_error=(5.0, 6.0, 7.0))
        found = switching(three, now).log_probs
        asked = [index for index, teacher in enumerate(three) if len(teacher.asked) > before[index]]
        assert asked == [switching.turn(3, now)]
        assert found is three[asked[0]].said
    assert all(teacher.asked and set(teacher.asked) == {None} for teacher in three)


def test_round_robin_is_the_order_of_the_teachers():
    switching = Switching(schedule="round_robin")
    assert [switching.turn(3, situation(step=step)) for step in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def turns(switching: Switching, steps: int = 2000, **changed) -> np.ndarray:
    return np.array([switching.turn(3, situation(step=step, **changed)) for step in range(steps)])


def shares(found: np.ndarray) -> np.ndarray:
    return np.bincount(found, minlength=3) / len(found)


def test_random_turns_are_even_and_follow_from_seed_and_step():
    first, again, other = (turns(Switching(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.mean(first == other) < 0.5
    np.testing.assert_allclose(shares(first), 1 / 3, atol=0.04)
    assert np.mean(first[1:] == first[:-1]) < 0.5  # no runs of one teacher


def test_turns_by_accuracy_are_even_at_first_and_favour_the_better_at_the_end():
    errors = (14.0, 10.0, 22.0)
    switching = Switching(schedule="accuracy", sharpness=4.0)
    begin, middle, end = (shares(turns(switching, dev_error=errors, progress=done)) for done in (0.0, 0.5, 1.0))
    best = np.exp([-1, 0, -3])  # one, none, three times the sharpness behind the best
    np.testing.assert_allclose(begin, 1 / 3, atol=0.04)
    np.testing.assert_allclose(end, best / best.sum(), atol=0.04)
    np.testing.assert_allclose(middle, (begin + end) / 2, atol=0.06)
    assert end[1] > end[0] > end[2]
    sharper = shares(turns(Switching(schedule="accuracy", sharpness=1.0), dev_error=errors, progress=1.0))
    assert sharper[1] > end[1]
    assert np.array_equal(
        turns(switching, 50, dev_error=errors, progress=0.7), turns(switching, 50, dev_error=errors, progress=0.7)
    )


def test_by_accuracy_needs_an_error_of_every_teacher(three):
    with pytest.raises(ValueError, match="an Oracle Teacher has none"):
        Switching(schedule="accuracy")(three, situation(dev_error=(5.0, None, 3.0)))
    Switching(schedule="accuracy").check_errors((5.0, 0.0))
    Switching(schedule="random").check_errors((5.0, None))


def test_multi_stream_gives_each_item_the_answer_of_its_own_teacher(three):
    streams = torch.tensor([2, 0, 2])
    found = MultiStream()(three, situation(streams=streams)).log_probs
    for item, stream in enumerate(streams.tolist()):
        assert torch.equal(found[item], three[stream].said[item])
    assert [teacher.asked for teacher in three] == [[[1]], [], [[0, 2]]]  # each for its items, or not at all


def test_multi_stream_refuses_items_of_no_teacher(three):
    with pytest.raises(ValueError, match="no item of the batch belongs to a stream"):
        MultiStream()(three, situation(streams=torch.tensor([3, 4, 5])))


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 5.0), (0.0, 3.0, 1.0)])
@pytest.mark.parametrize("average", ["prob", "log"])
def test_interpolation_is_the_weighted_average(three, weights, average):
    found = Interpolation(weights=weights, average=average)(three, situation()).log_probs
    said = np.stack([teacher.said.double().numpy() for teacher in three])
    factors = np.array(weights or (1.0,) * 3)[:, None, None, None]
    factors = factors / factors.sum()
    if average == "prob":
        expected = np.log((factors * np.exp(said)).sum(0))
    else:
        product = np.exp((factors * said).sum(0))
        expected = np.log(product / product.sum(2, keepdims=True))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found.exp().sum(2), torch.ones(ITEMS, FRAMES))
    assert all(teacher.asked == [None] for teacher in three)


@pytest.mark.parametrize("average", ["prob", "log"])
def test_interpolation_of_a_teacher_with_itself_changes_nothing(average):
    one = Teacher(log_probs(0, scale=20.0))  # as sure of itself as a trained one
    found = Interpolation(weights=(0.3, 0.7), average=average)([one, one], situation()).log_probs
    torch.testing.assert_close(found, one.said, atol=1e-4, rtol=1e-5)


def enumerated(said: np.ndarray, labels: list[int]) -> np.ndarray:
    """Occupancy ``(T, U)`` by writing down every path that spells the labels."""
    occupancy, total = np.zeros((len(said), len(labels))), 0.0
    for path in itertools.product(range(said.shape[1]), repeat=len(said)):
        runs, place, before = [], [], 0
        for token in path:
            if token and token != before:
                runs.append(token)
            place.append(len(runs) - 1 if token else None)
            before = token
        if runs != labels:
            continue
        probability = np.exp(sum(said[t, token] for t, token in enumerate(path)))
        total += probability
        for t, label in enumerate(place):
            if label is not None:
                occupancy[t, label] += probability
    return occupancy / total


def test_hybrid_takes_where_from_the_first_teacher_and_what_from_the_second():
    where, what = log_probs(4), log_probs(5)
    found = Hybrid()([Teacher(where), Teacher(what)], situation()).log_probs.exp().double().numpy()
    for item, (frames, length) in enumerate(zip(LENS.tolist(), LABEL_LENS.tolist(), strict=True)):
        labels = LABELS[item, :length].tolist()
        first, second = (said[item, :frames].double().numpy() for said in (where, what))
        occupied, heard = enumerated(first, labels), enumerated(second, labels)
        expected = np.zeros((frames, TOKENS))
        expected[:, 0] = 1 - occupied.sum(1)
        for label in range(length):
            share = heard[:, label] / heard[:, label].sum()
            classes = share @ np.exp(second)
            classes[0] = 0
            expected += occupied[:, label, None] * classes / classes.sum()
        np.testing.assert_allclose(found[item, :frames], expected, atol=1e-5)


def sure(tokens: list[int], confidence: float = 12.0) -> torch.Tensor:
    """An answer that is all but certain of one token a frame, ``(1, T, V)``."""
    scores = torch.zeros(1, len(tokens), TOKENS)
    scores[0, range(len(tokens)), tokens] = confidence
    return scores.log_softmax(2)


def test_hybrid_of_teachers_that_spike_at_different_times():
    """Where the first is sure of a label, and what the second confuses it with, two frames later."""
    late = sure([0, 0, 0, 1, 0, 2])
    late[0, 3] = torch.tensor([0.05, 0.6, 0.05, 0.3]).log()
    one = situation(
        frame_lens=torch.tensor([6]), labels=torch.tensor([[1, 2]]), label_lens=torch.tensor([2]), blank_id=0
    )
    found = Hybrid()([Teacher(sure([0, 1, 0, 0, 2, 0])), Teacher(late)], one).log_probs.exp()[0]
    assert found.argmax(dim=1).tolist() == [0, 1, 0, 0, 2, 0]
    torch.testing.assert_close(found[1], torch.tensor([0.0, 0.6, 0.05, 0.3]) / 0.95, atol=1e-3, rtol=0.0)
    assert found[4, 2] > 0.99
    assert (found[[0, 2, 3, 5], 0] > 0.99).all()


@pytest.mark.parametrize("scale", [0.5, 3.0, 12.0])
def test_hybrid_sums_to_one_and_padding_tells_nothing(scale):
    where, what = log_probs(6, scale=scale), log_probs(7, scale=scale)
    found = Hybrid()([Teacher(where), Teacher(what)], situation()).log_probs
    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().sum(2), torch.ones(ITEMS, FRAMES), atol=1e-4, rtol=0.0)
    for item, frames in enumerate(LENS.tolist()):
        assert found[item, frames:, 0].exp().allclose(torch.ones(FRAMES - frames))
        where[item, frames:], what[item, frames:] = log_probs(8)[item, frames:], log_probs(9)[item, frames:]
    garbage = LABELS.clone()
    garbage[1, 1:] = 2
    again = Hybrid()([Teacher(where), Teacher(what)], situation(labels=garbage)).log_probs
    torch.testing.assert_close(again, found)
    assert found[2, :, 0].exp().allclose(torch.ones(FRAMES))  # an empty reference is blank throughout


def test_hybrid_is_as_exact_inside_autocast():
    """Targets are asked for inside the accelerator's autocast; the arithmetic on them stays in float32."""
    two = [Teacher(log_probs(10)), Teacher(log_probs(11))]
    plain = Hybrid()(two, situation()).log_probs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Hybrid()(two, situation()).log_probs
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, plain)


@pytest.mark.parametrize(
    ("settings", "teachers", "words"),
    [
        ({"kind": "single"}, 2, "single is for one teacher, but there are 2"),
        ({"kind": "switching"}, 1, "switching needs two teachers or more"),
        ({"kind": "multi_stream"}, 1, "multi_stream needs two teachers or more"),
        ({"kind": "interpolation"}, 1, "interpolation needs two teachers or more"),
        ({"kind": "interpolation", "weights": [1, 2, 3]}, 2, "combine.weights has 3 numbers for 2 teachers"),
        ({"kind": "interpolation", "weights": [0, 0]}, 2, "combine.weights are all zero"),
        ({"kind": "interpolation", "weights": [2, -1]}, 2, "combine.weights.1: .* greater than or equal to 0"),
        ({"kind": "interpolation", "average": "mean"}, 2, "combine.average: .* 'prob' or 'log'"),
        ({"kind": "hybrid"}, 1, "hybrid takes two teachers, where and what, but there are 1"),
        ({"kind": "hybrid"}, 3, "hybrid takes two teachers, where and what, but there are 3"),
        ({"kind": "switching", "sharpness": 0}, 2, "combine.sharpness: .* greater than 0"),
    ],
)
def test_settings_that_do_not_fit_the_teachers(make_recipe, taught, settings, teachers, words):
    with pytest.raises(RecipeError, match=words):
        make_recipe("student", *taught(*["runs/t"] * teachers, combine=settings))


# whole runs

COMBINATIONS = {
    "random": {"kind": "switching"},
    "round_robin": {"kind": "switching", "schedule": "round_robin"},
    "accuracy": {"kind": "switching", "schedule": "accuracy", "sharpness": 10.0},
    "multi_stream": {"kind": "multi_stream"},
    "prob": {"kind": "interpolation", "weights": [1, 3]},
    "log": {"kind": "interpolation", "average": "log"},
    "hybrid": {"kind": "hybrid"},
}


@pytest.fixture(scope="module")
def second(runs, tmp_path_factory):
    """Another conventional teacher: accuracy is only known of those that have not seen the answer."""
    folder = tmp_path_factory.mktemp("second") / "run"
    shutil.copytree(runs["conventional"], folder)
    summary = json.loads((folder / "run.json").read_text())
    summary["dev"]["wer"] = 25.0
    (folder / "run.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def combined(make_recipe, taught, runs, second):
    """``combined("hybrid", *overrides)``: recipe of a student of two teachers."""

    def make(name, *overrides, **train):
        pair = (second if name == "accuracy" else runs["oracle"], runs["conventional"])
        return make_recipe("student", *taught(*pair, combine=COMBINATIONS[name]), *overrides, **{"steps": 3, **train})

    return make


@pytest.fixture
def asked(monkeypatch):
    """Every question to a teacher: its folder, and how many items it was asked about (None: the whole batch)."""
    seen = []

    def answer(teacher, heard, items=None):
        seen.append((teacher.info.source, None if items is None else len(items)))
        return answering(teacher, heard, items)

    answering = RunTeacher.answer
    monkeypatch.setattr(RunTeacher, "answer", answer)
    return seen


def scalars_of(recipe, folder, stop=None):
    """Scalars of each update; ``stop``: interrupt after this one."""
    seen = []

    def progress(done, steps, scalars):
        seen.append(scalars)
        if done == stop:
            raise KeyboardInterrupt

    fit(recipe, folder, progress)
    return seen


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_student_of_two_teachers_interrupted_and_resumed(combined, asked, tmp_path, name):
    recipe = combined(name, checkpoint_every=1)
    seen = scalars_of(recipe, tmp_path / "whole")
    assert all(np.isfinite(scalars["frame_kl"]) and scalars["frame_kl"] > 0 for scalars in seen)
    questions = list(asked)
    with pytest.raises(KeyboardInterrupt):
        scalars_of(recipe, tmp_path / "parts", stop=3)  # the checkpoint is that of the second update
    assert asked[len(questions) :] == questions
    del asked[:]
    assert scalars_of(recipe, tmp_path / "parts") == seen[2:]
    assert asked
    assert asked == questions[-len(asked) :]
    one, two = (RunFolder(tmp_path / part).weights.read_bytes() for part in ("whole", "parts"))
    assert one == two
    summary = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert len(summary["teachers"]) == 2
    assert load_run(tmp_path / "whole").recipe.distill.combine.kind == COMBINATIONS[name]["kind"]


def test_who_is_asked_in_a_run(combined, asked, runs, tmp_path):
    oracle, conventional = runs["oracle"], runs["conventional"]
    scalars_of(combined("round_robin"), tmp_path / "round_robin")
    assert asked == [(oracle, None), (conventional, None), (oracle, None)]
    del asked[:]
    scalars_of(combined("random", steps=12), tmp_path / "random")
    assert len(asked) == 12  # one teacher a batch
    assert {path for path, _ in asked} == {oracle, conventional}
    del asked[:]
    scalars_of(combined("prob"), tmp_path / "prob")
    assert Counter(asked) == {(oracle, None): 3, (conventional, None): 3}
    del asked[:]
    # 12 items, each once a teacher, in batches of 4: every item is answered for once by each
    scalars_of(combined("multi_stream", steps=6), tmp_path / "multi_stream")
    items = Counter()
    for path, count in asked:
        items[path] += count
    assert items == {oracle: 12, conventional: 12}


def test_both_teachers_count(combined, make_recipe, taught, runs, tmp_path):
    """The targets of two are those of neither, and a teacher interpolated with itself is that teacher."""
    first = {}
    twice = make_recipe("student", *taught(runs["oracle"], runs["oracle"], combine=COMBINATIONS["prob"]), steps=3)
    recipes = {name: combined(name) for name in ("prob", "log", "hybrid", "multi_stream")}
    recipes |= {kind: make_recipe("student", *taught(runs[kind]), steps=3) for kind in ("oracle", "conventional")}
    for name, recipe in {**recipes, "twice": twice}.items():
        trainer = setup(recipe, RunFolder(tmp_path / name))
        first[name] = loss_of(trainer, trainer.model.eval(), trainer.batches[0], 0)[1]["frame_kl"].item()
    assert first["twice"] == pytest.approx(first["oracle"], rel=1e-5)
    assert len({round(value, 5) for name, value in first.items() if name != "twice"}) == len(first) - 1


HEADS = [
    {"kind": "inter_ctc", "layers": [0], "own": 0.5, "weight": 0.3},
    {"kind": "in_place", "heads": 2, "layer": -1, "label_mask_prob": 0.3, "weight": 0.2},
    {"kind": "cr_ctc"},
]


@pytest.mark.parametrize("name", ["multi_stream", "hybrid", "random"])
def test_with_heads_and_two_views_interrupted_and_resumed(combined, asked, tmp_path, name):
    losses = [{"kind": "ctc", "weight": 0.5}, {"kind": "frame_kl", "weight": 0.5, "delay_frames": 1}, *HEADS]
    recipe = combined(name, f"losses={json.dumps(losses)}", checkpoint_every=1)
    seen = scalars_of(recipe, tmp_path / "whole")
    assert set(seen[0]) == {"loss", "ctc", "frame_kl", "inter_ctc", "in_place", "cr_ctc"}
    assert all(np.isfinite(list(scalars.values())).all() for scalars in seen)
    if name == "multi_stream":  # both views of an item are of one stream
        assert all(count % 2 == 0 for _, count in asked)
    with pytest.raises(KeyboardInterrupt):
        scalars_of(recipe, tmp_path / "parts", stop=2)
    assert scalars_of(recipe, tmp_path / "parts") == seen[1:]
    one, two = (RunFolder(tmp_path / part).weights.read_bytes() for part in ("whole", "parts"))
    assert one == two


def test_accuracy_over_a_teacher_that_has_seen_the_answer(make_recipe, taught, runs, tmp_path):
    recipe = make_recipe("student", *taught(runs["conventional"], runs["oracle"], combine=COMBINATIONS["accuracy"]))
    with pytest.raises(RecipeError, match=r"distill\.combine: schedule accuracy needs .* an Oracle Teacher has none"):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_teachers_that_do_not_share_their_tokens(make_recipe, taught, runs, corpus, tmp_path):
    rows = [json.loads(line) for line in corpus["train"].read_text().splitlines()]
    rows = [{**row, "audio_filepath": str(corpus["train"].parent / row["audio_filepath"])} for row in rows]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(json.dumps({**row, "text": row["text"] + "d"}) + "\n" for row in rows))
    fit(make_recipe("conventional", f"data.train={manifest}", "data.dev=null", steps=1), tmp_path / "more")
    recipe = make_recipe("student", *taught(runs["oracle"], tmp_path / "more", combine=COMBINATIONS["prob"]))
    summary = fit(recipe, tmp_path / "run")
    assert "bridged" not in summary["teachers"][0]
    assert "'d'" in " ".join(summary["teachers"][1]["bridged"])
    assert np.isfinite(summary["dev"]["ctc"])


def test_a_teacher_of_other_frames_is_brought_to_the_first(make_recipe, taught, runs, tmp_path):
    fit(make_recipe("conventional", "model.subsampling_factor=2", "data.dev=null", steps=1), tmp_path / "fast")
    recipe = make_recipe("student", *taught(runs["oracle"], tmp_path / "fast", combine=COMBINATIONS["prob"]))
    summary = fit(recipe, tmp_path / "run")
    assert "20 ms" in " ".join(summary["teachers"][1]["bridged"])
    assert np.isfinite(summary["dev"]["ctc"])
