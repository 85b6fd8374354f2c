"""Any torch module as a teacher: the adapter, and Python files that use it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from kdcompress.errors import TeacherError
from kdcompress.teachers.opening import open_teacher
from kdcompress.teachers.torch_module import TorchTeacher
from tests.core.teachers.given import answers, heard, noise, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE = 8000
SYMBOLS = ("<pad>", "|", "a", "b", "c")


class Net(nn.Module):
    """Frames of 20 ms through a linear layer; ``hears_padding`` looks at the mean of the whole batch row."""

    def __init__(self, *, hears_padding: bool = False, change: Callable[..., Any] | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(160, len(SYMBOLS))
        self.hears_padding, self.change = hears_padding, change

    def forward(self, waveforms: torch.Tensor, lens: torch.Tensor) -> Any:
        frames = waveforms.unfold(1, 160, 160)
        scores = 20 * self.layer(frames)
        if self.hears_padding:
            scores = scores + 10 * waveforms.abs().mean(1)[:, None, None] * torch.arange(5.0)
        answer = (scores, lens // 160)
        return self.change(*answer) if self.change else answer


def wrap(module: nn.Module | None = None, **settings: Any) -> TorchTeacher:
    defaults = {"vocabulary": SYMBOLS, "word_delimiter": "|", "sample_rate": RATE, "frame": 0.02}
    return TorchTeacher(module or Net(), **{**defaults, **settings})


def test_a_module_answers_for_each_item() -> None:
    net = Net()
    teacher = wrap(net)
    items = [noise(0.5, RATE, 1), noise(0.31, RATE, 2)]
    for item, found in zip(items, answers(teacher, items), strict=True):
        scores, lens = net(torch.from_numpy(item)[None], torch.tensor([len(item)]))
        torch.testing.assert_close(found, scores[0, : int(lens)].log_softmax(1))
    info = teacher.info
    assert info.vocabulary.symbols == ("<blk>", "▁", "a", "b", "c")
    assert (info.frame, info.units, info.name, info.kind) == (Fraction(1, 50), "characters", "Net", "python")
    assert (info.lookahead, info.gives, info.hidden_dims) == (None, {"log_probs"}, ())
    assert wrap(lookahead="0.24").info.lookahead == Fraction(6, 25)


@pytest.mark.parametrize("hears_padding", [False, True])
def test_items_answer_beside_longer_ones_as_alone(hears_padding: bool) -> None:
    teacher = wrap(Net(hears_padding=hears_padding))
    assert teacher.together != hears_padding
    items = [noise(seconds, RATE, seed) for seed, seconds in enumerate((0.5, 0.9, 0.3))]
    for item, found in zip(items, answers(teacher, items), strict=True):
        torch.testing.assert_close(found, answers(teacher, [item])[0], atol=1e-5, rtol=0)


def test_blocks_are_shown_and_items_chosen() -> None:
    teacher = wrap(Net(change=lambda scores, lens: (scores, lens, (scores[..., :3],))))
    assert (teacher.info.hidden_dims, teacher.info.gives) == ((3,), {"log_probs", "hidden"})
    batch = heard([noise(0.5, RATE, 1), noise(0.3, RATE, 2)], RATE, views=3)
    every, chosen = teacher.answer(batch), teacher.answer(batch, torch.tensor([5, 2]))
    assert every.hidden[0].shape == (6, 25, 3)
    torch.testing.assert_close(rows(chosen)[0], rows(every)[1])
    torch.testing.assert_close(rows(chosen)[1], rows(every)[0])
    torch.testing.assert_close(chosen.hidden[0][1], every.hidden[0][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores, _: scores, "must return .* it returned a tensor"),
        (lambda scores, _: (scores, "25"), r"it returned \(a tensor .*, str\)"),
        (lambda scores, lens: (scores[..., :3], lens), r"expected scores \(N, T, 5\)"),
        (lambda scores, lens: (scores, lens + 999), "frames are valid, in an answer of shape"),
        (lambda scores, lens: (scores, lens // 2), "do not fit frames of 20 ms"),
        (lambda scores, lens: (scores * float("nan"), lens), "NaN or infinity"),
        (lambda scores, lens: (scores.softmax(2), lens), "say scores: probabilities"),
        (lambda scores, lens: (scores, lens, (scores[:, :2],)), "blocks must be"),
        (lambda *_: 1 / 0, "the module fails on waveforms .*division by zero"),
    ],
)
def test_answers_that_would_poison_a_student(change: Any, message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        wrap(Net(change=change))


def test_scores_may_be_said() -> None:
    plain = answers(wrap(), [noise(0.3, RATE)])[0]
    for kind, turn in (("log_probs", torch.log_softmax), ("probabilities", torch.softmax)):
        net = Net(change=lambda scores, lens, turn=turn: (turn(scores, 2), lens))
        torch.testing.assert_close(answers(wrap(net, scores=kind), [noise(0.3, RATE)])[0], plain, atol=1e-4, rtol=0)
    with pytest.raises(TeacherError, match="say scores: logits"):
        wrap(scores="log_probs")


def test_impossible_tokens_get_a_finite_number() -> None:
    def forbid(scores: torch.Tensor, lens: torch.Tensor) -> Any:
        return scores.index_fill(2, torch.tensor([3]), float("-inf")), lens

    (found,) = answers(wrap(Net(change=forbid)), [noise(0.3, RATE)])
    assert found[:, 3].max() < -80


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": "soon"}, "frame must be a number"),
        ({"frame": 0}, "frame must be the seconds"),
        ({"vocabulary": ("a", "a", "b", "c", "d"), "blank_id": 4}, "twice"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        wrap(**settings)


def test_the_fingerprint_follows_weights_and_settings() -> None:
    same, other = Net(), Net()
    with torch.no_grad():
        other.layer.bias[0] += 1e-3
    fingerprints = [wrap(net).info.fingerprint for net in (Net(), same, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert wrap(frame="0.02", lookahead=1).info.fingerprint != fingerprints[0]


FILE = """
import dataclasses
import torch
from torch import nn

from beside import SYMBOLS
from kdcompress.teachers.torch_module import TorchTeacher


@dataclasses.dataclass
class Settings:
    width: int = 160


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.layer = nn.Linear(Settings().width, len(SYMBOLS))

    def forward(self, waveforms, lens):
        return self.layer(waveforms.unfold(1, 160, 160)), lens // 160


def teacher():
    return TorchTeacher(Net(), vocabulary=SYMBOLS, sample_rate=8000, frame=0.02)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text(f"SYMBOLS = {SYMBOLS!r}\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    return tmp_path / "mine.py"


def test_a_file_is_run_and_its_teacher_answers(file: Path) -> None:
    import sys

    before = list(sys.path)
    teacher = open_teacher(file)
    assert sys.path == before
    assert (teacher.info.source, teacher.info.kind, teacher.info.name) == (file, "python", "Net")
    assert len(answers(teacher, [noise(0.3, RATE)])[0]) == 15
    again = open_teacher(file).info.fingerprint
    assert again == teacher.info.fingerprint
    file.write_text(FILE + "# another answer, perhaps\n", encoding="utf-8")
    assert open_teacher(file).info.fingerprint != again


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n", r"defines no function `teacher\(\)`"),
        ("def teacher(:\n", "running it fails .SyntaxError"),
        ("import nowhere_at_all\n", "running it fails .ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise SystemExit(3)\n", "running it fails .SystemExit: 3"),
        ("def teacher():\n    return 7 / 0\n", r"teacher\(\) fails .ZeroDivisionError"),
        ("def teacher():\n    return 'me'\n", r"returns str, not a Teacher; wrap a torch module in TorchTeacher"),
        (FILE.replace("0.02)", "0.03)"), "mine.py: Net: .* do not fit frames of 30 ms"),
    ],
)
def test_files_that_make_no_teacher(file: Path, content: str, message: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(TeacherError, match=message):
        open_teacher(file)
