"""An autoregressive translator of Hugging Face (Marian and its kin) as a teacher: the best texts of its beam search.

Sequence-level knowledge distillation (Kim and Rush, arXiv 1606.07947): a student learns the translations that the
teacher makes of the training sentences. They differ less from one another than people's, which is what a student that
decides on all tokens at once needs (Gu et al., arXiv 1711.02281; Libovicky and Helcl, arXiv 1811.04719, for CTC).

Frames and tokens of both sides have nothing in common, so its texts are kept in characters, case and punctuation as it
writes them, and the bridge writes them in the student's tokens.
"""

from __future__ import annotations

import math
import unicodedata
import warnings
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from kdcompress.data.text import indispensable, split_units
from kdcompress.errors import MismatchError, TeacherError
from kdcompress.labels.settings import NbestLabels
from kdcompress.losses.base import Hypotheses
from kdcompress.losses.nbest import NbestLoss, stacked
from kdcompress.teachers.foreign import one_line
from kdcompress.teachers.seq2seq_folder import (
    characters_of,
    decided_by,
    load_translator,
    longest_of,
    search_settings,
)
from kdcompress.teachers.teacher import Said, Teacher, TeacherInfo
from kdcompress.token_frontend import TokensConfig
from kdcompress_runtime.vocabulary import WORD_SEPARATOR, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from kdcompress.hearing import Heard
    from kdcompress.recipe import Recipe

TIMES, MORE = 2, 32
"""A translation of n source tokens that needs more than ``TIMES * n + MORE`` tokens goes round in circles."""
MOST_LOGITS = 1 << 25
"""Logits that are held at once to weigh texts: 128 MB."""


NO_IDS = torch.zeros(0, dtype=torch.int64)
NOTHING = Hypotheses(NO_IDS, NO_IDS[:, None], NO_IDS, torch.zeros(0))
"""Of no item any text."""


class Translation(NamedTuple):
    """One text for one source."""

    characters: tuple[int, ...]
    """Ids in ``TeacherInfo.vocabulary``."""
    log_prob: float
    """Ln P(text | source), all its tokens and its end added up; 0 where it is the only one."""


class Seq2SeqTeacher(Teacher):
    """A translator that ``save_pretrained`` wrote, with its tokenizer.

    It reads the source sentences of a batch, not the ids that a student makes of them. How many texts, and how wide the
    search: ``label`` of the recipe, or else its loss ``nbest``.
    """

    reads_sources = True

    def __init__(self, folder: Path, texts: Iterable[str] = ()) -> None:
        """Read a folder; no network, no pickles, no code from the folder.

        Args:
            folder: of the model.
            texts: references; their characters are in its vocabulary besides those that its tokenizer writes.

        Raises:
            MissingDependencyError: transformers, or sentencepiece where the tokenizer needs it, is not installed.
            TeacherError: it holds no translator, or one that cannot be used; the message says why.
        """
        self._model, self._tokenizer = load_translator(folder)
        self._most = longest_of(self._model, self._tokenizer)
        characters = indispensable(chain(characters_of(self._tokenizer), texts), "characters")
        vocabulary = Vocabulary.from_symbols(sorted({*characters, WORD_SEPARATOR}))
        self._ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols)}
        self.info = TeacherInfo(
            source=folder,
            name=folder.resolve().name,
            kind=f"autoregressive {self._model.config.model_type}",
            fingerprint=decided_by(folder),
            vocabulary=vocabulary,
            units="characters",
            frame=Fraction(1),
            sample_rate=None,
            gives=frozenset({"hypotheses"}),
        )

    def to(self, device: torch.device) -> None:
        """See ``Teacher.to``."""
        self._model.to(device)

    def check(self, recipe: Recipe) -> None:
        """See ``Teacher.check``.

        Raises:
            MismatchError: the recipe's inputs are no sentences.
        """
        if not isinstance(recipe.frontend, TokensConfig):
            raise MismatchError(
                f"{self.info.source}: translates sentences, and task {recipe.task} has none; name a teacher of it"
            )

    @torch.no_grad()
    def answer(self, heard: Heard, items: Tensor | None = None) -> Said:
        """See ``Teacher.answer``; each sentence is translated once, frames are the tokens that it read of each.

        A text that was cut off, is empty or holds what the tokenizer cannot write is left out; a source that is too
        long for the model, or of which no text is left, has none.

        Raises:
            TeacherError: the model fails.
        """
        size, beams = _search(heard.recipe)
        count = len(heard.batch.sources)
        rows = [row % count for row in (range(count * heard.views) if items is None else items.tolist())]
        unique = list(dict.fromkeys(rows))
        found, lens = self.translate([heard.batch.sources[row] for row in unique], size, beams)
        by_row = dict(zip(unique, zip(found, lens, strict=True), strict=True))
        texts = [
            (place, text.characters, share)
            for place, row in enumerate(rows)
            for text, share in zip(by_row[row][0], _shares(by_row[row][0]), strict=True)
        ]
        device = heard.labels.device
        hypotheses = stacked(texts, device) if texts else NOTHING
        return Said(torch.tensor([by_row[row][1] for row in rows], device=device), hypotheses=hypotheses)

    def translate(self, sources: Sequence[str], size: int, beams: int) -> tuple[list[list[Translation]], list[int]]:
        """Return at most ``size`` texts of each source, best first, and how many tokens of each were read."""
        encoded = self._tokenizer(list(sources), verbose=False)["input_ids"]
        lens = [len(ids) for ids in encoded]
        short = [row for row, length in enumerate(lens) if length <= self._most]
        found: list[list[Translation]] = [[] for _ in sources]
        if short:
            for row, texts in zip(short, self._translated([sources[row] for row in short], size, beams), strict=True):
                found[row] = texts
        return found, lens

    def _translated(self, sources: list[str], size: int, beams: int) -> list[list[Translation]]:
        fed = self._tokenizer(sources, return_tensors="pt", padding=True, return_token_type_ids=False)
        fed = fed.to(self._model.device)
        read = fed["attention_mask"].sum(dim=1)
        settings = search_settings(self._model, size, beams, min(self._most, TIMES * int(read.max()) + MORE))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ids = self._model.generate(**fed, generation_config=settings, use_model_defaults=False)
                scores = self._log_probs(fed, ids, size) if size > 1 else [0.0] * len(ids)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            shape = tuple(fed["input_ids"].shape)
            raise TeacherError(f"{self.info.source}: the model fails on {shape} ({one_line(error)})") from error
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        usable = self._usable(ids, read.repeat_interleave(size))
        rows = [self._kept(*one) for one in zip(texts, scores, usable, strict=True)]
        return [
            [text for text in rows[start : start + size] if text is not None] for start in range(0, len(rows), size)
        ]

    def _usable(self, ids: Tensor, read: Tensor) -> list[bool]:
        """Whether each of ``(H, T)`` ends, in good time, and holds nothing unknown."""
        said, places = ids[:, 1:], torch.arange(1, ids.shape[1], device=ids.device)
        ends = torch.isin(said, torch.as_tensor(self._model.generation_config.eos_token_id, device=ids.device))
        length = torch.where(ends, places, ids.shape[1] + 1).amin(dim=1, keepdim=True)
        good = (length <= (TIMES * read + MORE)[:, None]) & (length < ids.shape[1])
        unknown = self._tokenizer.unk_token_id
        if unknown is not None:
            good &= ~((said == unknown) & (places < length)).any(dim=1, keepdim=True)
        return good[:, 0].tolist()

    def _kept(self, text: str, log_prob: float, usable: bool) -> Translation | None:
        symbols = split_units(unicodedata.normalize("NFC", text), "characters")
        if not usable or not symbols or not all(symbol in self._ids for symbol in symbols):
            return None
        return Translation(tuple(self._ids[symbol] for symbol in symbols), log_prob)

    def _log_probs(self, fed: Any, ids: Tensor, size: int) -> list[float]:  # noqa: ANN401 (transformers)
        """Ln P of each text ``(N * size, T)``: what the search ranks by has its own ideas of length."""
        sources = fed["input_ids"].repeat_interleave(size, dim=0)
        mask = fed["attention_mask"].repeat_interleave(size, dim=0)
        ends = torch.as_tensor(self._model.generation_config.eos_token_id, device=ids.device)
        before = torch.isin(ids[:, 1:], ends).int().cumsum(dim=1)
        valid = torch.nn.functional.pad(before, (1, 0))[:, :-1] == 0
        part = max(1, MOST_LOGITS // (ids.shape[1] * int(self._model.config.vocab_size)))
        found: list[float] = []
        for start in range(0, len(ids), part):
            rows = slice(start, start + part)
            logits = self._model(
                input_ids=sources[rows], attention_mask=mask[rows], decoder_input_ids=ids[rows, :-1]
            ).logits
            chosen = logits.float().log_softmax(dim=2).gather(2, ids[rows, 1:, None])[:, :, 0]
            found += chosen.masked_fill(~valid[rows], 0).sum(dim=1).tolist()
        if not all(map(math.isfinite, found)):
            raise TeacherError(f"{self.info.source}: finds its own texts impossible; its weights are damaged")
        return found


def _search(recipe: Recipe) -> tuple[int, int]:
    """Texts of each item, and how many are followed in the search for them."""
    asking = [recipe.label, *recipe.losses]
    chosen = next((one for one in asking if isinstance(one, NbestLabels | NbestLoss)), NbestLabels(kind="nbest"))
    return chosen.size, max(chosen.size, chosen.beam_width)


def _shares(texts: Sequence[Translation]) -> list[float]:
    """Weights of the texts of an item: the softmax over their log-probabilities."""
    shares: list[float] = torch.tensor([text.log_prob for text in texts]).softmax(dim=0).tolist()
    return shares
