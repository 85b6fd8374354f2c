"""The proof holds for the right graph and fails for any other."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcompress_export.agreement import compare_models, split_differences
from kdcompress_export.errors import ParityError
from kdcompress_export.from_run import describe
from kdcompress_export.graphs import arrays, set_array
from kdcompress_export.parity import check_parity
from kdcompress_export.streams import output_frames, run_pieces, speech_like_noise
from kdcompress_runtime.model import CtcModel


def test_float32_equals_torch_at_every_batch_and_length(floating, student):
    report = check_parity(student.network, floating[1], recordings=[speech_like_noise(1.3, 8000, 5)])
    names = " ".join(case.name for case in report.cases)
    assert all(part in names for part in ("batch 1, 1 frames", "batch 3, 1 frames", "batch 3, 13", "batch 1, 250"))
    assert "recording 1" in names
    assert 0 < report.max_abs_diff < 1e-5


def test_all_failures_are_collected(floating, student):
    other = copy.deepcopy(student.network)
    with torch.no_grad():
        other.head.bias[1] += 0.01
    with pytest.raises(ParityError, match=r"5 of 11 comparisons.*batch 1, 1 frames.*batch 1, 250 frames"):
        check_parity(other, floating[1])


def test_a_lost_state_is_found_although_single_steps_agree(floating, student):
    """A graph that returns the old cache is right for the first step and wrong from the second on."""
    model = onnx.load_from_string(floating[0])
    last = student.network.state_specs()[-1].name
    for node in model.graph.node:
        node.output[:] = ["unused" if name == f"next_{last}" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Identity", [last], [f"next_{last}"]))
    broken = CtcModel(model.SerializeToString(), describe(student, student.network), student.vocabulary)
    with pytest.raises(ParityError, match="states"):
        check_parity(student.network, broken)
    found = split_differences(broken, speech_like_noise(2.0, 8000, 1), seed=0, splits=2)
    assert found.max_abs_diff > 1e-2


@settings(max_examples=25, deadline=None)
@given(seconds=st.floats(0.02, 1.5), cuts=st.data())
def test_pieces_equal_whole(floating, seconds, cuts):
    model = floating[1]
    samples = speech_like_noise(seconds, 8000, 3)
    total = output_frames(samples, model.metadata) + model.metadata.lookahead_frames
    pieces = []
    while sum(pieces) < total:
        pieces.append(cuts.draw(st.integers(1, total - sum(pieces))))
    whole = run_pieces(model, samples)
    assert whole.shape[0] == output_frames(samples, model.metadata)
    np.testing.assert_allclose(run_pieces(model, samples, pieces), whole, atol=1e-5)


def test_agreement_measures_a_known_change(floating, student):
    content, model = floating
    changed = onnx.load_from_string(content)
    bias = next(n.input[2] for n in changed.graph.node if "student.head.weight" in n.input)
    set_array(changed.graph, bias, arrays(changed.graph)[bias] + np.float32(3.0))
    same = CtcModel(changed.SerializeToString(), model.metadata, student.vocabulary)
    audio = [speech_like_noise(1.0, 8000, 1)]
    # The same for every token: the log-softmax takes it out again.
    found = compare_models(model, same, audio)
    assert (found.frames, found.argmax_agreement) == (25, 1.0)
    assert found.mean_abs_diff < 1e-5
    set_array(changed.graph, bias, (np.arange(len(student.vocabulary)) == 2).astype(np.float32) * 50)
    other = CtcModel(changed.SerializeToString(), model.metadata, student.vocabulary)
    found = compare_models(model, other, audio)
    assert found.argmax_agreement < 0.9
    assert found.mean_abs_diff > 1.0
