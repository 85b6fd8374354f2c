"""Each kind of label: what is stored, how much, and how near it comes back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress.labels.kinds import label_kind
from kdcompress.labels.kinds.base import Reference
from kdcompress.labels.kinds.top_k import spread
from kdcompress.labels.settings import CodebookLabels, FullLabels, NbestLabels, OccupancyLabels, TopKLabels
from kdcompress.losses.base import Hypotheses
from kdcompress.losses.codebook import NO_CODE, encode
from kdcompress.losses.nbest import best_hypotheses
from kdcompress.occupancy import label_occupancy
from kdcompress.teachers.teacher import Said

LENS = torch.tensor([7, 4, 0])
LABELS, LABEL_LENS = torch.tensor([[1, 2, 2], [3, 0, 0], [0, 0, 0]]), torch.tensor([3, 1, 0])
REFERENCE = Reference(LABELS, LABEL_LENS, 0)


def said(tokens: int = 5, scale: float = 3.0, seed: int = 1) -> Said:
    generator = torch.Generator().manual_seed(seed)
    log_probs = (scale * torch.randn(3, 7, tokens, generator=generator)).log_softmax(dim=2)
    return Said(LENS, log_probs, (torch.randn(3, 7, 4, generator=generator),))


def there_and_back(settings_of, one: Said, tokens: int = 5, centroids=None) -> Said:
    kind = label_kind(settings_of, tokens, centroids)
    items = kind.encode(one, REFERENCE)
    assert len(items) == 3
    for item in items:
        for name, layout in kind.layout.items():
            assert item[name].dtype == layout.dtype
            assert item[name].shape[1:] == layout.shape
    # what reads does not know the codebooks
    return label_kind(settings_of, tokens).decode(items, LENS, LABELS.shape[1])


def inside(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([row[:length] for row, length in zip(tensor, LENS, strict=True)])


def test_full_posteriors_come_back_within_float16():
    one = said(scale=20.0)
    back = there_and_back(FullLabels(kind="full"), one)
    assert back.log_probs.dtype == torch.float32
    torch.testing.assert_close(inside(back.log_probs), inside(one.log_probs), rtol=2**-11, atol=1e-6)
    assert torch.equal(back.frame_lens, LENS)


def test_what_cannot_be_is_finite_in_float16():
    log_probs = torch.tensor([[[0.0, -torch.inf]]])
    for wanted in (FullLabels(kind="full"), TopKLabels(top_k=2)):
        kind = label_kind(wanted, 2)
        items = kind.encode(Said(torch.tensor([1]), log_probs), REFERENCE)
        back = kind.decode(items, torch.tensor([1]), 0)
        assert torch.isfinite(back.log_probs).all()
        assert back.log_probs[0, 0].argmax() == 0


@settings(deadline=None, max_examples=25)
@given(tokens=st.integers(2, 12), top_k=st.integers(1, 12), scale=st.floats(0.1, 12), seed=st.integers(0, 99))
def test_top_k_keeps_the_best_and_the_mass_of_the_others(tokens, top_k, scale, seed):
    one = said(tokens, scale, seed)
    whole = there_and_back(TopKLabels(top_k=top_k), one, tokens).log_probs
    back = inside(whole)
    original = inside(one.log_probs)
    assert torch.isfinite(whole).all()
    torch.testing.assert_close(back.exp().sum(dim=1), torch.ones(len(back)), rtol=0, atol=1e-5)
    kept = original.topk(min(top_k, tokens), dim=1).indices
    torch.testing.assert_close(back.gather(1, kept).exp(), original.gather(1, kept).exp(), rtol=3e-2, atol=1e-5)
    if top_k >= tokens:
        return
    others = torch.ones_like(back, dtype=torch.bool).scatter(1, kept, value=False)
    tail, true_tail = ((rows.exp() * others).sum(dim=1) for rows in (back, original))
    torch.testing.assert_close(tail, true_tail, rtol=0, atol=2e-3)
    spread_out = [row[chosen] for row, chosen in zip(back, others, strict=True)]
    assert all(float(row.max() - row.min()) < 1e-6 for row in spread_out)


def test_rounding_up_leaves_a_tail_all_the_same():
    ids, kept = torch.tensor([[[0, 1]]]), torch.tensor([[[math.log(0.7), math.log(0.3001)]]])
    log_probs = spread(ids, kept, 4)
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0))


def test_eight_of_500_tokens_are_a_thirtyfirst_of_all():
    one = said(500)
    sizes = {}
    for wanted in (FullLabels(kind="full"), TopKLabels(), OccupancyLabels(kind="occupancy")):
        items = label_kind(wanted, 500).encode(one, REFERENCE)
        frames = int(LENS.sum())
        sizes[wanted.kind] = sum(array.nbytes for item in items for array in item.values()) / frames
    assert sizes == {"full": 1000, "top_k": 32, "occupancy": 8}
    assert sizes["full"] / sizes["top_k"] > 30


def test_more_than_65536_tokens_have_wide_ids():
    assert label_kind(TopKLabels(), 65536).layout["ids"].dtype == "<u2"
    assert label_kind(TopKLabels(), 65537).layout["ids"].dtype == "<u4"
    assert label_kind(NbestLabels(kind="nbest"), 65537).layout["tokens"].dtype == "<u4"


def test_occupancies_come_back_by_label():
    one = said(scale=6.0)
    back = there_and_back(OccupancyLabels(kind="occupancy"), one)
    wanted = label_occupancy(one.log_probs, LENS, LABELS, LABEL_LENS)
    assert back.occupancy.shape == (3, 7, 3)
    two = wanted.topk(2, dim=2)
    only_two = torch.zeros_like(wanted).scatter(2, two.indices, two.values)
    torch.testing.assert_close(inside(back.occupancy), inside(only_two), rtol=2**-10, atol=1e-6)
    assert float(inside(wanted - only_two).abs().max()) < 0.2


def test_a_reference_that_does_not_fit_has_no_occupancy():
    one = Said(torch.tensor([2]), said().log_probs[:1, :2])
    kind = label_kind(OccupancyLabels(kind="occupancy"), 5)
    items = kind.encode(one, Reference(torch.tensor([[1, 2, 3]]), torch.tensor([3]), 0))
    back = kind.decode(items, torch.tensor([2]), 3)
    assert back.occupancy.shape == (1, 2, 3)
    assert not back.occupancy.any()


def test_codes_are_bytes_and_padding_is_none():
    one = said()
    centroids = torch.randn(2, 256, 4, generator=torch.Generator().manual_seed(5))
    wanted = CodebookLabels(kind="codebook", codebooks=2, entries=256)
    back = there_and_back(wanted, one, centroids=centroids)
    codes = encode(one.hidden[-1], centroids)
    assert torch.equal(inside(back.codes), inside(codes))
    assert int(inside(codes).max()) > 127
    assert (back.codes[1, 4:] == NO_CODE).all()
    assert (back.codes[2] == NO_CODE).all()


def test_codebooks_that_were_not_fitted_quantise_nothing():
    kind = label_kind(CodebookLabels(kind="codebook"), 5)
    with pytest.raises(ValueError, match="not fitted"):
        kind.encode(said(), REFERENCE)


def test_texts_come_back_with_their_weights():
    one = said(scale=4.0)
    found = best_hypotheses(one.log_probs, LENS, size=3, beam_width=6)
    back = there_and_back(NbestLabels(kind="nbest", size=3, beam_width=6), one).hypotheses
    assert torch.equal(back.items, found.items)
    assert torch.equal(back.label_lens, found.label_lens)
    assert torch.equal(back.labels[:, : found.labels.shape[1]], found.labels)
    torch.testing.assert_close(back.weights, found.weights)


def test_texts_that_a_teacher_gives_itself():
    given_texts = Hypotheses(
        torch.tensor([1, 1, 0]), torch.tensor([[1, 2], [3, 0], [0, 0]]), torch.tensor([2, 1, 0]),
        torch.tensor([0.25, 0.75, 1.0]),
    )  # fmt: skip
    kind = label_kind(NbestLabels(kind="nbest", size=1, beam_width=1), 5)
    items = kind.encode(Said(LENS, hypotheses=given_texts), REFERENCE)
    back = kind.decode(items, LENS, 0).hypotheses
    assert back.items.tolist() == [0, 1]
    assert back.label_lens.tolist() == [0, 1]
    assert back.labels[1, 0] == 3
    assert back.weights.tolist() == [1.0, 1.0]
    nobody = kind.decode(items[2:], LENS[2:], 0).hypotheses
    assert nobody.labels.shape == (0, 1)
