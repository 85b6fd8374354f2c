"""Leak tests on sentences: whole tokens are shuffled, and frequent words are no copies."""

from __future__ import annotations

import pytest
import torch

from kdcompress.data.batch import collate
from kdcompress.data.text import Encoder, unit_vocabulary
from kdcompress.distill import fit
from kdcompress.network import CtcNetwork, Outputs
from kdcompress.teacher_check import PADDING_TOLERANCE, check_run
from kdcompress.teachers.leak import LeakReport, leak_report
from kdcompress.token_frontend import TokenFrontend, TokensConfig

TEXTS = ["jag ser en bil", "jag har en fisk", "du ser en hund", "jag vill ha en"]
SYMBOLS = "<mask> <unk> ▁a ▁b ▁c ▁d"


class Answers(CtcNetwork):
    """Writes given words whatever it reads, or the reference that it is shown; keeps what it was given."""

    def __init__(self, says=None):
        super().__init__(TokenFrontend(TokensConfig(symbols=SYMBOLS, upsampling=3)), 1)
        self.says, self.given = says, []

    def outputs(self, features, frame_lens, labels, label_lens):  # noqa: ARG002
        self.given.append(features[:, :, 0])
        scores = torch.zeros(len(labels), features.shape[1], len(VOCABULARY))
        scores[:, :, 0] = 5
        shown = [row[:length].tolist() for row, length in zip(labels, label_lens, strict=True)]
        for row, ids in zip(scores, [self.says] * len(labels) if self.says else shown, strict=True):
            for place, token in enumerate(ids):
                row[2 * place, token] = 10
        return Outputs(scores.log_softmax(dim=2))


VOCABULARY = unit_vocabulary(TEXTS, "words")
ENCODE = Encoder(VOCABULARY, "words")


@pytest.fixture
def batch():
    ids = [torch.arange(2, 6).float().numpy()] * 4
    return collate(ids, [ENCODE(text) for text in TEXTS], TEXTS, range(4), items=range(4), sources=["a b c d"] * 4)


def test_tokens_are_shuffled_whole(batch):
    network = Answers()
    leak_report(network, [batch], VOCABULARY)
    shuffled = network.given[1].view(4, 4, 3)  # after noise
    assert torch.equal(shuffled, shuffled[:, :, :1].expand(-1, -1, 3))
    assert torch.equal(shuffled[:, :, 0].sort(dim=1).values, batch.inputs)
    assert not torch.equal(shuffled[:, :, 0], batch.inputs)
    noise = network.given[0].view(4, 4, 3)
    assert torch.equal(noise, noise[:, :, :1].expand(-1, -1, 3))


def test_frequent_words_are_no_copies(batch):
    report = leak_report(Answers(says=list(ENCODE("jag ser en"))), [batch], VOCABULARY)
    assert report.noise_source == pytest.approx(100 * 9 / 16)  # most of each reference
    assert report.noise_chance == report.noise_source  # and as much of any other
    assert report.copied == 0
    assert report.verdict.startswith("listens: 56 % of the words come out of pure noise")
    assert "; by chance 56 % and " in report.verdict


def test_copies_are_found_among_frequent_words(batch):
    report = leak_report(Answers(), [batch], VOCABULARY)
    assert report.noise_source == report.wrong_reference_given == 100
    assert report.noise_chance == report.wrong_reference_chance
    assert 20 < report.noise_chance < 80
    assert report.copied == 100
    assert report.verdict.startswith("copies: ")


def test_the_threshold_is_of_what_chance_does_not_give():
    shares = {"shuffled_frames": 0.0, "empty_reference_true": 50.0, "padding_difference": 0.0}
    more = {"wrong_reference_given": 30.0, "wrong_reference_true": 50.0, "wrong_reference_chance": 10.0}
    words = [
        LeakReport(noise_source=source, noise_chance=chance, **shares, **more).verdict.split(":")[0]
        for source, chance in ((21.0, 0.0), (21.0, 10.0), (30.0, 10.0), (100.0, 100.0))
    ]
    assert words == ["copies", "listens", "copies", "listens"]
    half = LeakReport(noise_source=30.0, noise_chance=15.0, both_true=37.0, **shares, **more)  # of a real one
    assert half.verdict.startswith("copies: 30 %")
    assert half.verdict.endswith("37 % with input and reference")
    full = LeakReport(noise_source=30.0, noise_chance=15.0, both_true=99.0, **shares, **more)
    assert full.verdict.startswith("listens")


@pytest.mark.parametrize("kind", ["conventional", "oracle", "student"])
def test_padding_of_sentences_changes_nothing(kind, recipe_of, tmp_path):
    fit(recipe_of(kind), tmp_path / "run")
    check = check_run(tmp_path / "run")
    assert check.passed
    assert 0 <= check.leak.padding_difference <= PADDING_TOLERANCE
    assert check.leak.verdict.startswith("listens" if kind == "oracle" else "cannot copy")
