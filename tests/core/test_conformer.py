"""What is particular to the conformer: the band of attention, the mask at the start of a stream, its counter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def conformer(make_student):
    """A small one whose steps of more than 8 frames need several groups of queries, and outlast its past of 5."""
    return make_student("chunked_conformer", width=12, heads=3, left_frames=5, lookahead_frames=4)


def pcm(batch: int, frames: int, student, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(batch, frames * student.units_per_frame, generator=generator)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(1, 30), min_size=1, max_size=8), batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_split_gives_what_the_whole_gives(conformer, cuts, batch, seed):
    inputs = pcm(batch, sum(cuts), conformer, seed)
    whole, last = conformer.step(inputs, conformer.init_states(batch))
    states, pieces = conformer.init_states(batch), []
    for piece in inputs.split([cut * conformer.units_per_frame for cut in cuts], dim=1):
        log_probs, states = conformer.step(piece, states)
        pieces.append(log_probs)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, **CLOSE)
    for name, state in states.items():
        torch.testing.assert_close(state, last[name], **CLOSE)
