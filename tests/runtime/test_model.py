"""The model: equal to a reference in numpy, checked against its metadata, safe in use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kdcompress_runtime import Bundle, CtcModel, ModelError, OptionsError, SessionOptions


@pytest.fixture(scope="module")
def model(bundle_path):
    return CtcModel.from_bundle(Bundle.open(bundle_path))


def reference(weights, samples, past=3, ahead=2, units=80):
    """Log-probabilities frame by frame, with the future at hand: no states, no lag."""
    frames = -(-len(samples) // units)
    padded = np.pad(samples, (0, (frames + ahead) * units - len(samples))).reshape(-1, units)
    features = 0.5 * np.tanh(padded.astype(np.float64) @ weights.linear)
    features = np.pad(features, ((past, 0), (0, 0)))
    rows = []
    for frame in range(frames):
        window = features[frame : frame + past + 1 + ahead]
        scores = np.tanh(np.einsum("th,oht->o", window, weights.kernel)) @ weights.output + weights.bias
        rows.append(scores - np.logaddexp.reduce(scores))
    return np.array(rows)


def test_whole_recording_equals_the_reference(recognizer, weights, audio):
    found = recognizer.log_probs(audio, 8000)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(weights, audio), atol=2e-5)


def test_initial_states_have_shapes_dtypes_and_values_of_the_metadata(model):
    states = model.init_states(batch=3)
    assert list(states) == ["history", "gain", "count"]
    assert states["history"].shape == (3, 12, 5)
    assert states["gain"].dtype == np.float32
    assert (states["gain"] == 0.5).all()
    assert states["count"].dtype == np.int64


def test_step_changes_neither_inputs_nor_states(model, audio):
    inputs, states = audio[None, :800].copy(), model.init_states()
    before = {name: value.copy() for name, value in states.items()}
    log_probs, following = model.step(inputs, states)
    assert log_probs.shape == (1, 10, 8)
    assert following["count"][0] == 1
    np.testing.assert_array_equal(inputs[0], audio[:800])
    for name, value in before.items():
        np.testing.assert_array_equal(states[name], value)


def test_rows_of_a_batch_do_not_mix(model, audio):
    both = np.stack([audio[:1600], audio[1600:3200]])
    together, _ = model.step(both, model.init_states(batch=2))
    for row, alone in enumerate(both):
        np.testing.assert_allclose(together[row], model.step(alone[None], model.init_states())[0][0], atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (np.zeros((1, 81), np.float32), "k \\* 80"),
        (np.zeros((1, 0), np.float32), "k \\* 80"),
        (np.zeros(80, np.float32), "k \\* 80"),
        (np.zeros((1, 80), np.float64), "float64; a step takes .*, float32"),
        (np.full((1, 80), np.nan, np.float32), "NaN"),
    ],
)
def test_inputs_that_do_not_fit_are_model_errors(model, inputs, words):
    with pytest.raises(ModelError, match=words):
        model.step(inputs, model.init_states())


def test_a_missing_state_is_a_model_error(model):
    states = model.init_states()
    del states["gain"]
    with pytest.raises(ModelError, match="gain"):
        model.step(np.zeros((1, 80), np.float32), states)


def test_garbage_is_a_model_error(bundle_path, tmp_path, bundle_writer):
    bundle = Bundle.open(bundle_writer(tmp_path / "b", model=b"this is not a graph"))
    with pytest.raises(ModelError, match=r"model\.onnx.*cannot load.*export the bundle again"):
        CtcModel.from_bundle(bundle)


def test_a_graph_that_differs_from_its_metadata_is_refused_at_load(bundle_path):
    bundle = Bundle.open(bundle_path)
    states = bundle.metadata.states
    wrong = {
        "no input 'waves'": replace(bundle.metadata, input=replace(bundle.metadata.input, name="waves")),
        "unknown input 'count'": replace(bundle.metadata, states=states[:2]),
        "no output 'next_more'": replace(bundle.metadata, states=(*states, replace(states[0], name="more"))),
        "'count' is int64, not int32": replace(
            bundle.metadata, states=(*states[:2], replace(states[2], dtype="int32"))
        ),
        "'gain' has shape": replace(
            bundle.metadata, states=(states[0], replace(states[1], shape=("N", 13)), states[2])
        ),
    }
    for words, metadata in wrong.items():
        with pytest.raises(ModelError, match=words):
            CtcModel.from_bundle(replace(bundle, metadata=metadata))


def test_a_vocabulary_of_another_size_is_refused_at_load(tmp_path, bundle_writer):
    path = bundle_writer(tmp_path / "b", tokens="<blk> 0\na 1\n")
    with pytest.raises(ModelError, match="'log_probs' has shape"):
        CtcModel.from_bundle(Bundle.open(path))


def test_memory_is_kept_for_models_that_stream_unless_said_otherwise():
    for streaming in (True, False):
        default = SessionOptions().build(streaming=streaming)
        assert (default.enable_cpu_mem_arena, default.enable_mem_pattern) == (streaming, streaming)
        said = SessionOptions(enable_cpu_mem_arena=not streaming, enable_mem_pattern=not streaming)
        built = said.build(streaming=streaming)
        assert (built.enable_cpu_mem_arena, built.enable_mem_pattern) == (not streaming, not streaming)


def test_session_options_reach_onnxruntime():
    built = SessionOptions(intra_op_threads=3, allow_spinning=True, enable_cpu_mem_arena=True).build()
    assert built.intra_op_num_threads == 3
    assert built.enable_cpu_mem_arena
    assert not built.enable_mem_pattern
    assert built.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    default = SessionOptions().build()
    assert default.intra_op_num_threads == 1
    assert default.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_threads_out_of_range_are_refused(value):
    with pytest.raises(OptionsError, match="intra_op_threads"):
        SessionOptions(intra_op_threads=value)
