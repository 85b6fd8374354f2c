"""A Hugging Face ``*ForCTC`` folder as a teacher: Wav2Vec2, HuBERT, WavLM, Wav2Vec2-BERT, Parakeet and their kin."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from kdcompress.errors import TeacherError
from kdcompress.teachers.batched import BatchedTeacher
from kdcompress.teachers.foreign import fingerprint, guess_units, one_line, side_by_side, to_log_probs
from kdcompress.teachers.hf_folder import CONFIG, EXTRACTORS, find_weights, load_model, read_ear
from kdcompress.teachers.quiet import quiet_and_offline
from kdcompress.teachers.teacher import Said, TeacherInfo
from kdcompress_runtime.errors import ForeignVocabularyError
from kdcompress_runtime.hf_vocabulary import TOKENIZER_FILES, read_hf_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

_LENGTHS = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")
"""Methods that tell output frames from input units."""


class HuggingFaceTeacher(BatchedTeacher):
    """A model for CTC that ``save_pretrained`` wrote, with its feature extractor and its tokenizer.

    Attention masks are given where the model was trained with them. Normalisation over time (``feat_extract_norm:
    group``) and convolutions without masks hear padding all the same; such models get items of different lengths one
    by one.
    """

    def __init__(self, folder: Path) -> None:
        """Read a folder; no network, no pickles, no code from the folder.

        Raises:
            MissingDependencyError: transformers is not installed.
            TeacherError: it holds no CTC model, or one that cannot be used; the message says why.
        """
        weights = find_weights(folder)
        with quiet_and_offline():
            self._model: Any = load_model(folder)
            self._ear = read_ear(folder)
        self._source, config = folder, self._model.config
        try:
            table = read_hf_vocabulary(folder, config.pad_token_id)
            self._vocabulary = table.vocabulary(config.vocab_size, usual_spelling=True)
        except ForeignVocabularyError as error:
            raise TeacherError(str(error)) from error
        self._masks = self._ear.unit > 1 or getattr(config, "feat_extract_norm", "layer") != "group"
        self._shows_blocks = True
        frame = Fraction(self._ear.unit * _subsampling(config), self._ear.sample_rate)
        tried = self.rehearse(self._ear.sample_rate, frame, folder)
        self._shows_blocks = all(_in_time(said) for said in tried)
        hidden_dims = tuple(block.shape[2] for block in tried[0].hidden) if self._shows_blocks else ()
        files = [folder / name for name in (CONFIG, *EXTRACTORS, *TOKENIZER_FILES)]
        self.info = TeacherInfo(
            source=folder,
            name=folder.resolve().name,
            kind="hugging_face",
            fingerprint=fingerprint([*weights, *(file for file in files if file.is_file())], {}),
            vocabulary=self._vocabulary,
            units=guess_units(self._vocabulary),
            frame=frame,
            sample_rate=self._ear.sample_rate,
            gives=frozenset({"log_probs", "hidden"} if hidden_dims else {"log_probs"}),
            hidden_dims=hidden_dims,
        )

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        self._model.to(device)

    @torch.no_grad()
    def run(self, items: Sequence[Tensor]) -> Said:
        """See ``BatchedTeacher.run``."""
        fed = [self._ear.listen(item.float()) for item in items]
        values, units = side_by_side([one for one, _ in fed]), torch.tensor([count for _, count in fed])
        arguments = {self._ear.argument: values}
        if self._masks:
            valid = torch.arange(values.shape[1])[None] < units[:, None]
            arguments["attention_mask"] = valid.long().to(values.device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = self._model(**arguments, output_hidden_states=self._shows_blocks)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            shape = tuple(values.shape)
            raise TeacherError(f"{self._source}: the model fails on {shape} ({one_line(error)})") from error
        lens = self._frames(units).clamp(max=answer.logits.shape[1]).to(values.device)
        tokens = len(self._vocabulary)
        log_probs = to_log_probs(answer.logits, lens, "logits", tokens=tokens, source=self._source)
        blocks = (answer.hidden_states or ())[1:]  # before the first block there is only what goes in
        return Said(lens, log_probs, tuple(block.float() for block in blocks))

    def _frames(self, units: Tensor) -> Tensor:
        """Output frames for input units, exactly."""
        for name in _LENGTHS:
            if hasattr(self._model, name):
                frames: Tensor = getattr(self._model, name)(units)
                return frames.long()
        raise TeacherError(f"{self._source}: {type(self._model).__name__} does not tell how many frames it answers")


def _in_time(said: Said) -> bool:
    """Whether blocks stand in the time of the answer: behind an adapter, or where frames are squeezed, they do not."""
    return said.log_probs is not None and all(block.shape[1] == said.log_probs.shape[1] for block in said.hidden)


def _subsampling(config: Any) -> int:  # noqa: ANN401 - each model has its own
    """Units of the model's input for one output frame."""
    factor = math.prod(getattr(config, "conv_stride", None) or ())
    if hasattr(config, "encoder_config"):
        factor = int(config.encoder_config.subsampling_factor)
    if getattr(config, "add_adapter", False):
        factor *= int(config.adapter_stride) ** int(config.num_adapter_layers)
    return factor
