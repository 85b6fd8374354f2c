"""Any torch module as a teacher: the adapter of ``docs/teachers.md``."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcompress.errors import TeacherError
from kdcompress.teachers.batched import BatchedTeacher
from kdcompress.teachers.foreign import guess_units, one_line, side_by_side, to_log_probs
from kdcompress.teachers.teacher import Said, TeacherInfo
from kdcompress_runtime.errors import ForeignVocabularyError
from kdcompress_runtime.foreign_tokens import make_vocabulary
from kdcompress_runtime.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcompress.data.text import Units
    from kdcompress.teachers.foreign import Scores


class TorchTeacher(BatchedTeacher):
    """A module that maps waveforms ``(N, samples)`` float32 and lens ``(N,)`` to scores ``(N, T, V)`` and frame lens.

    A third value, a tuple of blocks ``(N, T, D)``, is shown to losses that compare blocks. The module is put into
    evaluation mode. One that hears padding, tried when it is wrapped, is given items of different lengths one by one.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        vocabulary: Vocabulary | Sequence[str],
        sample_rate: int | None,
        frame: Fraction | str | float,
        blank_id: int = 0,
        word_delimiter: str | None = None,
        units: Units | None = None,
        scores: Scores = "logits",
        lookahead: Fraction | str | float | None = None,
        name: str | None = None,
        source: Path | None = None,
    ) -> None:
        """Wrap a module.

        Args:
            module: with its weights loaded.
            vocabulary: ours, or symbols by id as the module has them.
            sample_rate: Hz that it hears; None for inputs that are no audio.
            frame: seconds (input units elsewhere) of one output frame.
            blank_id: id of the CTC blank among symbols.
            word_delimiter: symbol between words, besides a space, ``<space>`` and ``▁``.
            units: what one token is; guessed from the spelling when left out.
            scores: what the module answers.
            lookahead: input time that it hears ahead of a frame, as ``frame``; None: the whole input.
            name: for reports; that of the module's class when left out.
            source: where it was read, for messages.

        Raises:
            TeacherError: a value makes no sense, the module fails on noise, or answers something else.
        """
        self._name = name or type(module).__name__
        self._source = source or Path(self._name)
        self._vocabulary = _vocabulary(vocabulary, blank_id, word_delimiter, self._source)
        self._scores: Scores = scores
        self._module = module.eval()
        exact = _fraction(frame, "frame", self._source)
        if exact <= 0:
            raise TeacherError(f"{self._source}: frame must be the seconds of an output frame, found {frame!r}")
        ahead = None if lookahead is None else _fraction(lookahead, "lookahead", self._source)
        hidden: tuple[Tensor, ...] = ()
        if sample_rate is not None:
            hidden = self.rehearse(sample_rate, exact, self._source)[0].hidden
        settings = [self._vocabulary.symbols, sample_rate, str(exact), scores, str(ahead), type(module).__qualname__]
        self.info = TeacherInfo(
            source=self._source,
            name=self._name,
            kind="python",
            fingerprint=_fingerprint(module, settings),
            vocabulary=self._vocabulary,
            units=units or guess_units(self._vocabulary),
            frame=exact,
            sample_rate=sample_rate,
            gives=frozenset({"log_probs", "hidden"} if hidden else {"log_probs"}),
            lookahead=ahead,
            hidden_dims=tuple(block.shape[2] for block in hidden),
        )

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        self._module.to(device)

    @torch.no_grad()
    def run(self, items: Sequence[Tensor]) -> Said:
        """See ``BatchedTeacher.run``."""
        inputs = side_by_side(items)
        try:
            answer = self._module(inputs, torch.tensor([len(item) for item in items], device=inputs.device))
        except Exception as error:  # anyone's code
            shape = tuple(inputs.shape)
            raise TeacherError(f"{self._source}: the module fails on waveforms {shape} ({one_line(error)})") from error
        if not isinstance(answer, tuple | list) or len(answer) not in {2, 3} or not _are_tensors(answer[:2]):
            raise TeacherError(
                f"{self._source}: the module must return (scores (N, T, V), frame_lens (N,)), and may add a tuple of "
                f"blocks; it returned {_kinds(answer)}"
            )
        lens = answer[1].long().to(inputs.device)
        log_probs = to_log_probs(answer[0], lens, self._scores, tokens=len(self._vocabulary), source=self._source)
        blocks = tuple(answer[2]) if len(answer) > 2 else ()
        if not _are_tensors(blocks) or any(block.shape[:2] != log_probs.shape[:2] for block in blocks):
            raise TeacherError(
                f"{self._source}: blocks must be (N, T, D) in the time of the scores; got {_kinds(blocks)}"
            )
        return Said(lens, log_probs, tuple(block.float() for block in blocks))


def _vocabulary(given: Vocabulary | Sequence[str], blank_id: int, delimiter: str | None, source: Path) -> Vocabulary:
    if isinstance(given, Vocabulary):
        return given
    symbols = dict(enumerate(given))
    try:
        return make_vocabulary(symbols, len(symbols), blank_id, source=str(source), delimiter=delimiter)
    except ForeignVocabularyError as error:
        raise TeacherError(str(error)) from error


def _fraction(value: Fraction | str | float, name: str, source: Path) -> Fraction:
    """A number as it is written: 0.04 is 1/25."""
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise TeacherError(f"{source}: {name} must be a number, found {value!r}") from error


def _are_tensors(values: object) -> bool:
    return isinstance(values, tuple | list) and all(isinstance(value, Tensor) for value in values)


def _kinds(answer: object) -> str:
    if isinstance(answer, tuple | list):
        return f"({', '.join(_kinds(value) for value in answer)})"
    return f"a tensor {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__


def _fingerprint(module: nn.Module, settings: Sequence[object]) -> str:
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
