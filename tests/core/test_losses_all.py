"""Every loss of a recipe's list: from the recipe through heads and teacher to finite gradients, ramps, padding."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from kdcompress import losses
from kdcompress.distill import fit, loss_of
from kdcompress.errors import RecipeError
from kdcompress.hearing import hear
from kdcompress.losses import AnyLoss
from kdcompress.losses.base import Shapes, Signals, TeacherSignals, UnitShape, UnitTargets
from kdcompress.losses.codebook import fit_codebooks
from kdcompress.network import Outputs
from kdcompress.run import RunFolder
from kdcompress.trainer import Trainer, setup

CLASSES = {one.model_fields["kind"].default: one for one in get_args(get_args(AnyLoss)[0])}
KINDS = pytest.mark.parametrize("kind", CLASSES)
SHALLOW = {
    "inter_ctc": {"layers": [0]},
    "inter_kd": {"layers": [0]},
    "label_interpolation": {"lm": "letters"},
    "lm_head": {"lm": "letters", "ctc": 0.5},
    "representation": {"lm": "letters"},
}
"""Settings that these tests need: their networks have two blocks, and their language model a name."""
READING = {kind for kind, settings in SHALLOW.items() if "lm" in settings}
LENS = (5, 3, 5, 3)
"""Two views of two items, for losses that compare views."""
BLANK, TOKENS, WIDTH = 0, 5, 8


def entry(kind: str, **settings: object) -> dict:
    return {"kind": kind, **SHALLOW.get(kind, {}), **settings}


def losses_of(*entries: dict, teachers: object = None, reading: dict | None = None) -> list[str]:
    """Overrides of a recipe."""
    distill: dict = {}
    if any(CLASSES[one["kind"]].needs_teacher for one in entries):
        distill["teachers"] = [str(teacher) for teacher in teachers or ["nowhere"]]
    if any(one["kind"] in READING for one in entries):
        distill |= reading or {"language_models": {"letters": "nowhere"}, "alignment": "nowhere.jsonl"}
    return [f"losses={json.dumps(entries)}", *([f"distill={json.dumps(distill)}"] if distill else [])]


@pytest.fixture(scope="session")
def reading(text_model, alignment):
    return {"language_models": {"letters": str(text_model)}, "alignment": str(alignment)}


def test_every_file_is_in_the_list():
    assert {CLASSES[kind].model_validate(entry(kind)).kind for kind in CLASSES} == set(CLASSES)
    assert {name for name in losses.__all__ if name.endswith("Loss")} == {"AnyLoss"} | {
        one.__name__ for one in CLASSES.values()
    }


@KINDS
def test_from_the_recipe_to_the_gradient(kind, make_recipe, runs, reading, tmp_path):
    """Half of the ramp at step 2 of 4; everything that is trained gets a finite gradient, the teacher none."""
    ramp = {"initial": 0.0, "start": 0.25, "end": 0.75}
    mine = losses_of(entry(kind, weight=0.4, ramp=ramp), teachers=[runs["conventional"]], reading=reading)
    recipe = make_recipe("student", *mine, steps=4)
    assert recipe == type(recipe).model_validate(json.loads(recipe.model_dump_json(by_alias=True)))
    trainer = setup(recipe, RunFolder(tmp_path))
    total, parts = loss_of(trainer, trainer.model.train(), trainer.batches[0], 2)
    assert list(parts) == [kind]
    assert parts[kind].dtype == torch.float32
    assert parts[kind].ndim == 0
    assert torch.isfinite(parts[kind])
    assert parts[kind].item() != 0
    assert total.item() == pytest.approx(0.2 * parts[kind].item(), rel=1e-5)
    total.backward()
    gradients = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None)
    assert gradients["network.subsampling.conv.weight"].abs().max() > 0
    for name, gradient in gradients.items():
        assert not name.startswith("heads.") or gradient is not None, name
    for source in trainer.sources:
        assert all(parameter.grad is None for parameter in source.teacher.network.parameters())


@KINDS
def test_weight_over_the_run(kind):
    ramp = {"initial": 0.5, "start": 0.2, "end": 0.6}
    loss = CLASSES[kind].model_validate(entry(kind, weight=2.0, ramp=ramp))
    assert [loss.weight_at(progress) for progress in (0, 0.2, 0.4, 0.6, 1)] == pytest.approx([0.5, 0.5, 1.25, 2, 2])
    assert CLASSES[kind].model_validate(entry(kind, weight=2.0, ramp=None)).weight_at(0) == 2
    stage = CLASSES[kind].model_validate(entry(kind, weight=0, ramp={"initial": 1, "start": 0.2, "end": 0.2}))
    assert [stage.weight_at(progress) for progress in (0, 0.19, 0.2, 0.9)] == [1, 1, 0, 0]
    assert loss.key == kind
    assert loss.model_copy(update={"name": "other"}).key == "other"
    with pytest.raises(ValidationError, match="weight"):
        CLASSES[kind].model_validate(entry(kind, weight=-1))


def signals_with_head(kind: str, garbage: float | None = None) -> tuple[Signals, torch.Tensor]:
    """What ``loss_of`` would hand over, and the leaf behind it; with garbage behind the end of each item."""
    loss = CLASSES[kind].model_validate(entry(kind))
    frames, generator = max(LENS), torch.Generator().manual_seed(3)
    torch.manual_seed(5)

    def drawn(*shape: int) -> torch.Tensor:
        values = torch.randn(len(LENS), frames, *shape, generator=generator)
        for row, length in zip(values, LENS, strict=True):
            row[length:] = row[length:] if garbage is None else garbage
        return values

    lens, label_lens = torch.tensor(LENS), torch.tensor([2, 1, 2, 1])
    labels = torch.tensor([[1, 1], [3, 0], [1, 1], [3, 0]])
    leaf, hidden = drawn(TOKENS).requires_grad_(), (drawn(WIDTH), drawn(WIDTH))
    teacher = TeacherSignals(2 * drawn(TOKENS), (drawn(6), drawn(6)))
    # normalised by hand: a softmax over garbage would give garbage gradients whatever a loss does with them
    inside = torch.arange(frames)[None, :] < lens[:, None]
    log_probs = torch.where(inside[:, :, None], leaf - leaf.detach().logsumexp(dim=2, keepdim=True), leaf)
    teacher = replace(teacher, log_probs=teacher.log_probs - teacher.log_probs.logsumexp(dim=2, keepdim=True))
    units = TOKENS - 1
    letters = UnitTargets(
        units=labels - 1,
        unit_lens=label_lens,
        ids=torch.arange(units).repeat(len(LENS), 2, 1),
        log_probs=torch.randn(len(LENS), 2, units, generator=generator).log_softmax(dim=2),
        num_units=units,
        frames=torch.tensor([[-1, 0, 0, 1, 1], [0, 0, 0, 0, 0]] * 2),
        states=torch.randn(len(LENS), 2, 6, generator=generator),
        tokens=torch.arange(1, TOKENS),
    )
    head = loss.head(Shapes(TOKENS, (WIDTH, WIDTH), (6, 6), texts={"letters": UnitShape(units, 6)}))
    said = None
    if head is not None:
        for buffer in head.buffers():
            buffer.normal_(generator=torch.Generator().manual_seed(7))
        finite = tuple(block.nan_to_num(3.0, 3.0, 3.0) for block in hidden)  # what a network can give
        said = head.eval()(Outputs(log_probs, finite), lens, labels, label_lens)
    fitted = dict(head.named_buffers()) if head is not None else {}
    texts = {"letters": letters}
    return Signals(log_probs, hidden, lens, labels, label_lens, BLANK, teacher, said, fitted, texts), leaf


@KINDS
@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, -7.0])
def test_padding_never_counts(kind, garbage):
    found = []
    for signals, leaf in (signals_with_head(kind), signals_with_head(kind, garbage)):
        value = CLASSES[kind].model_validate(entry(kind))(signals)
        (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True, retain_graph=True)
        heads = torch.zeros(0) if signals.head is None else torch.autograd.grad(value, signals.head)[0]
        found.append((value.detach(), torch.zeros(0) if gradient is None else gradient, heads))
    for clean, spoilt in zip(*found, strict=True):
        torch.testing.assert_close(spoilt, clean)
    value, gradient, heads = found[1]
    assert torch.isfinite(value)
    assert gradient.any() or heads.any()
    for part in (gradient, heads):
        for item, length in enumerate(LENS):
            assert not part.numel() or not part[..., item, length:, :].any()


@KINDS
def test_a_loss_that_needs_a_teacher_says_so(kind, make_recipe):
    if CLASSES[kind].needs_teacher:
        with pytest.raises(RecipeError, match=f"'{kind}' needs a teacher; add a distill section"):
            make_recipe("student", f"losses={json.dumps([entry(kind)])}")
        with pytest.raises(ValueError, match="needs a teacher's signals"):
            CLASSES[kind].model_validate(entry(kind))(replace(signals_with_head(kind)[0], teacher=None))
    else:
        recipe = make_recipe("student", *losses_of(entry(kind)))
        assert recipe.distill is None or not recipe.distill.teachers
        assert torch.isfinite(recipe.losses[0](replace(signals_with_head(kind)[0], teacher=None)))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("feature_match", {"student_layer": 2}),
        ("feature_match", {"teacher_layer": -3}),
        ("codebook", {"student_layer": 2}),
        ("codebook", {"teacher_layer": 5}),
    ],
)
def test_a_layer_that_is_not_there(kind, settings, make_recipe, runs, tmp_path):
    recipe = make_recipe("student", *losses_of(entry(kind, **settings), teachers=[runs["conventional"]]))
    with pytest.raises(RecipeError, match=rf"losses\.{kind}: there is no such layer; the student has 2 blocks"):
        setup(recipe, RunFolder(tmp_path))


@pytest.mark.parametrize("kind", ["feature_match", "codebook"])
def test_several_teachers_show_no_layers(kind, make_recipe, runs, tmp_path):
    distill = {"teachers": [str(runs["conventional"])] * 2, "combine": {"kind": "switching"}}
    recipe = make_recipe("student", f"losses={json.dumps([entry(kind)])}", f"distill={json.dumps(distill)}")
    with pytest.raises(RecipeError, match="the teacher shows 0"):
        setup(recipe, RunFolder(tmp_path))


def seen_frames(trainer: Trainer) -> torch.Tensor:
    """Valid frames of the last block of the teacher for the batches of the run."""
    frames = []
    for step in range(trainer.recipe.train.steps):
        heard = hear(trainer.network, trainer.recipe, trainer.batches[step])
        block = trainer.sources[0].answer(heard).hidden[-1]
        frames += [block[item, :length] for item, length in enumerate(heard.frame_lens.tolist())]
    return torch.cat(frames)


def test_codebooks_are_fitted_once_and_kept_by_the_checkpoint(make_recipe, runs, tmp_path):
    """The same centroids from the same seed; a run that goes on ends the same; none of them in the result."""
    only = [entry("ctc"), entry("codebook", codebooks=2, entries=4)]
    recipe = make_recipe("student", *losses_of(*only, teachers=[runs["conventional"]]), steps=4, checkpoint_every=2)
    trainers = [setup(recipe, RunFolder(tmp_path / name)) for name in "ab"]
    books = [trainer.model.fitted("codebook")["centroids"] for trainer in trainers]
    assert torch.equal(*books)
    torch.testing.assert_close(books[0], fit_codebooks(seen_frames(trainers[0]), 2, 4, recipe.seed))
    assert books[0].shape == (2, 4, 8)
    assert len(books[0][0].unique(dim=0)) == 4
    fit(recipe, tmp_path / "whole")

    def stop(step: int, steps: int, scalars: dict) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "parts", stop)
    held = load_file(RunFolder(tmp_path / "parts").checkpoint)
    torch.testing.assert_close(held["network/heads.codebook.centroids"], books[0], atol=0, rtol=0)
    fit(recipe, tmp_path / "parts")
    weights = [load_file(RunFolder(tmp_path / name).weights) for name in ("whole", "parts")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any("heads" in name or "centroids" in name for name in weights[0])
