"""Full-context networks for every kind of input: shapes, padding, what each block and stem promises."""

import pytest
import torch
from pydantic import ValidationError

from kdcompress.feature_frontend import FeatureFrontend, FeaturesConfig
from kdcompress.full_context import FullContextNetwork, TokenStem
from kdcompress.image_frontend import ImageConfig, ImageFrontend
from kdcompress.model_settings import ConventionalConfig, EncoderConfig, FullContextConfig, OracleConfig
from kdcompress.teachers.oracle import OracleTeacher
from kdcompress.token_frontend import TokenFrontend, TokensConfig

TOKENS = 7
SYMBOLS = "<mask> <unk> a b c d e"


def frontend_of(task, upsampling=3):
    return {
        "features": lambda: FeatureFrontend(FeaturesConfig(feature_dim=6, deltas=0)),
        "scene_text": lambda: ImageFrontend(ImageConfig(height=16)),
        "translation": lambda: TokenFrontend(TokensConfig(symbols=SYMBOLS, upsampling=upsampling)),
    }[task]()


def inputs_of(task, items, units, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if task == "translation":
        return torch.randint(2, 7, (items, units), generator=generator).float()
    if task == "scene_text":
        return torch.randint(0, 256, (items, units, 16), generator=generator).float()
    return torch.randn(items, units, 6, generator=generator)


def network_of(task, block="convolution", channels=(), kind=FullContextConfig, factor=None):
    encoder = EncoderConfig(width=16, depth=2, kernel=5, block=block, channels=channels, heads=2, dropout=0.0)
    factor = factor or (1 if task == "translation" else 4)
    names = {FullContextConfig: "full_context", ConventionalConfig: "conventional", OracleConfig: "oracle"}
    torch.manual_seed(0)
    config = kind(kind=names[kind], subsampling_factor=factor, encoder=encoder)
    made = OracleTeacher if kind is OracleConfig else FullContextNetwork
    return made(config, frontend_of(task), TOKENS).eval()


CASES = [
    (task, block, channels)
    for task, channels in (("features", ()), ("scene_text", ()), ("scene_text", (4, 6)), ("translation", ()))
    for block in ("convolution", "attention", "both", "recurrent")
]


@pytest.mark.parametrize(("task", "block", "channels"), CASES)
@torch.no_grad()
def test_padding_changes_nothing(task, block, channels):
    network = network_of(task, block, channels)
    lens = torch.tensor([9, 24])
    inputs = inputs_of(task, 2, 24)
    inputs[0, 9:] = 0
    frame_lens = network.frame_lens(lens)
    labels, none = torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    together = network(network.features(inputs), frame_lens, labels, none)
    alone = network(network.features(inputs[:1, :9]), frame_lens[:1], labels[:1], none[:1])
    assert together.shape == (2, int(frame_lens.max()), TOKENS)
    torch.testing.assert_close(together.exp().sum(dim=2), torch.ones(together.shape[:2]))
    assert alone.shape[1] == int(frame_lens[0])
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", ["scene_text", "translation"])
@torch.no_grad()
def test_an_oracle_attends_to_the_reference_of_any_task(task):
    network = network_of(task, kind=OracleConfig, channels=(4, 6) if task == "scene_text" else ())
    inputs, lens = inputs_of(task, 2, 16), torch.tensor([16, 16])
    features, frame_lens = network.features(inputs), network.frame_lens(lens)
    shown = torch.tensor([[1, 2], [3, 4]])
    one = network(features, frame_lens, shown, torch.tensor([2, 2]))
    other = network(features, frame_lens, shown.flip(0), torch.tensor([2, 2]))
    empty = network(features, frame_lens, shown, torch.tensor([0, 0]))
    assert not torch.allclose(one, other)
    assert torch.isfinite(empty).all()


@pytest.mark.parametrize("upsampling", [1, 2, 3])
def test_a_source_token_becomes_several_frames(upsampling):
    network = FullContextNetwork(
        ConventionalConfig(kind="conventional", subsampling_factor=1, encoder=EncoderConfig(width=8, depth=1)),
        frontend_of("translation", upsampling),
        TOKENS,
    ).eval()
    assert network.frame_lens(torch.tensor([1, 5])).tolist() == [upsampling, 5 * upsampling]
    features = network.features(torch.tensor([[3.0, 5.0]]))
    assert features.shape == (1, 2 * upsampling, 1)
    assert features[0, :, 0].tolist() == [3.0] * upsampling + [5.0] * upsampling
    frame_lens = network.frame_lens(torch.tensor([2]))
    assert network(features, frame_lens, torch.zeros(1, 0).long(), torch.zeros(1).long()).shape[1] == 2 * upsampling


def test_frames_of_one_token_differ():
    torch.manual_seed(0)
    stem = TokenStem(EncoderConfig(width=8, depth=1, dropout=0), 7, 3).eval()
    frames = stem(torch.full((1, 3, 1), 4.0), torch.tensor([3]))
    assert frames.shape == (1, 8, 3)
    assert not torch.allclose(frames[..., 0], frames[..., 1])


def test_gradients_reach_the_embedding():
    network = network_of("translation", "attention").train()
    features = network.features(inputs_of("translation", 2, 4))
    none = torch.zeros(2, 0, dtype=torch.int64)
    network(features, torch.tensor([12, 12]), none, torch.zeros(2).long())[..., 1].sum().backward()
    assert float(network.encoder.subsampling.embedding.weight.grad.abs().sum()) > 0


def test_noise_of_sentences_is_words_that_are_there():
    frontend = frontend_of("translation")
    features = frontend(torch.tensor([[2.0, 3.0, 0.0], [5.0, 5.0, 6.0]]))
    noise = frontend.noise_like(features, torch.Generator().manual_seed(0))
    assert noise.shape == features.shape
    assert set(noise.flatten().tolist()) <= {2.0, 3.0, 5.0, 6.0}
    assert torch.equal(noise[:, 0::3], noise[:, 2::3])


def test_pixels_are_scaled_in_the_frontend():
    frontend = frontend_of("scene_text")
    pixels = torch.tensor([[[0, 255] * 8]], dtype=torch.uint8)
    torch.testing.assert_close(frontend(pixels)[0, 0, :2], torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(frontend.step(pixels, {})[0], frontend(pixels.float()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": [8]}, "two and more"),
        ({"block": "attention", "width": 10, "heads": 4}, "not divisible by heads"),
        ({"block": "recurrent", "width": 5, "heads": 1}, "odd"),
        ({"block": "mamba"}, "convolution"),
    ],
)
def test_an_encoder_that_cannot_be_is_one_sentence(settings, words):
    with pytest.raises(ValidationError, match=words):
        EncoderConfig(**settings)


def test_settings_that_earlier_versions_did_not_know_are_written_only_where_they_are_set():
    plain = EncoderConfig(width=16)
    assert set(plain.model_dump()) == {"width", "depth", "kernel", "expansion", "dropout"}
    assert EncoderConfig(channels=(4, 8)).model_dump()["channels"] == (4, 8)
    assert EncoderConfig.model_validate(plain.model_dump()) == plain
