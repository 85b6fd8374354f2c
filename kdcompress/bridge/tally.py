"""What did not come over a bridge, counted: a spelling may be wrong, but never silently."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Tally:
    """What did not come over while training, counted."""

    characters: int = 0
    """Characters of a subword teacher's best paths."""
    crowded: int = 0
    """Those of them that found no frame."""
    texts: int = 0
    """Texts of a teacher."""
    unwritten: int = 0
    """Those of them that the student's tokens cannot write."""
    too_long: int = 0
    """Those that need more frames than their items have."""
    references: int = 0
    """Items that learned from their reference, because no text was left."""

    def sentences(self) -> tuple[str, ...]:
        """Say what is missing; nothing where all came over."""
        found = []
        if self.crowded:
            found.append(
                f"{self.crowded} of {self.characters} characters were left out, with their subwords: their items have "
                "fewer frames than characters"
            )
        if self.unwritten:
            found.append(f"{self.unwritten} of {self.texts} texts were left out: the student cannot write them")
        if self.too_long:
            found.append(f"{self.too_long} texts were left out: they need more frames than their items have")
        if self.references:
            found.append(f"{self.references} times an item was left without a text, and learned from its reference")
        return tuple(found)
