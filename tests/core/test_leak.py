"""Leak tests on networks whose vice is known: one copies, one listens, one looks at its padding."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcompress.data.batch import collate
from kdcompress.data.text import encode
from kdcompress.model_settings import ConventionalConfig
from kdcompress.network import CtcNetwork, Outputs
from kdcompress.teachers import build_teacher
from kdcompress.teachers.leak import leak_report

TEXTS = ("a b", "b c", "c c a", "ab a")
LOUDNESS = (0.02, 0.08, 0.3, 0.9)
FRAMES = 16


class Copies(CtcNetwork):
    """Writes the reference it is given, one label every second frame, whatever it hears."""

    def outputs(self, features, frame_lens, labels, label_lens):  # noqa: ARG002
        frames = features.shape[1] // self.subsampling_factor
        return Outputs(path(len(labels), frames, [row[:n].tolist() for row, n in zip(labels, label_lens, strict=True)]))


class Listens(CtcNetwork):
    """Knows ``TEXTS`` by their loudness and looks at no label."""

    def __init__(self, frontend, factor, vocabulary, levels):
        super().__init__(frontend, factor)
        self.answers = [list(encode(text, vocabulary)) for text in TEXTS]
        self.levels = levels

    def outputs(self, features, frame_lens, labels, label_lens):  # noqa: ARG002
        heard = features[:, 4 : FRAMES * 2].mean(dim=(1, 2))
        steady = features[:, 4 : FRAMES * 2].mean(dim=2).std(dim=1) < 0.2  # noise is not: see _noise_like
        nearest = (heard[:, None] - self.levels).abs().argmin(dim=1).tolist()
        words = [self.answers[i] if ok else [] for i, ok in zip(nearest, steady.tolist(), strict=True)]
        return Outputs(path(len(features), features.shape[1] // self.subsampling_factor, words))


class CountsPadding(Copies):
    """Copies, and shifts everything by the width of the label tensor."""

    def outputs(self, features, frame_lens, labels, label_lens):
        copied = super().outputs(features, frame_lens, labels, label_lens)
        return Outputs(copied.log_probs - 0.01 * labels.shape[1])


def path(batch: int, frames: int, labels: list[list[int]]) -> torch.Tensor:
    scores = torch.zeros(batch, frames, 5)
    scores[..., 0] = 5
    for row, ids in zip(scores, labels, strict=True):
        for index, label in enumerate(ids):
            row[2 * index + 1, label] = 10
    return scores.log_softmax(dim=2)


def tone(level: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (level * rng.uniform(-1, 1, FRAMES * 320)).astype(np.float32)


@pytest.fixture
def batch(vocabulary):
    labels = [encode(text, vocabulary) for text in TEXTS]
    return collate([tone(level) for level in LOUDNESS], labels, TEXTS, range(4), items=range(4))


def test_a_network_that_copies_is_found_out(frontend, batch, vocabulary):
    report = leak_report(Copies(frontend, 4), [batch, batch], vocabulary)
    assert report.noise_source == report.shuffled_frames == report.wrong_reference_given == 100
    assert report.empty_reference_true == 0
    assert report.wrong_reference_true < 60  # neighbouring references share some words
    assert report.padding_difference == 0
    assert report.verdict.startswith("copies: 100 % of the words come out of pure noise, 100 %")
    assert report.to_json()["verdict"] == report.verdict


def test_a_network_that_listens_is_believed(frontend, batch, vocabulary):
    levels = frontend(batch.inputs)[:, 4 : FRAMES * 2].mean(dim=(1, 2))
    report = leak_report(Listens(frontend, 4, vocabulary, levels), [batch], vocabulary)
    assert report.empty_reference_true == report.wrong_reference_true == 100
    assert report.noise_source < 20
    assert report.wrong_reference_given < 60
    assert report.verdict.startswith("listens: ")


def test_a_network_that_sees_no_labels_cannot_copy(frontend, lively, batch, vocabulary):
    torch.manual_seed(1)
    config = ConventionalConfig(kind="conventional", encoder={"width": 8, "depth": 2, "kernel": 5})
    network = lively(build_teacher(config, frontend, len(vocabulary))).train()
    report = leak_report(network, [batch], vocabulary, sees_labels=False)
    assert report.verdict.startswith("cannot copy: it sees no reference; ")
    assert (report.empty_reference_true, report.wrong_reference_given, report.wrong_reference_true) == (None,) * 3
    assert report.padding_difference < 1e-4
    assert not network.training
    told = leak_report(network, [batch], vocabulary)  # the tests of labels are true of it, only needless
    assert told.wrong_reference_true == told.empty_reference_true
    assert (told.noise_source, told.shuffled_frames) == (report.noise_source, report.shuffled_frames)


def test_an_item_alone_has_no_wrong_reference(frontend, batch, vocabulary):
    alone = replace(
        batch,
        inputs=batch.inputs[:1],
        input_lens=batch.input_lens[:1],
        labels=batch.labels[:1],
        label_lens=batch.label_lens[:1],
        texts=batch.texts[:1],
    )
    report = leak_report(Copies(frontend, 4), [alone], vocabulary)
    assert report.wrong_reference_given is report.wrong_reference_true is None
    assert report.empty_reference_true == 0
    assert report.verdict == "copies: 100 % of the words come out of pure noise"


class BreaksOnPadding(Copies):
    """NaN as soon as anything is padded."""

    def outputs(self, features, frame_lens, labels, label_lens):
        copied = super().outputs(features, frame_lens, labels, label_lens)
        wide = int(label_lens.max()) < labels.shape[1]
        return Outputs(copied.log_probs * float("nan") if wide else copied.log_probs)


def test_nan_is_no_small_difference(frontend, batch, vocabulary):
    report = leak_report(BreaksOnPadding(frontend, 4), [batch], vocabulary)
    assert report.padding_difference > 1e30
    assert json.loads(json.dumps(report.to_json(), allow_nan=False)) == report.to_json()


def test_looking_at_padding_is_measured(frontend, batch, vocabulary):
    report = leak_report(CountsPadding(frontend, 4), [batch], vocabulary)
    assert report.padding_difference == pytest.approx(0.03, abs=1e-5)


def test_the_same_seed_gives_the_same_report(frontend, lively, batch, vocabulary):
    from kdcompress.model_settings import OracleConfig

    torch.manual_seed(1)
    config = OracleConfig(kind="oracle", heads=2, encoder={"width": 8, "depth": 1, "kernel": 3})
    oracle = lively(build_teacher(config, frontend, len(vocabulary)))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = leak_report(oracle, [batch], vocabulary, seed=4)
    assert leak_report(oracle, [batch], vocabulary, seed=4) == first
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's randomness is touched
