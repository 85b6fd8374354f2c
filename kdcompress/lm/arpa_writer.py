"""Estimated models as ARPA files, or as packed files."""

from __future__ import annotations

import gzip
import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from kdcompress.files import replacing
from kdcompress.lm.counts import Grams, spelled
from kdcompress_runtime.errors import OptionsError
from kdcompress_runtime.lm.arpa import LN10, UNIT_COMMENT
from kdcompress_runtime.lm.hashing import keys_of
from kdcompress_runtime.lm.ngram import NgramModel, build
from kdcompress_runtime.lm.packed import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from kdcompress.lm.kneser_ney import Smoothed

SUFFIXES = (".arpa", ".arpa.gz", ".kdlm")
"""Names that ``write_model`` knows."""
_BLOCK = 200_000


@dataclass(frozen=True)
class Estimated:
    """A model that was estimated: n-grams with their probabilities, pruned ones among them."""

    unit: str
    """``word`` or ``token``."""
    words: Sequence[str]
    """Word by id."""
    grams: Sequence[Grams]
    """N-grams of each length from 1 on."""
    smoothed: Sequence[Smoothed]
    """Their probabilities."""

    @property
    def counts(self) -> tuple[int, ...]:
        """N-grams of each length in the model."""
        return tuple(int(np.count_nonzero(row.kept)) for row in self.smoothed)

    def blocks(self, length: int) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
        """N-grams of one length, some at a time: words (count, length), log10 P and log10 back-off (count, 2)."""
        row = self.smoothed[length - 1]
        kept = np.flatnonzero(row.kept)
        for start in range(0, len(kept), _BLOCK):
            part = kept[start : start + _BLOCK]
            values = np.stack([row.log10_probs[part], row.log10_backoffs[part]], axis=1)
            yield spelled(list(self.grams), length, part), values


def check_name(output: Path) -> None:
    """Refuse names that say no format.

    Raises:
        OptionsError: the name ends in none of ``SUFFIXES``.
    """
    if not output.name.endswith(SUFFIXES):
        raise OptionsError(f"{output}: name the language model {', '.join('*' + suffix for suffix in SUFFIXES)}")


def write_model(model: Estimated, output: Path, on_gram: Callable[[int], None] | None = None) -> None:
    """Write an ARPA file (``.arpa``, ``.arpa.gz``) or a packed one (``.kdlm``), by a temporary name.

    Args:
        model: what was estimated.
        output: the file.
        on_gram: called now and then with the n-grams written since the last time.

    Raises:
        OptionsError: see ``check_name``.
    """
    check_name(output)
    if output.name.endswith(".kdlm"):
        with replacing(output) as temporary:
            temporary.write_bytes(dumps(packed(model)))
        return
    with replacing(output) as temporary, _opened(temporary, zipped=output.name.endswith(".gz")) as file:
        _write_arpa(model, file, on_gram or (lambda _: None))


def packed(model: Estimated) -> NgramModel:
    """Return the model as the runtime has it."""
    kept = model.smoothed[0].kept
    new = np.cumsum(kept) - 1  # words that are left get new ids
    words = [word for word, stays in zip(model.words, kept, strict=True) if stays]
    parts = [
        (keys_of(new[ids]), (values * LN10).astype(np.float32))
        for length in range(2, len(model.grams) + 1)
        for ids, values in model.blocks(length)
    ]
    unigrams = np.concatenate([values for _, values in model.blocks(1)])
    return build(len(model.grams), model.unit, words, (unigrams * LN10).astype(np.float32), parts)


def _write_arpa(model: Estimated, file: IO[bytes], on_gram: Callable[[int], None]) -> None:
    words = np.array(model.words, dtype=object)
    note = [f"{UNIT_COMMENT}{model.unit}"] if model.unit != "word" else []
    header = [*note, "\\data\\", *(f"ngram {n}={count}" for n, count in enumerate(model.counts, start=1))]
    file.write("\n".join([*header, "", ""]).encode())
    for length in range(1, len(model.grams) + 1):
        file.write(f"\\{length}-grams:\n".encode())
        last = length == len(model.grams)
        for ids, values in model.blocks(length):
            texts = map(" ".join, words[ids].tolist())
            rows = zip(values[:, 0].tolist(), texts, values[:, 1].tolist(), strict=True)
            lines = (f"{p:.7g}\t{text}\n" if last else f"{p:.7g}\t{text}\t{b:.7g}\n" for p, text, b in rows)
            for some in iter(lambda lines=lines: "".join(itertools.islice(lines, 10_000)), ""):  # type: ignore[misc]
                file.write(some.encode())
            on_gram(len(ids))
        file.write(b"\n")
    file.write(b"\\end\\\n")


@contextmanager
def _opened(path: Path, *, zipped: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if not zipped:
            yield raw
            return
        # without a name or a time inside: the same model is the same file
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as file:
            yield file  # type: ignore[misc]
