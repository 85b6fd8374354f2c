"""Language model and lexicon on their way into a bundle, and what a bundle may be tuned on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcompress_export.entries import check_disjoint
from kdcompress_export.errors import ExportError
from kdcompress_runtime.bundle import sha256
from kdcompress_runtime.decoder_settings import LEXICON_FILE, LM_FILE
from kdcompress_runtime.manifest import manifest_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kdcompress_export.decoder_tuning.options import TuneOptions
    from kdcompress_runtime.bundle import BundleMetadata
    from kdcompress_runtime.lm.base import LanguageModel


@dataclass(frozen=True, eq=False)
class Resources:
    """What a beam gets beside the log-probabilities."""

    lm: LanguageModel | None = None
    """The language model."""
    lexicon: frozenset[str] | None = None
    """The only words there may be."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Both, as they go into the bundle."""
    lm_info: Mapping[str, Any] | None = None
    """Where the language model comes from and what it holds."""
    lexicon_info: Mapping[str, Any] | None = None
    """The same of the lexicon."""

    @property
    def origin(self) -> str:
        """Says which files these are."""
        return " ".join(f"{name}:{sha256(content)}" for name, content in self.files.items())


def read_resources(options: TuneOptions) -> Resources:
    """Open what the options name.

    Raises:
        LanguageModelError: the language model cannot be read.
        ExportError: the language model cannot go into a bundle, or the lexicon cannot be read.
    """
    lm, lexicon = None, None
    files: dict[str, bytes] = {}
    lm_info, lexicon_info = None, None
    if options.lm is not None:
        lm, files[LM_FILE] = _read_lm(options.lm, options.unit)
        about = {"order": lm.order, "unit": lm.unit, "words": len(lm.words), "bytes": len(files[LM_FILE])}
        lm_info = {"file": str(options.lm), "sha256": sha256(files[LM_FILE]), **about}
    if options.lexicon is not None:
        lexicon = _read_lexicon(options.lexicon)
        files[LEXICON_FILE] = "".join(f"{word}\n" for word in sorted(lexicon)).encode()
        about = {"file": str(options.lexicon), "sha256": sha256(files[LEXICON_FILE])}
        lexicon_info = {**about, "words": len(lexicon)}
    return Resources(lm, lexicon, files, lm_info, lexicon_info)


def _read_lm(path: Path, unit: str | None) -> tuple[LanguageModel, bytes]:
    from kdcompress_runtime.lm import open_lm  # who tunes without a language model does not load it
    from kdcompress_runtime.lm.ngram import NgramModel
    from kdcompress_runtime.lm.packed import dumps

    lm = open_lm(path, unit=unit)
    if not isinstance(lm, NgramModel):
        raise ExportError(
            f"{path} is a KenLM binary, which only the kenlm package reads; give the ARPA file that it was built from"
        )
    return lm, dumps(lm)


def _read_lexicon(path: Path) -> frozenset[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: the lexicon cannot be read ({error}); give a text file, a word a line") from error
    words = [line.split() for line in lines if line.strip()]
    several = next((row for row in words if len(row) > 1), None)
    if several is not None:
        raise ExportError(f"{path}: {' '.join(several)!r} is more than a word; give one word a line, nothing else")
    if not words:
        raise ExportError(f"{path}: the lexicon holds no word; give one word a line")
    return frozenset(row[0] for row in words)


def check_unseen(metadata: BundleMetadata, dev: Path) -> None:
    """Refuse to tune on items that the model was trained or calibrated on, as far as the bundle tells.

    Raises:
        ManifestError: the manifest cannot be read.
        ExportError: the manifest is one of those, or shares items with one that still lies where it lay.
    """
    fingerprint = manifest_fingerprint(dev)
    for name, path, recorded in _recorded_manifests(metadata.provenance):
        if recorded == fingerprint:
            raise ExportError(
                f"{dev} holds the items of the bundle's {name} set; tune on recordings that the model did not see"
            )
        if path.is_file() and manifest_fingerprint(path) == recorded:
            check_disjoint(path, dev)


def _recorded_manifests(provenance: Mapping[str, Any]) -> Iterator[tuple[str, Path, str]]:
    """Manifests that a model has seen; ``provenance`` is an open field and may hold anything."""
    run = provenance.get("run")
    seen = set()
    for data in (provenance.get("data"), run.get("data") if isinstance(run, dict) else None):
        for name in ("train", "calibration"):
            row = data.get(name) if isinstance(data, dict) else None
            if isinstance(row, dict) and isinstance(row.get("fingerprint"), str) and row["fingerprint"] not in seen:
                seen.add(row["fingerprint"])
                yield name, Path(str(row.get("manifest"))), row["fingerprint"]
