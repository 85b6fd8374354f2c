"""The commonest case: a published teacher of upper-case letters at 50 frames a second, and a student of ours."""

from __future__ import annotations

import torch

from kdcompress.bridge import build_bridge
from kdcompress_runtime.vocabulary import Vocabulary
from tests.core.bridge.sides import CHARACTERS, LETTERS, collapsed, path_log_probs, said, student, teacher

LETTERS_BY_FREQUENCY = "ETAONIHSRDLUMWCFGYPBVK'XJQZ"
HUGGING_FACE = Vocabulary(("<blk>", "<s>", "</s>", "<unk>", "▁", *LETTERS_BY_FREQUENCY))
"""``<pad>`` is its blank, and ``|`` its space."""
NEEDED = {*LETTERS, "'", "▁"}


def answer(text: str, frames_per_letter: int = 4):
    """Each letter held for two frames of 20 ms, as such teachers do."""
    path = [0, 0]
    for letter in text.upper().replace(" ", "▁"):
        path += [HUGGING_FACE.symbols.index(letter)] * 2 + [0] * (frames_per_letter - 2)
    return path


def test_report():
    bridge = build_bridge(student(rate=8000), teacher(HUGGING_FACE, frame_ms=20), NEEDED)
    assert bridge.gives == {"log_probs", "hidden"}
    assert bridge.report == (
        "the teacher hears 16000 Hz, the student 8000 Hz",
        "28 of 31 tokens besides blank are shared after lower-casing",
        "dropped, and its share given to the others: '<s>', '</s>', '<unk>'",
        "2 teacher frames of 20 ms are averaged into one of 40 ms",
    )


def test_its_texts_are_spelled_in_our_letters():
    texts = ["it's a hello", "zebra", "x y z"]
    bridge = build_bridge(student(), teacher(HUGGING_FACE, frame_ms=20), NEEDED)
    paths = [answer(text) for text in texts]
    lens = [len(path) for path in paths]
    # its convolutions end one frame early
    said_by = said(path_log_probs(paths, 32, sure=0.95), [length - 1 for length in lens])
    found = bridge(said_by, torch.tensor([length // 2 for length in lens])).log_probs
    assert found.shape == (3, max(lens) // 2, 29)
    torch.testing.assert_close(found.exp().sum(dim=2), torch.ones(found.shape[:2]))
    for item, text in enumerate(texts):
        assert collapsed(found[item], lens[item] // 2, CHARACTERS) == text


def test_the_same_frames_and_letters_of_our_own_order():
    """With frames of 20 ms nothing is averaged: every column is the letter's."""
    bridge = build_bridge(student(frame_ms=20), teacher(HUGGING_FACE, frame_ms=20), NEEDED)
    log_probs = path_log_probs([answer("we")], 32, sure=0.9)
    found = bridge(said(log_probs), torch.tensor([log_probs.shape[1]])).log_probs.exp()
    kept = log_probs.exp()[..., [0, *range(4, 32)]]
    kept = kept / kept.sum(dim=2, keepdim=True)
    for column, symbol in enumerate(["<blk>", "▁", *LETTERS_BY_FREQUENCY.lower()]):
        torch.testing.assert_close(found[..., CHARACTERS.symbols.index(symbol)], kept[..., column])
