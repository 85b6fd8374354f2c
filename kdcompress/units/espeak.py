"""The program espeak-ng as one that says words: English, as the CMU dictionary would write it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from kdcompress.data.phone_sets import ARPABET, arpabet
from kdcompress.errors import VocabularyError
from kdcompress.units.content import damaged
from kdcompress_runtime.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "espeak-ng"
VOICE = "en-us"


class Espeak:
    """Guesses by asking espeak-ng, all words in one call; see ``Guesser``. What it says follows its version."""

    kind = "espeak"
    phones = ARPABET

    def __init__(self, program: str = PROGRAM) -> None:
        """Take the program by its name or path; it is looked for when it is needed."""
        self.program = program

    def __call__(self, words: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the phones of each word.

        Raises:
            MissingDependencyError: the program is not there, or fails.
            VocabularyError: it says nothing for a word, or a sound that ARPAbet does not have.
        """
        if not words:
            return []
        if broken := [word for word in words if len(word.split()) != 1]:
            raise VocabularyError(f"{broken[0]!r} is not one word; espeak-ng is asked word by word")
        said = [arpabet(line) for line in self._ask(words)]
        if silent := [word for word, phones in zip(words, said, strict=True) if not phones]:
            raise VocabularyError(f"espeak-ng says nothing for {silent[0]!r}; add it to the lexicon")
        return said

    def to_json(self) -> dict[str, Any]:
        """Nothing but that it is espeak-ng that was asked."""
        return {"kind": self.kind, "voice": VOICE}

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "units.json") -> Espeak:
        """Read back what ``to_json`` gave.

        Raises:
            VocabularyError: it is damaged.
        """
        if content.get("voice") != VOICE:
            raise damaged(source, f"its g2p has the voice {content.get('voice')!r}, not {VOICE!r}")
        return cls()

    def _ask(self, words: Sequence[str]) -> list[str]:
        """IPA of each word: the program reads line by line, and answers each with a line."""
        program = shutil.which(self.program)
        if program is None:
            raise MissingDependencyError(
                f"the program {self.program} is not there; install it (Debian and Ubuntu: apt install espeak-ng; "
                "macOS: brew install espeak-ng), or let a model of the lexicon guess (g2p lexicon)"
            )
        # a voice by name, phones and no sound; nothing of the words goes into the command line
        command = [program, "-q", "-v", VOICE, "--ipa"]
        done = subprocess.run(  # noqa: S603
            command, input="".join(f"{word}\n" for word in words), capture_output=True, check=False, encoding="utf-8"
        )
        if done.returncode:
            raise MissingDependencyError(f"{program} failed: {done.stderr.strip() or done.returncode}; reinstall it")
        lines = done.stdout.splitlines()
        if len(lines) != len(words):
            raise VocabularyError(
                f"espeak-ng answered {len(words)} words with {len(lines)} lines; are there words with punctuation?"
            )
        return lines
