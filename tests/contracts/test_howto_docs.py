"""The code in docs/add-a-*.md runs and keeps the rules that stand beside it."""

from __future__ import annotations

import re
import typing
from dataclasses import replace
from pathlib import Path

import onnx
import pydantic
import pytest
import torch
import yaml

from kdcompress import recipe
from kdcompress.frontend import LogMel
from kdcompress.losses import CtcLoss
from kdcompress.losses.base import Signals, TeacherSignals
from kdcompress.losses.frames import FRAME_SELECTIONS

DOCS = Path(__file__).parents[2] / "docs"


def run_page(name: str) -> dict:
    """Execute the Python blocks of a page in one namespace, as if its settings stood in model_settings.py."""
    namespace = {"Settings": recipe.Settings, "Field": recipe.Field, "Literal": typing.Literal}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(code, name, "exec", dont_inherit=True), namespace)
    return namespace


@pytest.fixture
def frontend():
    return LogMel(recipe.LogMelConfig(sample_rate=8000, num_mel_bins=20))


@pytest.fixture
def student(frontend):
    """``student(lookahead_frames=3)``: the one of the page."""
    page = run_page("add-a-student.md")

    def make(**settings):
        torch.manual_seed(1)
        config = page["PlainConvConfig"](kind="plain_conv", width=8, kernel=5, **settings)
        return page["PlainConvStudent"](config, frontend, 7).eval()

    return make


def test_the_student_of_the_page_streams(student):
    check_any_split = run_page("add-a-student.md")["check_any_split"]
    good, inputs = student(lookahead_frames=3), 0.1 * torch.randn(2, 11 * 320)
    assert good.units_per_frame == 320
    check_any_split(good, inputs, [1, 4, 2, 1, 3])
    log_probs, states = good.step(inputs, good.init_states(2))
    assert log_probs.shape == (2, 11, 7)
    assert {name: state.shape for name, state in states.items()} == {
        name: state.shape for name, state in good.init_states(2).items()
    }
    broken = student(lookahead_frames=3)
    encode = broken.encode
    broken.encode = lambda features, states: encode(features, states)._replace(states=states)
    with pytest.raises(AssertionError):
        check_any_split(broken, inputs, [5, 6])


def test_the_student_of_the_page_shows_its_block(student):
    shy, inputs = student(lookahead_frames=3), 0.1 * torch.randn(2, 11 * 320)
    lens = torch.tensor([11, 11])
    shown = shy.outputs(shy.features(inputs), lens, torch.ones(2, 3, dtype=torch.int64), lens)
    assert [block.shape for block in shown.hidden] == [(2, 11, width) for width in shy.hidden_dims] != []
    again = shy.head(shown.hidden[0].transpose(1, 2)).transpose(1, 2).log_softmax(dim=2)
    torch.testing.assert_close(again, shown.log_probs)


def test_the_student_of_the_page_exports(student):
    from kdcompress_export.convert import convert

    content = convert(student(lookahead_frames=3), 7, {"name": "page"})  # refuses a graph that fixed a dimension
    (output, *states) = onnx.load_from_string(content).graph.output
    assert [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim] == ["N", "frames", 7]
    assert [state.name for state in states] == ["next_frontend_tail", "next_subsampling_cache", "next_block_cache"]


def test_the_teacher_of_the_page_ignores_padding(frontend):
    page = run_page("add-a-teacher.md")
    torch.manual_seed(1)
    teacher = page["BiGruTeacher"](page["BiGruConfig"](kind="bi_gru", width=8), frontend, 7).eval()
    features, lens = torch.randn(2, 9 * 4, 20), torch.tensor([9, 5])
    labels, label_lens = torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 2])
    both = teacher(features, lens, labels, label_lens)
    alone = teacher(features[1:, : 5 * 4], lens[1:], labels[1:], label_lens[1:])
    assert both.shape == (2, 9, 7)
    shown = teacher.outputs(features, lens, labels, label_lens)
    assert torch.equal(shown.log_probs, both)
    assert [block.shape for block in shown.hidden] == [(2, 9, width) for width in teacher.hidden_dims] != []
    torch.testing.assert_close(both[1:, :5], alone)
    torch.testing.assert_close(both.exp().sum(dim=2), torch.ones(2, 9))


def test_the_loss_of_the_page_is_its_slow_reference():
    page = run_page("add-a-loss.md")
    torch.manual_seed(1)
    student = torch.randn(2, 6, 5).log_softmax(2).requires_grad_()
    teacher, lens = torch.randn(2, 6, 5).log_softmax(2), torch.tensor([6, 3])
    with torch.no_grad():
        teacher[1, 3:] = float("nan")
    nothing = torch.zeros(2, 1, dtype=torch.int64)
    signals = Signals(student, (), lens, nothing, nothing[:, 0], 0, TeacherSignals(teacher))
    loss = page["ReverseKlLoss"](temperature=2)(signals)
    (gradient,) = torch.autograd.grad(loss, student)
    slow = torch.zeros((), dtype=torch.float64)
    for item, length in enumerate(lens.tolist()):
        for t in range(length):
            p = (student[item, t].double() / 2).softmax(0)
            q = (teacher[item, t].double() / 2).softmax(0)
            slow = slow + 4 * (p * (p / q).log()).sum() / 9
    (expected,) = torch.autograd.grad(slow, student)
    torch.testing.assert_close(loss.double(), slow, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)
    assert not gradient[1, 3:].any()
    same = replace(signals, teacher=TeacherSignals(student.detach()))
    assert page["ReverseKlLoss"]()(same).item() == pytest.approx(0.0, abs=1e-6)


def test_the_recipe_of_the_page_selects_its_loss():
    page = run_page("add-a-loss.md")
    (tree,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "add-a-loss.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    tree = yaml.safe_load(tree)
    added = page["ReverseKlLoss"]
    either = typing.Annotated[CtcLoss | added, pydantic.Field(discriminator="kind")]
    ctc, reverse = (pydantic.TypeAdapter(either).validate_python(one) for one in tree["losses"])
    assert type(ctc) is CtcLoss
    assert type(reverse) is added
    assert (reverse.frames, reverse.weight_at(0.1), reverse.weight_at(0.5)) == ("symmetric", 0.25, 0.5)
    assert recipe.DistillConfig.model_validate(tree["distill"]).teachers == (Path("runs/teacher"),)


def test_the_selection_of_the_page_fits_the_table():
    page = run_page("add-a-loss.md")
    spikes = torch.tensor([[1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 1, 1]])
    teacher = torch.nn.functional.one_hot(spikes, 3).float().log()
    valid = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    kept = teacher.clone()
    selected = page["select_onsets"](teacher, valid, 0, 2, 0.1)
    assert selected.tolist() == [[True, False, False, True, False, True], [False, True, False, False, False, False]]
    assert torch.equal(teacher, kept)
    assert all(one(teacher, valid, 0, 2, 0.1).shape == selected.shape for one in FRAME_SELECTIONS.values())


def test_the_pages_name_files_and_names_that_exist():
    root = DOCS.parent
    for page in DOCS.glob("add-a-*.md"):
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`(kdcompress/[a-z_/]+\.py)`", text):
            new = path.endswith(("gru.py", "plain_conv.py", "reverse_kl.py"))
            assert new or (root / path).is_file(), f"{page.name}: {path}"
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "kdcompress").rglob("*.py"))
    for name in ("StudentConfig", "TeacherConfig", "STUDENTS", "TEACHERS", "load_teachers", "sees_labels"):
        assert re.search(rf"\b{name}\b", source), name
    for name in ("AnyLoss", "FRAME_SELECTIONS", "label_occupancy", "from_head", "fitted", "prepares", "views"):
        assert re.search(rf"\b{name}\b", source), name
