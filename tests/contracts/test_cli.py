"""The command line: exit codes, one sentence for each mistake, interruption, full disks, transcription."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import typer
from safetensors import safe_open

from kdcompress import __version__, files
from kdcompress.cli import app, main
from kdcompress.commands import training
from kdcompress.distill import fit
from kdcompress.recipe_file import load_recipe
from kdcompress.run import load_run
from kdcompress_runtime import Result

if TYPE_CHECKING:
    from pathlib import Path

RATE = 8000
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def bundle(run, folder):
    from kdcompress_export import ExportOptions, SearchOptions, export_run

    export_run(run, folder / "bundle", ExportOptions(quantization=SearchOptions(quantize="none")))
    return folder / "bundle"


def one_sentence(capsys) -> str:
    """What stderr says, which is one line without a traceback."""
    found = capsys.readouterr().err
    assert "Traceback" not in found
    errors = [line for line in found.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, found
    return errors[0]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


COMMANDS = [[], *([name] for name in typer.main.get_command(app).commands), ["prepare", "digits"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(capsys, command):
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr()
    assert f"{' '.join(command)} [OPTIONS]" in shown.out
    assert "--help" in shown.out
    assert shown.err == ""


def test_the_commands_of_the_main_job_are_there():
    wanted = {"train", "teacher-check", "distill", "export", "verify", "transcribe", "bench", "eval", "demo", "prepare"}
    wanted |= {"sweep"}
    assert wanted <= set(typer.main.get_command(app).commands)


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys\nfrom kdcompress.cli import main\n"
        "codes = [main(['--help']), main(['train', '--help']), main(['--version'])]\n"
        "heavy = {'torch', 'accelerate', 'onnx', 'yaml', 'scipy', 'soundfile', 'jiwer'} & {*sys.modules}\n"
        "print(codes, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [f"kdcompress {__version__}", "[0, 0, 0] []"]


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["destil"], "destil"),
        (["train"], "RECIPE"),
        (["train", "digits-labels"], "--output"),
        (["train", "digits-labels", "-o", "x", "--sett", "a=1"], "--sett"),
        (["train", "digits-labels", "-o", "x", "--seed", "one"], "--seed"),
        (["transcribe", "bundle"], "FILE"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, command, word):
    assert main(command) == 2
    shown = capsys.readouterr()
    assert word in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["train", "nowhere", "-o", "RUN"], ["recipe not found: nowhere", "digits-labels"]),
        (["train", "STUDENT", "-o", "RUN", "--set", "train.stepps=1"], ["'train.stepps'", "did you mean 'steps'?"]),
        (["train", "STUDENT", "-o", "RUN", "--set", "steps"], ["--set 'steps'", "key.path=value"]),
        (["train", "STUDENT", "-o", "RUN", "--seed", "-1"], ["seed"]),
        (["train", "STUDENT", "-o", "RUN", "--set", "data.train=none.jsonl"], ["manifest not found: none.jsonl"]),
        (["distill", "STUDENT", "-o", "RUN"], ["no distill section", "--teacher"]),
        (["distill", "STUDENT", "-o", "RUN", "--teacher", "nowhere"], ["teacher not found: nowhere"]),
        (["distill", "TAUGHT", "-o", "RUN"], ["'frame_kl' needs a teacher", "add a distill section"]),
        (["distill", "TAUGHT", "-o", "RUN", "--teacher", "nowhere"], ["teacher not found: nowhere"]),
        (["distill", "TAUGHT", "-o", "RUN", "--teacher", "a", "--teacher", "b"], ["distill", "combine.kind", "2"]),
        (["distill", "TEACHER", "-o", "RUN", "--teacher", "nowhere"], ["oracle", "remove the distill section"]),
        (["sweep", "nowhere.yaml", "-o", "RUN"], ["nowhere.yaml", "not a readable YAML file"]),
        (["sweep", "STUDENT", "-o", "RUN"], ["a sweep has two keys, `recipe` and `variants`"]),
        (["export", "nowhere", "-o", "RUN"], ["run not found: nowhere"]),
        (["verify", "nowhere"], ["nowhere"]),
        (["bench", "nowhere"], ["nowhere"]),
        (["transcribe", "nowhere", "a.wav"], ["nowhere"]),
        (["eval", "b", "--manifest", "t=x", "--manifest", "t=y", "-o", "RUN"], ["two manifests are called 't'"]),
        (["demo", "-o", "RUN", "--source", "nowhere"], ["nowhere", "--source"]),
        (["prepare", "digits", "-o", "RUN", "--source", "nowhere"], ["nowhere"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence_and_exit_code_1(capsys, folder, tmp_path, command, words):
    places = {name.upper(): str(folder / f"{name}.yaml") for name in ("student", "taught", "teacher")}
    places["RUN"] = str(tmp_path / "new")
    assert main([places.get(word, word) for word in command]) == 1
    found = one_sentence(capsys)
    assert all(word in found for word in words), found
    assert not (tmp_path / "new").exists()


def test_train_and_distill(capsys, folder, tmp_path):
    teacher, student = tmp_path / "2024", tmp_path / "student"
    assert main(["train", str(folder / "teacher.yaml"), "-o", str(teacher), "--seed", "3"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{teacher}: oracle, ")
    assert "the teacher " in shown.out
    assert "WER" not in shown.out
    assert "2/2" in shown.err
    assert load_run(teacher).recipe.seed == 3
    settings = ["--set", "losses.frame_kl.weight=0.25", "--set", "train.steps=1"]
    command = ["distill", str(folder / "taught.yaml"), "-o", str(student), "--teacher", str(teacher), *settings]
    assert main(command) == 0
    assert "dev WER" in capsys.readouterr().out
    done = load_run(student)
    assert ([loss.weight for loss in done.recipe.losses], done.recipe.train.steps) == ([0.5, 0.25], 1)
    assert done.recipe.distill.teachers == (teacher,)
    assert main(command) == 0  # again: nothing to do
    assert main(["train", str(folder / "student.yaml"), "-o", str(student)]) == 1  # another recipe in the same place
    assert "another recipe" in one_sentence(capsys)
    assert load_run(student).summary == done.summary


def test_sweep_trains_variants_and_says_how_they_do_on_dev(capsys, folder, tmp_path):
    file, output = tmp_path / "sweep.yaml", tmp_path / "runs"
    variants = {"plain": [], "wide": ["model.width=24"], "bad": ["model.wdth=24"]}
    file.write_text(json.dumps({"recipe": str(folder / "student.yaml"), "variants": variants}))
    assert main(["sweep", str(file), "-o", str(output)]) == 1
    found = one_sentence(capsys)
    assert "variant bad" in found
    assert "did you mean 'width'?" in found
    assert not output.exists()
    del variants["bad"]
    file.write_text(json.dumps({"recipe": str(folder / "student.yaml"), "variants": variants}))
    command = ["sweep", str(file), "-o", str(output), "--set", "train.steps=1", "--seed", "7"]
    for _ in range(2):  # the second time everything is there
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        wers = [load_run(output / name).summary["dev"]["wer"] for name in variants]
        assert lines == [f"{output / name}: dev WER {wer:.2f} %" for name, wer in zip(variants, wers, strict=True)]
    recipes = [load_run(output / name).recipe for name in variants]
    assert [(recipe.name, recipe.seed, recipe.train.steps) for recipe in recipes] == [("plain", 7, 1), ("wide", 7, 1)]
    assert recipes[1].model.width == 24


def test_teacher_option_is_a_path_and_no_yaml(capsys, folder, tmp_path, monkeypatch):
    """A folder whose name YAML would read as a number, or cut at a comment sign."""
    monkeypatch.chdir(tmp_path)
    for name in ("2024", "a #1: b"):
        assert main(["distill", str(folder / "taught.yaml"), "-o", "run", "--teacher", name]) == 1
        assert f"teacher not found: {name};" in one_sentence(capsys)
        several = ["--teacher", name, "--teacher", "other", "--set", "distill.combine.kind=switching"]
        assert main(["distill", str(folder / "taught.yaml"), "-o", "run", *several]) == 1
        assert f"teacher not found: {name};" in one_sentence(capsys)


def test_a_teacher_is_not_pruned(capsys, folder, tmp_path):
    main(["train", str(folder / "teacher.yaml"), "-o", str(tmp_path / "oracle"), "--set", "train.steps=1"])
    capsys.readouterr()
    assert main(["prune", str(tmp_path / "oracle"), "-o", str(tmp_path / "pruned"), "--keep-channels", "0.5"]) == 1
    assert "cannot stream; distil a student from it" in one_sentence(capsys)
    assert not (tmp_path / "pruned").exists()


def test_ctrl_c_while_training_is_130_and_resumes(folder, tmp_path):
    output = tmp_path / "run"
    command = [sys.executable, "-m", "kdcompress", "train", str(folder / "student.yaml"), "-o", str(output)]
    command += ["--set", "train.steps=1000000", "--set", "train.checkpoint_every=1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as job:
        deadline = time.monotonic() + 120
        while not ((output / "metrics.jsonl").is_file() and (output / "metrics.jsonl").stat().st_size):
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        job.send_signal(signal.SIGINT)
        out, err = job.communicate(timeout=60)
    assert (job.returncode, out) == (130, "")
    assert "interrupted; nothing is half done, repeat the command" in err
    assert "Traceback" not in err
    assert not (output / "model.safetensors").exists()
    assert not {name for name in names(output) if name.endswith(".tmp")}
    with safe_open(output / "checkpoint.safetensors", framework="pt") as checkpoint:
        reached = int(checkpoint.metadata()["step"])
    seen = []

    def once(step: int, steps: int, scalars: dict) -> None:
        seen.append(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(load_recipe(output / "recipe.yaml"), output, once)
    assert seen == [reached + 1]


def test_ctrl_c_before_training_is_130(capsys, folder, tmp_path, monkeypatch):
    def interrupted(recipe, output):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit_with_progress", interrupted)
    assert main(["train", str(folder / "student.yaml"), "-o", str(tmp_path / "run")]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("victim", ["recipe.yaml", "checkpoint.safetensors", "model.safetensors", "run.json"])
def test_full_disk_is_one_sentence_and_leaves_no_half_file(capsys, folder, tmp_path, monkeypatch, victim):
    """The write fails in the middle of one file; when there is room again, the command goes on."""
    output = tmp_path / "run"

    def full(path):
        if victim in path.name:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    command = ["train", str(folder / "student.yaml"), "-o", str(output), "--set", "train.checkpoint_every=1"]
    with monkeypatch.context() as patch:
        patch.setattr(files, "flush_to_disk", full)
        assert main(command) == 1
    found = one_sentence(capsys)
    assert re.search(r"No space left on device(; free space|\)?.*make room)", found, re.IGNORECASE)
    assert victim in found
    assert not (output / victim).exists()
    assert not {name for name in names(output) if name.endswith(".tmp")}
    assert main(command) == 0
    assert load_run(output).summary["steps"] == 2


def test_missing_package_names_the_remedy(capsys, folder, monkeypatch):
    def missing(*arguments):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(training, "fit_with_progress", missing)
    assert main(["train", str(folder / "student.yaml"), "-o", "run"]) == 1
    assert "torch is not installed" in one_sentence(capsys)


@pytest.fixture
def audio(tmp_path, speaker):
    """Good files and bad ones."""
    soundfile.write(tmp_path / "good.wav", speaker("cab ba", 77), RATE)
    soundfile.write(tmp_path / "wide.flac", np.repeat(speaker("ab c", 78), 2), 2 * RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:-4001])
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam,")
    return tmp_path


def test_transcribe_says_what_was_played(capsys, bundle, audio):
    assert main(["transcribe", str(bundle), str(audio / "good.wav")]) == 0
    shown = capsys.readouterr()
    assert shown.out.replace(" ", "") == "cabba\n"
    assert shown.err == ""


def test_transcribe_reports_bad_files_and_goes_on(capsys, bundle, audio):
    files = ["none.wav", "good.wav", "empty.wav", "cut.wav", "letter.wav", "wide.flac"]
    assert main(["transcribe", str(bundle), *(str(audio / name) for name in files)]) == 1
    shown = capsys.readouterr()
    texts = dict(line.split(": ", 1) for line in shown.out.splitlines())
    assert list(texts) == [str(audio / "good.wav"), str(audio / "wide.flac")]
    assert texts[str(audio / "good.wav")].replace(" ", "") == "cabba"
    errors = shown.err.splitlines()
    expected = [("none.wav", "not found"), ("empty.wav", ""), ("cut.wav", "cut short"), ("letter.wav", "as audio")]
    assert len(errors) == len(expected)
    for line, (name, word) in zip(errors, expected, strict=True):
        assert line.startswith("error: ")
        assert str(audio / name) in line
        assert word in line


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_stream_ends_with_the_text_of_the_whole(capsys, bundle, audio, speaker, *, decoder):
    command = ["transcribe", str(bundle), str(audio / "good.wav"), "--decoder", decoder]
    assert main(command) == 0
    whole = capsys.readouterr().out
    assert whole.strip()
    assert main([*command, "--stream"]) == 0
    lines = capsys.readouterr().out.splitlines(keepends=True)
    assert lines[-1] == whole
    partials = [line for line in lines[:-1] if line.startswith("[")]
    assert len(partials) == len(lines) - 1 >= 2
    seconds = [float(line[1:].split(" s]")[0]) for line in partials]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= len(speaker("cab ba", 77)) / RATE + 0.01


def test_json_is_one_object_a_line(capsys, bundle, audio):
    files = [str(audio / "good.wav"), str(audio / "wide.flac")]
    assert main(["transcribe", str(bundle), *files, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == files
    for row in rows:
        assert set(row) == {"file", *(field.name for field in dataclasses.fields(Result))}
        assert " ".join(word["text"] for word in row["words"]) == row["text"]
        assert len(row["tokens"]) == len(row["timestamps"]) > 0
        assert row["timestamps"] == sorted(row["timestamps"])
    assert main(["transcribe", str(bundle), files[0], "--json", "--stream"]) == 0
    streamed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert streamed[-1]["text"] == rows[0]["text"]
    assert all({"file", "at", "partial", "stable"} == set(row) for row in streamed[:-1])
    assert streamed[-2]["partial"] == rows[0]["text"] or len(streamed) > 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--precision", "int4"], "int4"),
        (["--decoder", "viterbi"], "viterbi"),
        (["--decoder", "beam", "--beam-width", "0"], "beam_width"),
    ],
)
def test_options_of_transcribe_without_sense(capsys, bundle, audio, options, word):
    assert main(["transcribe", str(bundle), str(audio / "good.wav"), *options]) == 1
    assert word in one_sentence(capsys)


def test_damaged_bundle_is_refused_and_a_failed_check_is_exit_code_3(capsys, bundle, audio, tmp_path):
    assert main(["verify", str(bundle)]) == 0
    assert "FAIL" not in capsys.readouterr().out
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in bundle.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "tokens.txt").write_bytes((bundle / "tokens.txt").read_bytes().replace(b"a", b"e"))
    assert main(["verify", str(broken)]) == 3
    shown = capsys.readouterr()
    assert "FAIL" in shown.out
    assert "tokens.txt" in shown.out
    assert main(["transcribe", str(broken), str(audio / "good.wav")]) == 1
    assert "tokens.txt" in one_sentence(capsys)
