"""KenLM's binaries through the package ``kenlm``, which the extra ``lm`` brings."""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.errors import (
    LanguageModelError,
    LanguageModelFormatError,
    LanguageModelNotFoundError,
    MissingDependencyError,
    PicklingRefusedError,
)
from kdcompress_runtime.lm.base import BOS, EOS, UNK, check_unit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import NoReturn

    from numpy.typing import NDArray

MAGIC = b"mmap lm http://kheafield.com/code"
"""Begins every binary of KenLM."""
LN10 = math.log(10.0)
_HEADER = struct.Struct("<B3xfI?3xIQ")
"""Order, probing multiplier, kind of model, whether the words are held, version, 1-grams; after 88 bytes of magic."""
_HEADER_AT = 88
_CACHED_CONTEXTS = 4096


class KenlmModel:
    """A binary of KenLM as a language model; the package ``kenlm`` gives the probabilities.

    Decoders keep contexts as ids; KenLM wants its own states, so some thousands of them are remembered.
    """

    def __init__(self, path: Path, *, unit: str = "word") -> None:
        """Open a binary of KenLM.

        Raises:
            MissingDependencyError: the package ``kenlm`` is not there.
            LanguageModelNotFoundError: there is no such file.
            LanguageModelFormatError: KenLM cannot read it, or it was built without its words (``build_binary -v``).
        """
        check_unit(unit)
        self.unit = unit
        self.words = _words(path)
        """Word by id; ``words[0]`` is ``<unk>``."""
        kenlm = _import_kenlm(path)
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            reason = str(error).split("\n", 1)[0]
            raise LanguageModelFormatError(f"{path}: KenLM cannot read it ({reason}); build it again") from error
        self._new_state: Callable[[], Any] = kenlm.State
        self.order: int = self._model.order
        missing = [mark for mark in (BOS, EOS) if mark not in self.words]
        if missing:
            raise LanguageModelFormatError(f"{path}: the model has no {' and no '.join(missing)}; estimate it again")
        self.bos, self.eos = self.words.index(BOS), self.words.index(EOS)
        self._state = lru_cache(_CACHED_CONTEXTS)(self._build_state)

    def __reduce__(self) -> NoReturn:
        raise PicklingRefusedError("a KenLM model lives in one process; open its file again in the other one")

    def score(self, context: tuple[int, ...], word: int) -> float:
        """Return ln P(word | context); both ids, ``context`` oldest first, words beyond ``order - 1`` ignored."""
        state = self._state(context[max(0, len(context) - self.order + 1) :])
        return float(self._model.BaseScore(state, self.words[word], self._new_state())) * LN10

    def unigrams(self) -> NDArray[np.float32]:
        """Ln P(word) of every word; shape (V,)."""
        return np.fromiter((self.score((), word) for word in range(len(self.words))), np.float32, len(self.words))

    def _build_state(self, context: tuple[int, ...]) -> object:
        """KenLM's state after ``context``; what stands before a ``<s>`` does not matter."""
        state = self._new_state()
        if self.bos in context:
            context = context[len(context) - context[::-1].index(self.bos) :]
            self._model.BeginSentenceWrite(state)
        else:
            self._model.NullContextWrite(state)
        for word in context:
            following = self._new_state()
            self._model.BaseScore(state, self.words[word], following)
            state = following
        return state


def _import_kenlm(path: Path) -> Any:  # noqa: ANN401 - a module without types
    try:
        import kenlm
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is a binary of KenLM and needs the package kenlm; install kdcompress[lm], "
            "or give the ARPA file it was built from, which needs nothing"
        ) from error
    return kenlm


def _words(path: Path) -> tuple[str, ...]:
    """Words of a binary, by id: they stand at its end, ``<unk>`` first, each ended by a zero byte."""
    import mmap

    try:
        if path.stat().st_size < _HEADER_AT + _HEADER.size:  # mmap takes no empty file
            raise LanguageModelFormatError(f"{path}: not a binary of KenLM")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[: len(MAGIC)] != MAGIC:
                raise LanguageModelFormatError(f"{path}: not a binary of KenLM")
            *_, held, _, unigrams = _HEADER.unpack_from(content, _HEADER_AT)
            if not held:
                raise LanguageModelFormatError(
                    f"{path}: it was built without its words, or never finished; run build_binary again, without -v"
                )
            start = _start_of_words(content, unigrams)
            if start is None:
                raise LanguageModelFormatError(f"{path}: the words at its end are damaged; build it again")
            return tuple(content[start:-1].decode("utf-8").split("\0"))
    except FileNotFoundError as error:
        raise LanguageModelNotFoundError(f"language model not found: {path}") from error
    except UnicodeDecodeError as error:
        raise LanguageModelFormatError(f"{path}: its words are not UTF-8; convert the ARPA file") from error
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _start_of_words(content: Any, unigrams: int) -> int | None:  # noqa: ANN401 - bytes or mmap
    """Where ``<unk>`` stands, followed by exactly the other words; KenLM counts ``<unk>`` or not."""
    first = UNK.encode() + b"\0"
    start = content.rfind(first)
    while start >= 0 and content[-1] == 0:
        held = content[start:].count(b"\0")
        if held in {unigrams, unigrams + 1}:
            return int(start)
        if held > unigrams + 1:
            return None
        start = content.rfind(first, 0, start)
    return None
