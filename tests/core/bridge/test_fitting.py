"""Texts that do not fit give way to others, and to the reference where there is no other."""

import torch

from kdcompress.bridge.fitting import fitted_texts, frames_of_texts
from kdcompress.data.text import frames_needed
from kdcompress.losses.nbest import nbest, stacked

LABELS, LABEL_LENS = torch.tensor([[1, 2], [3, 0], [0, 0]]), torch.tensor([2, 1, 0])


def fitted(rows, frame_lens=(4, 4, 4)):
    return fitted_texts(stacked(rows, torch.device("cpu")), torch.tensor(frame_lens), LABELS, LABEL_LENS)


def told(found):
    rows = zip(found.items.tolist(), found.labels.tolist(), found.label_lens.tolist(), strict=True)
    texts = [(item, tuple(labels[:length])) for item, labels, length in rows]
    return {text: round(weight, 6) for text, weight in zip(texts, found.weights.tolist(), strict=True)}


def test_frames_are_counted_as_for_references():
    texts = [(1, 1, 2), (1, 2, 1), (), (3, 3, 3)]
    found = stacked([(0, text, 1.0) for text in texts], torch.device("cpu"))
    assert frames_of_texts(found.labels, found.label_lens).tolist() == [frames_needed(text) for text in texts]


def test_what_fits_stays_as_it_is():
    rows = [(0, (1, 2), 0.75), (0, (2,), 0.25), (1, (), 1.0)]
    found = fitted(rows)
    assert (found.too_long, found.references) == (0, 0)
    assert told(found.hypotheses) == {(0, (1, 2)): 0.75, (0, (2,)): 0.25, (1, ()): 1.0}


def test_the_others_share_the_weight_of_a_text_that_is_too_long():
    found = fitted([(0, (1, 1, 1), 0.5), (0, (1, 2), 0.3), (0, (2,), 0.2), (1, (3,), 1.0)])
    assert (found.too_long, found.references) == (1, 0)
    assert told(found.hypotheses) == {(0, (1, 2)): 0.6, (0, (2,)): 0.4, (1, (3,)): 1.0}


def test_an_item_without_a_text_has_its_reference():
    found = fitted([(0, (1, 1, 1, 1), 1.0)])
    assert (found.too_long, found.references) == (1, 2)
    assert told(found.hypotheses) == {(0, (1, 2)): 1.0, (1, (3,)): 1.0}  # the third item has no reference


def test_where_nothing_is_left_a_loss_is_zero():
    found = fitted_texts(stacked([], torch.device("cpu")), torch.tensor([2]), LABELS[2:], LABEL_LENS[2:])
    assert nbest(torch.zeros(1, 2, 4).log_softmax(2), torch.tensor([2]), found.hypotheses).item() == 0
