"""Training runs: exact resume, interruption, what is written, and the errors of runs that do not fit."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from kdcompress.distill import fit, learning_rate, loss_of
from kdcompress.errors import MismatchError, RecipeError, RunError, TeacherError, TrainingDivergedError, VocabularyError
from kdcompress.files import replacing
from kdcompress.hearing import hear
from kdcompress.layers import count_parameters
from kdcompress.recipe import TrainConfig
from kdcompress.run import RunFolder, build_network, load_run, load_student
from kdcompress.targets import targets_of
from kdcompress.teachers.opening import open_teacher
from kdcompress.trainer import setup
from kdcompress_runtime.errors import KdcompressError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import sys, time
from pathlib import Path
import torch
from kdcompress.data.speech import TrainingBatches
from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe

torch.set_num_threads(1)

def hang(step, steps, scalars):
    if step == 5:
        print("ready", flush=True)
        time.sleep(600)

fit(load_recipe(sys.argv[1]), Path(sys.argv[2]), hang)
"""


def stop_at(step: int, how=lambda: os.kill(os.getpid(), signal.SIGINT)):
    """A progress callback that interrupts after ``step``; by Ctrl-C, unless told otherwise."""

    def progress(done: int, steps: int, scalars: dict) -> None:
        if done == step:
            how()

    return progress


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def weights(folder: Path) -> bytes:
    return RunFolder(folder).weights.read_bytes()


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in RunFolder(folder).metrics.read_text().splitlines()]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def variants(make_recipe, taught, runs):
    """Recipes whose randomness is of every kind: dropout, masks, hidden labels, targets of a teacher."""
    return {
        "distilled": make_recipe("student", *taught(runs["oracle"], weight=0.3)),
        "oracle": make_recipe("oracle", "model.label_mask_prob=0.4", "model.positions=both"),
    }


@pytest.fixture(scope="module")
def uninterrupted(variants, tmp_path_factory):
    """The same runs without a break, with every scalar of their callback."""
    done = {}
    for name, recipe in variants.items():
        folder, scalars = tmp_path_factory.mktemp("whole") / name, []
        summary = fit(recipe, folder, lambda step, steps, values, seen=scalars: seen.append((step, steps, values)))
        done[name] = folder, summary, scalars
    return done


@pytest.mark.parametrize("name", ["distilled", "oracle"])
@pytest.mark.parametrize(
    ("stops", "resumed_from"),
    [([stop_at(3)], 3), ([stop_at(6, raise_interrupt)], 4), ([stop_at(1), stop_at(6)], 6)],
    ids=["signal", "between checkpoints", "twice, the last time after the last update"],
)
def test_resumed_run_reaches_the_same_weights(variants, uninterrupted, tmp_path, name, *, stops, resumed_from):
    whole, expected, _ = uninterrupted[name]
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            fit(variants[name], tmp_path, stop)
    steps = []
    summary = fit(variants[name], tmp_path, lambda *progress: steps.append(progress[0]))
    assert steps == list(range(resumed_from + 1, 7))
    assert weights(tmp_path) == weights(whole)
    assert summary["dev"] == expected["dev"]
    one, two = ([{k: v for k, v in row.items() if k != "seconds"} for row in rows(f)] for f in (tmp_path, whole))
    assert one == two


def test_first_signal_writes_a_checkpoint_and_no_weights(variants, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit(variants["oracle"], tmp_path, stop_at(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    folder = RunFolder(tmp_path)
    assert folder.checkpoint.is_file()
    assert not folder.weights.exists()
    assert not folder.summary.exists()
    assert leftovers(tmp_path) == []
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(RunError, match="unfinished: repeat the command"):
        load_run(tmp_path)


def test_second_signal_stops_at_once(variants, tmp_path):
    seen = []

    def twice(step, steps, scalars):
        seen.append(step)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(variants["oracle"], tmp_path, twice)
    assert seen == [1]
    assert not RunFolder(tmp_path).checkpoint.exists()


def test_killed_process_resumes_to_the_same_weights(variants, uninterrupted, tmp_path):
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(variants["distilled"].dumps())
    command = [sys.executable, "-c", KILLED, str(recipe), str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as run:
        assert run.stdout.readline() == "ready\n"
        run.kill()
    assert run.returncode == -signal.SIGKILL
    assert RunFolder(folder).checkpoint.is_file()
    assert not RunFolder(folder).weights.exists()
    steps = []
    fit(variants["distilled"], folder, lambda *progress: steps.append(progress[0]))
    assert steps == [5, 6]
    assert weights(folder) == weights(uninterrupted["distilled"][0])
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4, 5, 6, 6]


def test_finished_run_is_returned_as_it_is(variants, uninterrupted):
    folder, summary, _ = uninterrupted["distilled"]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert fit(variants["distilled"], folder, stop_at(1, raise_interrupt)) == summary
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not RunFolder(folder).checkpoint.exists()
    assert leftovers(folder) == []


def test_run_of_another_recipe_is_left_alone(make_recipe, runs, tmp_path):
    before = weights(runs["student"])
    with pytest.raises(RunError, match="another recipe; choose another output folder"):
        fit(make_recipe("student", steps=4), runs["student"])
    assert weights(runs["student"]) == before
    with pytest.raises(KeyboardInterrupt):
        fit(make_recipe("student"), tmp_path, stop_at(1))
    with pytest.raises(RunError, match="another recipe"):
        fit(make_recipe("student", "seed=2"), tmp_path)


def rewritten(folder: Path, target: Path, change) -> Path:
    """Copy of a run whose ``recipe.yaml`` was changed by ``change(tree)``."""
    shutil.copytree(folder, target)
    tree = yaml.safe_load((folder / "recipe.yaml").read_text())
    change(tree)
    (target / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return target


def without_newer_keys(tree: dict) -> None:
    """As a version would have written it that knew neither losses nor teachers, nor some keys with a default."""
    del tree["losses"], tree["distill"], tree["augment"]["lead_in_s"], tree["model"]["dropout"]


def test_run_of_an_earlier_version_counts_as_the_same_recipe(make_recipe, runs, tmp_path):
    """Keys that it did not write yet have their defaults; the order of keys does not matter either."""
    recipe = make_recipe("student", steps=3)
    folder = rewritten(runs["student"], tmp_path / "run", without_newer_keys)
    assert (folder / "recipe.yaml").read_text() != (runs["student"] / "recipe.yaml").read_text()
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    assert fit(recipe, folder, stop_at(1, raise_interrupt)) == json.loads((folder / "run.json").read_text())
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before
    assert load_run(folder).recipe == recipe
    with pytest.raises(RunError, match="another recipe"):
        fit(make_recipe("student", "augment.lead_in_s=[0, 0.1]", steps=3), folder)


def test_run_whose_recipe_this_version_does_not_understand(make_recipe, runs, tmp_path):
    def as_before(tree: dict) -> None:
        tree["distill"] = {"teacher": "runs/oracle", "weight": 0.3}

    folder = rewritten(runs["student"], tmp_path / "run", as_before)
    with pytest.raises(RunError, match="cannot go on with; choose another output folder, or remove it") as problem:
        fit(make_recipe("student", steps=3), folder)
    for words in (str(folder / "recipe.yaml"), "unknown key 'distill.teacher'", "'losses.<kind>.weight'"):
        assert words in str(problem.value)
    assert weights(folder) == weights(runs["student"])
    with pytest.raises(RecipeError, match=r"recipe\.yaml: unknown key 'distill\.teacher'; did you mean 'teachers'"):
        load_run(folder)


def test_folder_with_other_things_is_left_alone(make_recipe, tmp_path):
    (tmp_path / "thesis.tex").write_text("done")
    with pytest.raises(RunError, match="not empty and holds no run"):
        fit(make_recipe("student"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "foreign"])
def test_damaged_checkpoint_is_named(make_recipe, tmp_path, damage):
    recipe, checkpoint = make_recipe("student"), RunFolder(tmp_path).checkpoint
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path, stop_at(2))
    content = checkpoint.read_bytes()
    foreign = re.sub(rb'("recipe":")[0-9a-f]{4}', rb"\g<1>zzzz", content)
    checkpoint.write_bytes({"cut": content[:-100], "garbage": b"x" * 200, "empty": b"", "foreign": foreign}[damage])
    words = "another recipe" if damage == "foreign" else "damaged checkpoint .* remove it to start the run again"
    with pytest.raises(RunError, match=rf"checkpoint\.safetensors: .*{words}"):
        fit(recipe, tmp_path)


def test_changed_training_data_are_noticed_on_resume(make_recipe, tmp_path):
    recipe = make_recipe("student")
    manifest = tmp_path / "data" / "train.jsonl"
    shutil.copytree(recipe.data.train.parent, manifest.parent)
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": manifest})})
    with pytest.raises(KeyboardInterrupt):
        fit(moved, tmp_path / "run", stop_at(2))
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="other training data"):
        fit(moved, tmp_path / "run")


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(make_recipe, tmp_path):
    recipe = make_recipe("student", learning_rate=1e37, checkpoint_every=1)
    with pytest.raises(TrainingDivergedError, match=r"at step \d; lower train\.learning_rate"):
        fit(recipe, tmp_path)
    folder = RunFolder(tmp_path)
    assert folder.checkpoint.is_file()
    assert not folder.weights.exists()
    assert not folder.summary.exists()


def test_what_run_json_says(uninterrupted, variants, runs):
    folder, summary, _ = uninterrupted["distilled"]
    assert json.loads((folder / "run.json").read_text()) == summary
    assert (summary["name"], summary["kind"], summary["seed"]) == ("tiny-student", "separable_conv", 1)
    assert summary["steps"] == 6
    assert summary["seconds"] > 0
    assert summary["parameters"] == count_parameters(build_network(variants["distilled"], 5))
    assert set(summary["dev"]) == {"ctc", "wer", "cer"}
    assert all(np.isfinite(value) for value in summary["dev"].values())
    assert set(summary["data"]) == {"train", "dev"}
    assert len(summary["data"]["train"]["fingerprint"]) == 64
    assert summary["versions"]["torch"] == torch.__version__
    assert [(teacher["name"], teacher["kind"]) for teacher in summary["teachers"]] == [("tiny-oracle", "oracle")]
    assert summary["teachers"][0]["fingerprint"] == open_teacher(runs["oracle"]).info.fingerprint
    assert "leak" not in summary
    assert "teachers" not in json.loads((runs["student"] / "run.json").read_text())


def test_an_oracle_has_leak_tests_and_no_error_rate(runs, make_recipe, tmp_path):
    summary = fit(make_recipe("oracle", steps=4, eval_every=2), tmp_path)
    assert set(summary["dev"]) == {"ctc"}
    assert {"noise_source", "wrong_reference_true", "verdict"} <= set(summary["leak"])
    assert summary["leak"]["padding_difference"] < 1e-4
    everything = (tmp_path / "run.json").read_text() + (tmp_path / "metrics.jsonl").read_text()
    assert "wer" not in everything
    assert "cer" not in everything
    assert [row["step"] for row in rows(tmp_path) if "dev_ctc" in row] == [2, 4]
    conventional = json.loads((runs["conventional"] / "run.json").read_text())
    assert set(conventional["dev"]) == {"ctc", "wer", "cer"}
    assert "leak" not in conventional


def test_metrics_are_written_as_often_as_asked(make_recipe, tmp_path):
    fit(make_recipe("student", steps=5, log_every=2, eval_every=4), tmp_path)
    train = [row["step"] for row in rows(tmp_path) if "loss" in row]
    dev = [row["step"] for row in rows(tmp_path) if "dev_wer" in row]
    assert (train, dev) == ([2, 4, 5], [4, 5])
    assert {"loss", "ctc", "grad_norm", "lr", "seconds"} <= set(rows(tmp_path)[0])
    assert list((tmp_path / "tensorboard").rglob("events*")) or list(tmp_path.rglob("events.out*"))


def test_run_without_dev(make_recipe, tmp_path):
    summary = fit(make_recipe("oracle", "data.dev=null", steps=1), tmp_path)
    assert summary["dev"] == {}
    assert "leak" not in summary
    assert set(summary["data"]) == {"train"}


def test_loss_is_the_weighted_sum_and_the_teacher_stays(uninterrupted, runs):
    scalars = uninterrupted["distilled"][2]
    assert [(step, steps) for step, steps, _ in scalars] == [(step, 6) for step in range(1, 7)]
    for _, _, values in scalars:
        assert values["frame_kl"] > 0
        assert values["loss"] == pytest.approx(0.7 * values["ctc"] + 0.3 * values["frame_kl"], rel=1e-5)
    assert set(uninterrupted["oracle"][2][0][2]) == {"loss", "ctc"}
    fresh = load_run(runs["oracle"])
    assert not fresh.network.training
    assert not any(parameter.requires_grad for parameter in fresh.network.parameters())


def test_teacher_is_not_changed(make_recipe, taught, runs, tmp_path):
    before = {path: path.read_bytes() for path in runs["conventional"].glob("*.*")}
    fit(make_recipe("student", *taught(runs["conventional"]), steps=2), tmp_path)
    assert {path: path.read_bytes() for path in runs["conventional"].glob("*.*")} == before


def test_student_equal_to_its_teacher_has_nothing_to_learn_from_it(make_recipe, taught, runs, tmp_path):
    """A student is a teacher like any other; look-ahead and all."""
    recipe = make_recipe("student", *taught(runs["student"]), "augment.spec=null", "model.dropout=0", steps=1)
    trainer = setup(recipe, RunFolder(tmp_path))
    trainer.network.load_state_dict(load_file(RunFolder(runs["student"]).weights))
    _, parts = loss_of(trainer, trainer.model.eval(), trainer.batches[0], 0)
    assert parts["frame_kl"].item() == pytest.approx(0, abs=1e-5)
    assert parts["ctc"].item() > 0.1


def test_randomness_of_a_step_follows_from_the_step(make_recipe, tmp_path):
    trainer = setup(make_recipe("student", "model.dropout=0.5"), RunFolder(tmp_path))
    trainer.model.train()
    batch = trainer.batches[0]
    first, again, other = (loss_of(trainer, trainer.model, batch, step)[0].item() for step in (0, 0, 1))
    assert first == again != other


def test_training_learns(make_recipe, tmp_path):
    losses = []
    recipe = make_recipe("conventional", steps=60, learning_rate=0.02, log_every=60, checkpoint_every=100)
    fit(recipe, tmp_path, lambda *progress: losses.append(progress[2]["loss"]))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_statistics_of_the_features_are_fixed_before_training(runs):
    networks = [load_run(runs[model]).network.feature_norm for model in ("student", "oracle")]
    assert torch.equal(networks[0].mean, networks[1].mean)
    assert torch.equal(networks[0].inverse_std, networks[1].inverse_std)
    assert -16 < float(networks[0].mean.mean()) < 0
    assert not torch.equal(networks[0].inverse_std, torch.ones(16))


MISFITS = {
    "frontend": (["frontend.frame_shift_ms=20"], "40 ms"),
    "subsampling": (["model.subsampling_factor=2"], "40 ms"),
    "rate": (["frontend.sample_rate=16000"], "8000 Hz"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_teacher_of_other_frames_or_rate_is_brought_to_the_students(make_recipe, taught, runs, tmp_path, name):
    overrides, words = MISFITS[name]
    summary = fit(make_recipe("student", *taught(runs["oracle"]), *overrides, steps=2), tmp_path / "run")
    assert words in " ".join(summary["teachers"][0]["bridged"])
    assert np.isfinite(summary["dev"]["ctc"])


def test_loss_that_a_teacher_cannot_teach(make_recipe, runs, tmp_path):
    """A teacher of words beside a student of characters leaves texts alone; frames cannot be compared."""
    words = ["data.units=words", "data.dev=null"]
    fit(make_recipe("conventional", *words, steps=1), tmp_path / "teacher")
    losses = 'losses=[{"kind": "skd"}]'
    recipe = make_recipe("student", f"distill.teachers={tmp_path / 'teacher'}", losses)
    with pytest.raises(
        (RecipeError, MismatchError), match=r"losses\.skd: learns from posteriors, .* use the loss nbest"
    ):
        fit(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_teacher_with_other_features_of_the_same_frames_is_asked_with_its_own(make_recipe, taught, runs, tmp_path):
    overrides = ["frontend.num_mel_bins=20", "frontend.frame_shift_ms=20", "model.subsampling_factor=2"]
    recipe = make_recipe("student", *taught(runs["conventional"]), *overrides, "augment.spec=null", steps=2)
    trainer = setup(recipe, RunFolder(tmp_path / "one"))
    teacher = trainer.sources[0].teacher.run
    batch = trainer.batches[0]
    lens = trainer.network.frame_lens(batch.input_lens)
    assert torch.equal(lens, teacher.network.frame_lens(batch.input_lens))
    features = teacher.network.features(batch.inputs)
    expected = teacher.network(features, lens, batch.labels, batch.label_lens)
    found = targets_of(trainer.sources, recipe, hear(trainer.network, recipe, batch), 0, trainer.vocabulary.blank_id)
    torch.testing.assert_close(found.log_probs, expected)
    assert np.isfinite(fit(recipe, tmp_path / "two")["dev"]["ctc"])


def test_teacher_that_waits_longer_than_its_student_hears_further(make_recipe, taught, runs, tmp_path):
    settings = ["augment.spec=null", "model.lookahead_frames=2"]
    recipe = make_recipe("student", *taught(runs["student"]), *settings, steps=1)
    trainer = setup(recipe, RunFolder(tmp_path / "one"))
    batch, teacher = trainer.batches[0], trainer.sources[0].teacher.run
    assert teacher.network.lookahead_frames == 3
    heard = hear(trainer.network, recipe, batch)
    found = targets_of(trainer.sources, recipe, heard, 0, trainer.vocabulary.blank_id)
    expected = teacher.network(teacher.network.features(batch.inputs), heard.frame_lens, batch.labels, batch.label_lens)
    torch.testing.assert_close(found.log_probs, expected)


def test_teacher_that_lacks_a_letter(make_recipe, taught, runs, corpus, tmp_path):
    lines = corpus["train"].read_text().splitlines()
    entries = [{**json.loads(line), "text": "dab"} for line in lines]
    for entry in entries:
        entry["audio_filepath"] = str(corpus["train"].parent / entry["audio_filepath"])
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    overrides = [*taught(runs["oracle"]), f"data.train={tmp_path / 'train.jsonl'}"]
    with pytest.raises(MismatchError, match=r"'d'"):
        fit(make_recipe("student", *overrides), tmp_path / "run")


def test_teacher_that_is_no_finished_run(make_recipe, taught, tmp_path):
    def distil(teacher: Path) -> None:
        fit(make_recipe("student", *taught(teacher)), tmp_path / "run")

    with pytest.raises(TeacherError, match=r"teacher not found: .*nowhere"):
        distil(tmp_path / "nowhere")
    (tmp_path / "teacher").mkdir()
    with pytest.raises(TeacherError, match=r"holds no teacher; give a finished run"):
        distil(tmp_path / "teacher")


@pytest.mark.parametrize("damaged", ["model.safetensors", "tokens.txt", "run.json", "recipe.yaml"])
def test_run_with_a_damaged_file(runs, tmp_path, damaged):
    for file in ("model.safetensors", "tokens.txt", "run.json", "recipe.yaml"):
        (tmp_path / file).write_bytes((runs["student"] / file).read_bytes())
    assert load_student(tmp_path).summary["name"] == "tiny-student"
    content = (runs["student"] / damaged).read_bytes()
    (tmp_path / damaged).write_bytes(content[: len(content) // 2])
    with pytest.raises(KdcompressError) as problem:
        load_run(tmp_path)
    assert str(tmp_path) in str(problem.value)
    (tmp_path / damaged).unlink()
    with pytest.raises(KdcompressError):
        load_run(tmp_path)


def test_weights_of_another_size(runs, tmp_path):
    for file in ("tokens.txt", "run.json", "recipe.yaml"):
        (tmp_path / file).write_bytes((runs["student"] / file).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(weights(runs["oracle"]))
    with pytest.raises(RunError, match="do not fit together"):
        load_run(tmp_path)


def test_a_teacher_is_no_student(runs):
    assert load_student(runs["student"]).recipe.model.kind == "separable_conv"
    for kind in ("conventional", "oracle"):
        with pytest.raises(RunError, match=f"holds a teacher \\({kind}\\), which cannot stream"):
            load_student(runs[kind])


def test_run_read_back_answers_as_it_did(runs):
    run = load_run(runs["student"])
    network = build_network(run.recipe, len(run.vocabulary)).eval()
    network.load_state_dict(load_file(RunFolder(runs["student"]).weights))
    inputs = 0.1 * torch.randn(1, 3200, generator=torch.Generator().manual_seed(1))
    one, two = (net.step(inputs, net.init_states(1))[0] for net in (run.network, network))
    assert torch.equal(one, two)


def test_bad_dev_data_is_found_before_the_first_update(make_recipe, corpus, tmp_path):
    line = json.loads(corpus["dev"].read_text().splitlines()[0])
    (tmp_path / "dev.jsonl").write_text(json.dumps({**line, "text": "xyz"}))
    for path, error in ((tmp_path / "dev.jsonl", VocabularyError), (tmp_path / "none.jsonl", ManifestError)):
        with pytest.raises(error, match=path.name):
            fit(make_recipe("student", f"data.dev={path}"), tmp_path / "run", stop_at(1, raise_interrupt))
        assert not (tmp_path / "run").exists()


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps the precision of a process once it is chosen; forget it before and after."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_bf16_trains_and_keeps_weights_in_float32(make_recipe, tmp_path):
    scalars = []
    fit(make_recipe("student", precision="bf16", steps=2), tmp_path, lambda *seen: scalars.append(seen[2]["loss"]))
    assert np.isfinite(scalars).all()
    assert load_file(RunFolder(tmp_path).weights)["head.weight"].dtype == torch.float32


def test_learning_rate_warms_up_and_falls_to_zero():
    config = TrainConfig(steps=100, learning_rate=2.0, warmup_fraction=0.1)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[99] < 0.01
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(0, TrainConfig(steps=1, learning_rate=2.0, warmup_fraction=0)) == 2.0


def test_files_are_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        print(temporary.write_text("two") / 0)
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("case", [("conventional", 0, 4), ("conventional", 3, 1), ("oracle", 0, 12), ("oracle", 3, 9)])
def test_a_student_waits_as_long_as_its_teacher_asks_for(make_recipe, runs, tmp_path, case):
    teacher, lookahead, wait = case
    settings = ["augment.spec=null", f"model.lookahead_frames={lookahead}", f"distill.teachers={runs[teacher]}"]
    recipe = make_recipe("student", *settings, steps=1)
    trainer = setup(recipe, RunFolder(tmp_path / "one"))
    batch = trainer.batches[0]
    heard = hear(trainer.network, recipe, batch)
    said = targets_of(trainer.sources, recipe, heard, 0, trainer.vocabulary.blank_id)
    assert said.wait_frames == wait
    _, parts = loss_of(trainer, trainer.model, batch, 0)
    fixed = make_recipe("student", *settings, f'losses=[{{"kind": "frame_kl", "delay_frames": {wait}}}]', steps=1)
    _, same = loss_of(replace(trainer, recipe=fixed), trainer.model, batch, 0)
    torch.testing.assert_close(parts["frame_kl"], same["frame_kl"])
