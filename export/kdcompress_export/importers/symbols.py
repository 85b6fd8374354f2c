"""Token tables of other toolkits, read by the runtime; what is wrong with one is this room's error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kdcompress_export.errors import ForeignModelError, UnsupportedModelError
from kdcompress_runtime.errors import ForeignVocabularyError, SeveralLanguagesError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reading_tokens() -> Iterator[None]:
    """Inside, a token table that cannot be used is a model that cannot be brought in.

    Raises:
        UnsupportedModelError: a table of several languages.
        ForeignModelError: the table is damaged, or does not fit.
    """
    try:
        yield
    except SeveralLanguagesError as error:
        raise UnsupportedModelError(str(error)) from error
    except ForeignVocabularyError as error:
        raise ForeignModelError(str(error)) from error
