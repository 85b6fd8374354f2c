"""Language models for the beam search: n-grams from ARPA files, packed files, or KenLM's binaries.

Not imported by ``import kdcompress_runtime``; numpy only, until a KenLM binary is opened.
"""

from __future__ import annotations

from pathlib import Path

from kdcompress_runtime.errors import LanguageModelError, LanguageModelNotFoundError, OptionsError
from kdcompress_runtime.lm import arpa, kenlm, packed
from kdcompress_runtime.lm.base import LanguageModel, TextScore, score_text, sentence_scores, word_ids
from kdcompress_runtime.lm.ngram import NgramModel

__all__ = [
    "LanguageModel",
    "NgramModel",
    "TextScore",
    "open_lm",
    "score_text",
    "sentence_scores",
    "word_ids",
]


def open_lm(path: str | Path, *, unit: str | None = None) -> LanguageModel:
    """Open a language model: ARPA (also gzipped), packed (``.kdlm``), or a KenLM binary; its content decides.

    Args:
        path: the file.
        unit: what the model predicts, ``word`` or ``token``; where it is not given, what the file says, else words.

    Raises:
        LanguageModelNotFoundError: there is no such file.
        LanguageModelFormatError: damaged, cut off, or none of these formats.
        LanguageModelError: the file cannot be read.
        MissingDependencyError: a KenLM binary, and the package ``kenlm`` is not there.
        OptionsError: no such unit, or the packed model predicts the other one.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(kenlm.MAGIC))
    except FileNotFoundError as error:
        raise LanguageModelNotFoundError(f"language model not found: {path}") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if head == kenlm.MAGIC:
        return kenlm.KenlmModel(path, unit=unit or "word")
    if not head.startswith(packed.MAGIC):
        return arpa.read_arpa(path, unit=unit)
    model = packed.read_packed(path)
    if unit not in {None, model.unit}:
        raise OptionsError(f"{path} predicts a {model.unit} at a time, not a {unit}; leave the unit out")
    return model
