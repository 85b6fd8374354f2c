"""From a lexicon's file to a pronouncer, with whatever guesses the words that the lexicon lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kdcompress.data.lexicon import read_lexicon
from kdcompress.errors import VocabularyError
from kdcompress.units.pronunciation import Pronouncer, entries_of

if TYPE_CHECKING:
    from pathlib import Path

    from kdcompress.units.pronunciation import Guesser

G2p = Literal["lexicon", "espeak", "none"]
"""What guesses: a model learned from the lexicon, the program espeak-ng, or nothing."""


def open_pronouncer(lexicon: Path, g2p: G2p = "lexicon") -> Pronouncer:
    """Read a lexicon; a model of it is learned (seconds for thousands of words). espeak-ng is looked for when asked.

    Raises:
        ManifestError: the file is missing or empty, or a line has no phones.
        VocabularyError: there is no such ``g2p``, or nothing can be learned from the lexicon.
    """
    read = read_lexicon(lexicon)
    guesser: Guesser | None
    if g2p == "lexicon":
        from kdcompress.units.g2p import GraphoneModel

        guesser = GraphoneModel.learn(entries_of(read))
    elif g2p == "espeak":
        from kdcompress.units.espeak import Espeak

        guesser = Espeak()
    elif g2p == "none":
        guesser = None
    else:
        raise VocabularyError(f"words are guessed by lexicon, espeak or none, not by {g2p!r}")
    return Pronouncer.from_lexicon(read, guesser)
