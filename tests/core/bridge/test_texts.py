"""N best texts of a teacher, in the student's tokens."""

from __future__ import annotations

import pytest
import torch

from kdcompress.bridge import build_bridge
from kdcompress.data.text import Encoder, word_vocabulary
from kdcompress.losses.base import Hypotheses
from kdcompress.losses.nbest import best_hypotheses, nbest
from tests.core.bridge.sides import CHARACTERS, path_log_probs, random_log_probs, said, student, teacher, vocabulary

WORDS = word_vocabulary(["the cat sat", "a hat"])
PIECES = vocabulary("▁", *"acehst", "▁th", "▁the", "▁c", "at")
ONLY = frozenset({"hypotheses"})


def texts_of(found: Hypotheses, tokens) -> list[tuple[int, str, float]]:
    rows = zip(
        found.items.tolist(), found.labels.tolist(), found.label_lens.tolist(), found.weights.tolist(), strict=True
    )
    return [(item, tokens.text(labels[:length]), round(weight, 5)) for item, labels, length, weight in rows]


def stored(tokens, *rows: tuple[int, str, float], units="characters") -> Hypotheses:
    encode = Encoder(tokens, units)
    labels = [torch.tensor(encode(text), dtype=torch.int64) for _, text, _ in rows]
    return Hypotheses(
        torch.tensor([item for item, _, _ in rows]),
        torch.nn.utils.rnn.pad_sequence([*labels, torch.zeros(1, dtype=torch.int64)], batch_first=True)[:-1],
        torch.tensor([len(row) for row in labels]),
        torch.tensor([weight for _, _, weight in rows]),
    )


def path_of(text, tokens, units="characters"):
    return [index for token in Encoder(tokens, units)(text) for index in (token, 0)]


@pytest.mark.parametrize(
    ("mine", "units", "its", "its_units", "needed"),
    [
        (PIECES, "subwords", CHARACTERS, "characters", set("acehst▁")),
        (WORDS, "words", CHARACTERS, "characters", {"▁the", "▁cat"}),
        (WORDS, "words", PIECES, "subwords", {"▁the", "▁cat"}),
        (PIECES, "subwords", WORDS, "words", set("acehst▁")),
        (CHARACTERS, "characters", WORDS, "words", set("acehst▁")),
        (PIECES, "subwords", vocabulary("▁", *"acehst", "▁a", "he"), "subwords", set("acehst▁")),
    ],
)
def test_texts_are_what_other_units_share(mine, units, its, its_units, needed):
    bridge = build_bridge(student(mine, units), teacher(its, its_units, frame_ms=20), needed)
    assert bridge.gives == {"hypotheses"}
    assert "the 4 best texts of its search are learned from, and no frames" in bridge.report[0]
    paths = [path_of("the cat sat", its, its_units), path_of("a hat", its, its_units)]
    answer = said(path_log_probs(paths, len(its), sure=0.99), list(map(len, paths)))
    found = bridge(answer, torch.tensor([40, 40]))
    assert found.log_probs is None
    assert found.hidden == ()
    best = {item: (text, weight) for item, text, weight in reversed(texts_of(found.hypotheses, mine))}
    assert [best[item][0] for item in (0, 1)] == ["the cat sat", "a hat"]
    assert all(weight > 0.5 for _, weight in best.values())


def test_the_search_is_that_of_the_loss():
    log_probs = random_log_probs(2, 12, len(CHARACTERS), sharpness=4)
    found = build_bridge(student(PIECES, "subwords"), teacher(), set("aceh")).tokens.texts.searched(
        log_probs, torch.tensor([12, 7])
    )
    expected = best_hypotheses(log_probs, torch.tensor([12, 7]))
    assert torch.equal(found.items, expected.items)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.weights, expected.weights, atol=1e-4, rtol=1e-3)


def test_special_tokens_are_not_searched():
    its = vocabulary("▁THE", "▁CAT", "<unk>", "▁HAT")
    p = torch.full((1, 3, 5), 1e-6)
    p[0, 0, 1], p[0, 1, 3], p[0, 1, 2], p[0, 2, 0] = 1, 0.9, 0.1, 1
    bridge = build_bridge(student(PIECES, "subwords"), teacher(its, "words"), set("aceht"))
    found = bridge(said((p / p.sum(dim=2, keepdim=True)).log()), torch.tensor([9])).hypotheses
    assert texts_of(found, PIECES)[0][1] == "the cat"


def test_texts_that_cannot_be_written_are_left_out_and_the_others_share_their_weight():
    its = vocabulary(*"aceht7", "▁")
    bridge = build_bridge(student(WORDS, "words"), teacher(its, gives=ONLY), {"▁the", "▁cat"})
    answer = stored(its, (0, "the cat", 0.4), (0, "the 7", 0.4), (0, "the eat", 0.1), (0, "a cat", 0.1), (1, "7", 1.0))
    found = bridge(said(hypotheses=answer, lens=[9, 9]), torch.tensor([9, 9])).hypotheses
    assert texts_of(found, WORDS) == [(0, "the cat", 0.8), (0, "a cat", 0.2)]
    assert bridge.tally.sentences() == ("3 of 5 texts were left out: the student cannot write them",)


def test_texts_that_become_the_same_are_one():
    its = vocabulary(*"aceht", *"ACEHT", ",", "▁")
    bridge = build_bridge(student(), teacher(its, gives=ONLY), set("aceht"))
    answer = stored(its, (0, "THE cat", 0.5), (0, "the, CAT", 0.3), (0, "a", 0.2), (1, "", 1.0))
    found = bridge(said(hypotheses=answer, lens=[9, 9]), torch.tensor([9, 9])).hypotheses
    assert texts_of(found, CHARACTERS) == [(0, "the cat", 0.8), (0, "a", 0.2), (1, "", 1.0)]


def test_the_same_tokens_keep_their_texts():
    bridge = build_bridge(student(), teacher(gives=ONLY), set("a"))
    assert bridge.gives == ONLY
    answer = stored(CHARACTERS, (0, "the cat", 0.7), (0, "a", 0.3))
    assert bridge(said(hypotheses=answer, lens=[9]), torch.tensor([9])).hypotheses is answer


@pytest.mark.parametrize("mine", [CHARACTERS, PIECES])
def test_texts_of_subwords_that_were_stored(mine):
    its = vocabulary("▁", *"ACEHST", "▁THE", "▁A")
    units = "characters" if mine is CHARACTERS else "subwords"
    bridge = build_bridge(student(mine, units), teacher(its, "subwords", gives=ONLY), set("aceh"))
    found = bridge(
        said(hypotheses=stored(its, (0, "THE CAT", 1.0), units="subwords"), lens=[9]), torch.tensor([9])
    ).hypotheses
    assert texts_of(found, mine) == [(0, "the cat", 1.0)]


def test_a_loss_takes_a_batch_of_which_nothing_can_be_written():
    its = vocabulary(*"ae7", "▁")
    bridge = build_bridge(student(vocabulary(*"ae")), teacher(its, gives=ONLY), set("ae"))
    found = bridge(said(hypotheses=stored(its, (1, "7", 1.0)), lens=[4, 4]), torch.tensor([4, 4])).hypotheses
    log_probs = random_log_probs(2, 4, 3).requires_grad_()
    loss = nbest(log_probs, torch.tensor([4, 4]), found)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(log_probs.grad).all()
