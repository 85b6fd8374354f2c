"""Which split an item goes to. The corpus's own word counts; where it has none, speakers are dealt out by a hash.

Nothing is drawn: a speaker stays where he is when the corpus grows, on every machine.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Collection

    from kdcompress.data.corpora.base import ManifestRow

SplitBy = Literal["speaker", "id"]
TRAIN, DEV, TEST = "train", "dev", "test"
HELD_OUT = re.compile(r"(^|[-_.])((dev|test|eval)[^-_.]*|val|valid|validation)([-_.]|$)", re.IGNORECASE)
"""Names of splits that are not trained on: dev-clean, test_other, cuts.valid; Common Voice's validated is not one."""
DEFAULT_SHARE = 0.05


def is_held_out(split: str) -> bool:
    """Whether a split, by its name, is not for training."""
    return HELD_OUT.search(split) is not None


@dataclass(frozen=True)
class SplitRule:
    """Deals items out to train, dev and test."""

    dev_share: float | None = None
    """Share of the speakers for dev; left out: 5 % where the corpus has no splits, none where it has."""
    test_share: float | None = None
    """The same for test."""
    by: SplitBy = "speaker"
    """What stays together: all items of a speaker, or only the item itself."""

    def __post_init__(self) -> None:
        for name, share in (("dev_share", self.dev_share), ("test_share", self.test_share)):
            if share is not None and not 0.0 <= share < 1.0:
                raise OptionsError(f"{name} must lie between 0 and 1, found {share}")
        if (self.dev_share or 0.0) + (self.test_share or 0.0) >= 1.0:
            raise OptionsError("dev_share and test_share leave nothing for training; lower them")
        if self.by not in {"speaker", "id"}:
            raise OptionsError(f"split_by must be speaker or id, found {self.by!r}")

    def check(self, own: Collection[str]) -> None:
        """Refuse shares that do not go with the splits of the corpus.

        Raises:
            OptionsError: a share is asked for a split that the corpus has, or there is nothing to take it from.
        """
        for name, share in ((DEV, self.dev_share), (TEST, self.test_share)):
            if share and name in own:
                raise OptionsError(f"the corpus has its own {name}, but a share for another is asked; leave that out")
            if share and own and TRAIN not in own:
                found = ", ".join(sorted(own))
                raise OptionsError(
                    f"a share for {name} is taken from `train`, but the corpus has {found}; leave it out"
                )

    def split_of(self, own: str | None, row: ManifestRow) -> str:
        """Return the split of an item; ``own`` is the one that the corpus names, None where it names none."""
        if own is None:
            shares = [DEFAULT_SHARE if share is None else share for share in (self.dev_share, self.test_share)]
            return self._dealt(row, *shares)
        return self._dealt(row, self.dev_share or 0.0, self.test_share or 0.0) if own == TRAIN else own

    def _dealt(self, row: ManifestRow, dev_share: float, test_share: float) -> str:
        if not dev_share and not test_share:
            return TRAIN
        key = row.speaker if row.speaker and self.by == "speaker" else row.id
        place = (
            int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") / 2**64
        )
        if place < test_share:
            return TEST
        return DEV if place < test_share + dev_share else TRAIN
