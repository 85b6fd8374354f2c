"""Teachers: padding never counts; the conventional one is deaf to labels, the oracle is not."""

from __future__ import annotations

import pytest
import torch

from kdcompress.recipe import ConventionalConfig, OracleConfig
from kdcompress.teachers import build_teacher
from kdcompress.teachers.oracle import sinusoids

ENCODER = {"width": 8, "depth": 2, "kernel": 5}
LENS, LABELS, LABEL_LENS = torch.tensor([11, 6]), torch.tensor([[1, 2, 3], [4, 2, 0]]), torch.tensor([3, 2])
ORACLES = [
    {},
    {"positions": "source"},
    {"positions": "target"},
    {"positions": "both", "source_self_attention": True, "label_self_attention": 1},
]


@pytest.fixture
def make_oracle(frontend, lively):
    def make(**settings):
        torch.manual_seed(2)
        config = OracleConfig.model_validate({"kind": "oracle", "heads": 2, "encoder": ENCODER, **settings})
        return lively(build_teacher(config, frontend, 5))

    return make


@pytest.fixture
def conventional(frontend, lively):
    torch.manual_seed(2)
    return lively(build_teacher(ConventionalConfig(kind="conventional", encoder=ENCODER), frontend, 5))


@pytest.fixture
def features(conventional):
    """Two items of 11 and 6 frames; the second one's padding is silence, as in a batch."""
    inputs = 0.3 * torch.randn(2, 11 * conventional.units_per_frame, generator=torch.Generator().manual_seed(4))
    inputs[1, 6 * conventional.units_per_frame :] = 0
    return conventional.features(inputs)


def check_padding(network, features):
    plain = network(features, LENS, LABELS, LABEL_LENS)
    assert plain.shape == (2, 11, 5)
    assert plain.dtype == torch.float32
    torch.testing.assert_close(plain.exp().sum(dim=2), torch.ones(2, 11))
    further = torch.nn.functional.pad(features, (0, 0, 0, 5 * 4), value=7.0)
    further[1, 6 * 4 :] = -3.0  # whatever stands in the padding
    labels = torch.nn.functional.pad(LABELS, (0, 4), value=3)
    labels[1, 2:] = 1
    padded = network(further, LENS, labels, LABEL_LENS)
    torch.testing.assert_close(padded[0, :11], plain[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded[1, :6], plain[1, :6], atol=1e-5, rtol=1e-5)
    alone = network(features[1:, : 6 * 4], LENS[1:], LABELS[1:, :2], LABEL_LENS[1:])
    torch.testing.assert_close(alone[0], plain[1, :6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", ORACLES)
def test_padding_never_counts_for_an_oracle(make_oracle, features, settings):
    check_padding(make_oracle(**settings), features)


def test_padding_never_counts_for_a_conventional_teacher(conventional, features):
    check_padding(conventional, features)


def test_conventional_teacher_is_deaf_to_labels(conventional, features):
    one = conventional(features, LENS, LABELS, LABEL_LENS)
    assert torch.equal(one, conventional(features, LENS, LABELS.flip(0), LABEL_LENS.flip(0)))


def test_conventional_teacher_looks_both_ways(conventional, features):
    later = features.clone()
    later[0, 6 * 4 : 7 * 4] += 1.0
    change = conventional(later, LENS, LABELS, LABEL_LENS) - conventional(features, LENS, LABELS, LABEL_LENS)
    changed = change[0].abs().amax(dim=1) > 1e-5
    # one frame more to the right: the subsampling reads the features of its frame and of the one before
    assert changed.nonzero()[:, 0].tolist() == list(range(2, 11))


@pytest.mark.parametrize("settings", ORACLES)
def test_oracle_uses_labels_and_input(make_oracle, features, settings):
    oracle = make_oracle(**settings)
    plain = oracle(features, LENS, LABELS, LABEL_LENS)
    other_labels = LABELS.clone()
    other_labels[0, 1] = 4
    assert (oracle(features, LENS, other_labels, LABEL_LENS)[0] - plain[0]).abs().max() > 1e-3
    assert torch.equal(oracle(features, LENS, other_labels, LABEL_LENS)[1], plain[1])
    assert (oracle(features + 1.0, LENS, LABELS, LABEL_LENS) - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("positions", "ordered"), [("none", False), ("source", False), ("target", True), ("both", True)]
)
def test_order_of_labels_counts_only_with_target_positions(make_oracle, features, positions, ordered):
    oracle = make_oracle(positions=positions)
    plain = oracle(features, LENS, LABELS, LABEL_LENS)[0]
    swapped = oracle(features, LENS, torch.tensor([[3, 2, 1], [4, 2, 0]]), LABEL_LENS)[0]
    assert ((plain - swapped).abs().max() > 1e-3) == ordered


@pytest.mark.parametrize(
    ("positions", "placed"), [("none", False), ("target", False), ("source", True), ("both", True)]
)
def test_place_of_a_frame_counts_only_with_source_positions(make_oracle, positions, placed):
    """Of a constant input, all frames far from the ends are alike unless they know where they are."""
    oracle = make_oracle(positions=positions)
    log_probs = oracle(torch.full((1, 80, 16), -6.0), torch.tensor([20]), LABELS[:1], LABEL_LENS[:1])[0]
    assert ((log_probs[8] - log_probs[12]).abs().max() > 1e-3) == placed


@pytest.mark.parametrize("settings", ORACLES)
def test_empty_reference_is_fine(make_oracle, features, settings):
    oracle = make_oracle(**settings)
    nothing = torch.zeros(2, dtype=torch.int64)
    log_probs = oracle(features, LENS, LABELS, nothing)
    assert torch.isfinite(log_probs).all()
    torch.testing.assert_close(log_probs[0], oracle(features, LENS, LABELS.flip(1), nothing)[0])


def test_labels_are_hidden_in_training_only(make_oracle, features):
    masked, plain = make_oracle(label_mask_prob=0.99), make_oracle()
    for network in (masked, plain):
        torch.testing.assert_close(
            network(features, LENS, LABELS, LABEL_LENS), plain(features, LENS, LABELS, LABEL_LENS)
        )
    labels = torch.arange(1, 1001)[None] % 5
    torch.manual_seed(1)
    hidden = make_oracle(label_mask_prob=0.3).train()._masked(labels)
    share = float((hidden == masked.mask_id).float().mean())
    assert 0.24 < share < 0.36
    assert torch.equal(hidden[hidden != masked.mask_id], labels[hidden != masked.mask_id])
    assert torch.equal(masked.eval()._masked(labels), labels)
    assert torch.equal(plain.train()._masked(labels), labels)


def test_training_with_hidden_labels_gives_other_posteriors(make_oracle, features):
    """All labels hidden is the same as other hidden labels: nothing of them gets through."""
    oracle = make_oracle(label_mask_prob=0.999999, encoder={**ENCODER, "dropout": 0.0})
    oracle.train()
    one = oracle(features, LENS, LABELS, LABEL_LENS)
    two = oracle(features, LENS, LABELS.roll(1, dims=1), LABEL_LENS)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("settings", ORACLES)
def test_every_parameter_of_an_oracle_learns(make_oracle, features, settings):
    oracle = make_oracle(**settings).train()
    weights = torch.randn(5, generator=torch.Generator().manual_seed(0))
    (oracle(features, LENS, LABELS, LABEL_LENS) * weights).sum().backward()
    for name, parameter in oracle.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sinusoids_of_odd_width_and_by_the_formula():
    table = sinusoids(6, 5)
    assert table.shape == (6, 5)
    position, pair = 4, 1
    angle = torch.tensor(position / 10000 ** (2 * pair / 5))
    torch.testing.assert_close(table[position, 2 * pair], angle.sin())
    torch.testing.assert_close(table[position, 2 * pair + 1 - 2], torch.tensor(4.0).cos())
