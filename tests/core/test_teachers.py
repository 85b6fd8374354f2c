"""Teachers: padding never counts; the oracle sees the labels, and no other one does."""

from __future__ import annotations

import pytest
import torch

from kdcompress.frontend import LogMel, LogMelConfig
from kdcompress.layers import count_parameters, two_factors
from kdcompress.model_settings import ConventionalConfig, LstmConfig, OracleConfig, VggConfig
from kdcompress.teachers import TEACHERS, build_teacher
from kdcompress.teachers.oracle import sinusoids

ENCODER = {"width": 8, "depth": 2, "kernel": 5}
LENS, LABELS, LABEL_LENS = torch.tensor([11, 6]), torch.tensor([[1, 2, 3], [4, 2, 0]]), torch.tensor([3, 2])
ORACLES = [
    {},
    {"positions": "source"},
    {"positions": "target"},
    {"positions": "both", "source_self_attention": True, "label_self_attention": 1},
]


DEAF = {
    "conventional": ConventionalConfig(kind="conventional", encoder=ENCODER),
    "vgg": VggConfig(kind="vgg", channels=(3, 4), width=8, depth=2, kernel=5),
    "vgg-three": VggConfig(kind="vgg", channels=(3, 4, 5), width=8, depth=2, kernel=5),
    "lstm": LstmConfig(kind="lstm", width=6),
}
"""Teachers that do not look at labels. Sizes are small; the rules hold at any size."""


@pytest.fixture
def make_oracle(frontend, lively):
    def make(**settings):
        torch.manual_seed(2)
        config = OracleConfig.model_validate({"kind": "oracle", "heads": 2, "encoder": ENCODER, **settings})
        return lively(build_teacher(config, frontend, 5))

    return make


@pytest.fixture
def make_deaf(frontend, lively):
    def make(name, **changes):
        torch.manual_seed(2)
        return lively(build_teacher(DEAF[name].model_copy(update=changes), frontend, 5))

    return make


@pytest.fixture
def features(frontend):
    """Two items of 11 and 6 frames; the second one's padding is silence, as in a batch."""
    inputs = 0.3 * torch.randn(2, 11 * 320, generator=torch.Generator().manual_seed(4))
    inputs[1, 6 * 320 :] = 0
    return frontend(inputs)


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


@pytest.mark.parametrize("name", DEAF)
def test_padding_never_counts_for_a_deaf_teacher(make_deaf, features, name):
    check_padding(make_deaf(name), features)


@pytest.mark.parametrize("name", DEAF)
def test_nobody_else_sees_labels(make_deaf, features, name):
    teacher = make_deaf(name)
    one = teacher(features, LENS, LABELS, LABEL_LENS)
    assert torch.equal(one, teacher(features, LENS, LABELS.flip(0), LABEL_LENS.flip(0)))


@pytest.mark.parametrize(
    ("name", "reach"), [("conventional", (2, 10)), ("vgg", (2, 10)), ("vgg-three", (1, 10)), ("lstm", (0, 10))]
)
def test_a_teacher_looks_both_ways(make_deaf, features, name, reach):
    later = features.clone()
    later[0, 6 * 4 : 7 * 4] += 1.0
    teacher = make_deaf(name)
    change = teacher(later, LENS, LABELS, LABEL_LENS) - teacher(features, LENS, LABELS, LABEL_LENS)
    changed = (change[0].abs().amax(dim=1) > 1e-6).nonzero()[:, 0]
    # two blocks of kernel 5 reach four frames; the first layers overlap their neighbours, too
    assert (changed.min().item(), changed.max().item()) == reach


@torch.no_grad()
@pytest.mark.parametrize("name", [*DEAF, "oracle"])
def test_hidden_blocks_are_in_the_time_of_the_answer(make_deaf, make_oracle, features, name):
    teacher = make_oracle(fusion_depth=1) if name == "oracle" else make_deaf(name)
    plain = teacher.outputs(features, LENS, LABELS, LABEL_LENS)
    assert torch.equal(teacher(features, LENS, LABELS, LABEL_LENS), plain.log_probs)
    assert [block.shape for block in plain.hidden] == [(2, 11, width) for width in teacher.hidden_dims]
    assert plain.hidden
    frame = 5
    later = features.clone()
    later[0, frame * 4 : (frame + 1) * 4] += 3.0
    changed = teacher.outputs(later, LENS, LABELS, LABEL_LENS)
    for before, after in zip(plain.hidden, changed.hidden, strict=True):
        reached = (after - before)[0].abs().amax(dim=1).gt(1e-6).nonzero()[:, 0]
        middle = (reached.min() + reached.max()) / 2
        assert frame <= middle <= frame + 1  # it spreads equally to both sides; the first layer reads one frame back


@pytest.mark.parametrize("name", DEAF)
def test_every_parameter_of_a_deaf_teacher_learns(make_deaf, features, name):
    teacher = make_deaf(name).train()
    weights = torch.randn(5, generator=torch.Generator().manual_seed(0))
    (teacher(features, LENS, LABELS, LABEL_LENS) * weights).sum().backward()
    for parameter_name, parameter in teacher.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", DEAF)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 8])
def test_any_subsampling_gives_one_frame_for_so_many_features(make_deaf, frontend, name, factor):
    teacher = make_deaf(name, subsampling_factor=factor)
    features = frontend(torch.randn(1, 5 * factor * 80, generator=torch.Generator().manual_seed(1)))
    said = teacher(features, torch.tensor([5]), LABELS[:1], LABEL_LENS[:1])
    assert said.shape == (1, 5, 5)
    assert torch.isfinite(said).all()


@pytest.mark.parametrize(("number", "factors"), [(1, (1, 1)), (2, (2, 1)), (4, (2, 2)), (6, (3, 2)), (7, (7, 1))])
def test_two_factors(number, factors):
    assert two_factors(number) == factors


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        (ConventionalConfig(kind="conventional"), 0.55, 0.65),
        (VggConfig(kind="vgg"), 0.55, 0.75),
        (LstmConfig(kind="lstm"), 0.6, 0.8),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_default_teachers_are_of_one_size(config, low, high):
    frontend = LogMel(LogMelConfig(sample_rate=8000, num_mel_bins=40))
    assert low <= count_parameters(build_teacher(config, frontend, 18)) / 1e6 <= high


def test_every_teacher_of_the_table_is_tested():
    assert {config.kind for config in DEAF.values()} | {"oracle"} == set(TEACHERS)


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
    change = (plain - swapped).abs().max()
    assert change > 1e-3 if ordered else change < 1e-5


@pytest.mark.parametrize(
    ("positions", "placed"), [("none", False), ("target", False), ("source", True), ("both", True)]
)
def test_place_of_a_frame_counts_only_with_source_positions(make_oracle, positions, placed):
    """Of a constant input, all frames far from the ends are alike unless they know where they are."""
    oracle = make_oracle(positions=positions)
    log_probs = oracle(torch.full((1, 80, 16), -6.0), torch.tensor([20]), LABELS[:1], LABEL_LENS[:1])[0]
    change = (log_probs[8] - log_probs[12]).abs().max()
    assert change > 1e-3 if placed else change < 1e-5


@pytest.mark.parametrize("label_self_attention", [0, 2])
def test_labels_are_a_bag_without_target_positions_however_deep(make_oracle, features, label_self_attention):
    oracle = make_oracle(fusion_depth=3, label_self_attention=label_self_attention, source_self_attention=True)
    plain = oracle(features, LENS, LABELS, LABEL_LENS)[0]
    permuted = oracle(features, LENS, torch.tensor([[2, 3, 1], [4, 2, 0]]), LABEL_LENS)[0]
    torch.testing.assert_close(permuted, plain, atol=1e-5, rtol=1e-5)
    twice = oracle(features, LENS, torch.tensor([[2, 2, 1], [4, 2, 0]]), LABEL_LENS)[0]
    assert (twice - plain).abs().max() > 1e-3


@pytest.mark.parametrize("depth", [1, 3])
def test_labels_enter_at_each_fusion_block_and_not_before(make_oracle, features, depth):
    oracle = make_oracle(fusion_depth=depth)
    other_labels = torch.tensor([[1, 4, 3], [4, 2, 0]])
    plain, other = (oracle.outputs(features, LENS, labels, LABEL_LENS).hidden for labels in (LABELS, other_labels))
    changes = [float((one - two).detach().abs().max()) for one, two in zip(plain, other, strict=True)]
    assert len(changes) == ENCODER["depth"] + depth
    assert changes[: ENCODER["depth"]] == [0, 0]
    assert min(changes[ENCODER["depth"] :]) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_label_self_attention_lets_a_label_know_its_neighbours(make_oracle, blocks):
    oracle = make_oracle(label_self_attention=blocks)
    assert len(oracle.label_encoder) == blocks

    def first_label(labels: list[int], valid: int) -> torch.Tensor:
        target = oracle.embedding(torch.tensor([labels]))
        padded = torch.arange(len(labels))[None] >= valid
        for block in oracle.label_encoder:
            target = block(target, padded)
        return target[0, 0]

    alone = first_label([1, 2, 3], 3)
    assert torch.equal(alone, first_label([1, 2, 4], 3)) == (blocks == 0)
    torch.testing.assert_close(first_label([1, 2, 3], 2), first_label([1, 2, 4], 2))  # padding is no neighbour


@torch.no_grad()
@pytest.mark.parametrize("far", [False, True])
def test_source_self_attention_reaches_every_frame(make_oracle, frontend, far):
    oracle = make_oracle(source_self_attention=far)
    features = frontend(torch.randn(1, 30 * 320, generator=torch.Generator().manual_seed(5)))
    later = features.clone()
    later[0, 25 * 4 :] += 3.0
    lens = torch.tensor([30])
    change = oracle(features, lens, LABELS[:1], LABEL_LENS[:1]) - oracle(later, lens, LABELS[:1], LABEL_LENS[:1])
    assert (change[0, :15].abs().max() > 1e-4) == far  # two blocks of kernel 5 reach four frames


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
