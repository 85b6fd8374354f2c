"""Texts of another system (a cloud service, a translator, a person), one JSON object a line: ``id`` and ``text``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_evaluation.errors import PredictionsError
from kdcompress_evaluation.systems.base import Item, LiveStream, Recognised, no_stream
from kdcompress_evaluation.variants import VariantInfo
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcompress_evaluation.decoding import Decoding

SUFFIX = ".jsonl"
_MANIFEST = ("audio_filepath", "image_filepath")
"""Fields of a line with a reference: taken for predictions, every system would be perfect."""


def matches(path: Path) -> bool:
    """Whether it is a file of predictions, by its name."""
    return path.is_file() and path.suffix == SUFFIX


def describe(path: Path, precisions: str) -> list[VariantInfo]:  # noqa: ARG001 - texts have no precision
    """Check a file of predictions.

    Raises:
        PredictionsError: a line is broken, an id stands twice, or there is none.
    """
    read_predictions(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return [
        VariantInfo(
            name=path.stem,
            kind="predictions",
            anchor=False,
            task="",
            input_kind="any",
            bundle_name=path.stem,
            bundle_path=str(path),
            precision="",
            engine="",
            format_version=None,
            files={path.name: digest},
            model_file=path.name,
            model_sha256=digest,
            tokens_sha256="",
            geometry_sha256="",
            size_bytes=None,
            parameters=None,
            sample_rate=None,
            lookahead_ms=None,
            chunk_ms=None,
            provenance={},
            measured={},
        )
    ]


def load(info: VariantInfo, decoding: Decoding) -> Predictions:  # noqa: ARG001 - nothing is decoded
    """Read the texts; see ``describe``."""
    return Predictions(read_predictions(Path(info.bundle_path)))


class Predictions:
    """Texts by id."""

    input_kind = "any"
    sample_rate: int | None = None
    form: int | None = None
    chunk_seconds: float | None = None

    def __init__(self, texts: dict[tuple[str, str], str]) -> None:
        self._texts = texts

    def recognize(self, item: Item) -> Recognised:
        """Return the text of the item's id.

        Raises:
            PredictionsError: there is none.
        """
        for manifest in (item.manifest, ""):
            text = self._texts.get((manifest, item.id))
            if text is not None:
                return Recognised(text)
        raise PredictionsError(f"the file holds no text for the id {item.id!r}; add a line for it")

    def open_stream(self, *, endpoints: bool = False) -> LiveStream:  # noqa: ARG002 - there is no stream
        """See ``System``."""
        raise OptionsError(no_stream())


def knows(info: VariantInfo, manifests: Mapping[str, Path]) -> bool:
    """Whether the file holds a text for any line of the manifests, given by name.

    Raises:
        PredictionsError, ManifestError: a file is missing or broken.
    """
    from kdcompress_evaluation.manifests import read_entries  # which knows variants itself

    texts = read_predictions(Path(info.bundle_path))
    return any(
        (name, entry.id) in texts or ("", entry.id) in texts
        for name, path in manifests.items()
        for entry in read_entries(path)
    )


def read_predictions(path: Path) -> dict[tuple[str, str], str]:
    """Texts by manifest (empty where the line names none) and id.

    Raises:
        PredictionsError: see ``describe``.
    """
    texts: dict[tuple[str, str], str] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            key, text = _parse(line, f"{path}, line {number}")
            if key in texts:
                raise PredictionsError(f"{path}, line {number}: the id {key[1]!r} stands there a second time; keep one")
            texts[key] = text
    if not texts:
        raise PredictionsError(f'{path} is empty; it needs one {{"id": ..., "text": ...}} a line')
    return texts


def _parse(line: str, where: str) -> tuple[tuple[str, str], str]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise PredictionsError(f"{where}: not valid JSON ({error}); mend or remove the line") from error
    if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("text"), str):
        raise PredictionsError(f'{where}: expected {{"id": ..., "text": "..."}}; mend the line')
    if any(name in row for name in _MANIFEST):
        raise PredictionsError(f"{where}: this is a manifest with references, not the texts of a system; give those")
    return (str(row.get("manifest") or ""), str(row["id"])), row["text"]
