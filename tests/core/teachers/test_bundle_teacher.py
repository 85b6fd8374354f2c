"""Bundles as teachers: a streaming one and one of whole recordings answer as the runs they were made from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from kdcompress.errors import TeacherError
from kdcompress.run import load_run
from kdcompress.teachers.bundle_teacher import BundleTeacher
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.run_teacher import RunTeacher
from kdcompress_export.bundle_writer import write_bundle
from kdcompress_export.convert import convert
from kdcompress_export.from_run import describe
from kdcompress_export.signature import geometry
from kdcompress_export.whole import convert_whole, whole_inputs
from kdcompress_runtime.bundle import METADATA_FILE, TOKENS_FILE, ModelFile, sha256
from tests.core.teachers.given import answers, noise

if TYPE_CHECKING:
    from pathlib import Path

RATE = 8000
KINDS = ("student", "conventional")


def save(run_folder: Path, output: Path) -> Path:
    """Write a bundle of one precision without measuring anything."""
    run = load_run(run_folder)
    whole = run.recipe.model.kind == "conventional"
    network = whole_inputs(run) if whole else run.network
    metadata = describe(run, network)
    tokens = run.vocabulary.dumps().encode()
    if whole:
        content = convert_whole(network, len(run.vocabulary), metadata)
    else:
        content = convert(network, len(run.vocabulary), geometry(metadata, "float32"))
    files = {TOKENS_FILE: sha256(tokens), "model.onnx": sha256(content)}
    metadata = replace(metadata, models=(ModelFile("float32", "model.onnx"),), files=files)
    write_bundle(output, {METADATA_FILE: metadata.dumps().encode(), TOKENS_FILE: tokens, "model.onnx": content})
    return output


@pytest.fixture(scope="module")
def bundles(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder that streams, and a zip that takes whole recordings."""
    base = tmp_path_factory.mktemp("bundles")
    return {kind: save(runs[kind], base / f"{kind}{end}") for kind, end in zip(KINDS, ("", ".zip"), strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_its_run_does(kind: str, bundles: dict[str, Path], runs: dict[str, Path]) -> None:
    teacher, run = open_teacher(bundles[kind]), RunTeacher(load_run(runs[kind]))
    assert isinstance(teacher, BundleTeacher)
    items = [noise(seconds, RATE, seed) for seed, seconds in enumerate((0.9, 0.333, 0.611))]
    found = answers(teacher, items)
    for item, one in zip(items, found, strict=True):
        (alone,) = answers(teacher, [item])
        torch.testing.assert_close(one, alone, atol=1e-5, rtol=0)
        network = run.network  # at the run's own rate, without a batch
        inputs, lens = torch.from_numpy(item)[None], network.frame_lens(torch.tensor([len(item)]))
        features = network.features(inputs)
        labels = torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            expected = network(features, lens, labels, torch.ones(1, dtype=torch.int64))[0, : int(lens)]
        assert abs(len(one) - len(expected)) <= (kind != "student")
        torch.testing.assert_close(one, expected[: len(one)], atol=2e-4, rtol=0)


def test_what_it_says_of_itself(bundles: dict[str, Path], runs: dict[str, Path]) -> None:
    for kind in KINDS:
        info, run = open_teacher(bundles[kind]).info, RunTeacher(load_run(runs[kind])).info
        assert (info.kind, info.gives, info.dev_error) == ("bundle", {"log_probs"}, None)
        for name in ("vocabulary", "units", "frame", "sample_rate", "lookahead"):
            assert getattr(info, name) == getattr(run, name), name
    fingerprints = {open_teacher(path).info.fingerprint for path in bundles.values()}
    assert len(fingerprints) == 2


def test_the_fingerprint_does_not_know_the_folder(bundles: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(bundles["student"], tmp_path / "elsewhere")
    assert open_teacher(copy).info.fingerprint == open_teacher(bundles["student"]).info.fingerprint
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(TeacherError, match="SHA-256"):
        open_teacher(copy)
