"""What a search has done so far, in a folder: an interrupted one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kdcompress_export.error_rates import ItemErrors
from kdcompress_export.quantization.counts import OperatorCounts
from kdcompress_export.quantization.schemes import SmallModel
from kdcompress_export.quantization.sensitivity import LayerSensitivity, Sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Keeps what was made and measured under a name that says what it was made from.

    A file that cannot be read, or is not the one that was written, is made again. Speed is never kept: it belongs to
    the moment.
    """

    folder: Path | None
    """Where; None: nothing is kept."""
    origin: Mapping[str, Any]
    """JSON object: what all candidates come from (source, recordings, versions)."""

    def key(self, *parts: object) -> str:
        """Name of what follows from the origin and these parts."""
        text = json.dumps([dict(self.origin), *parts], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def model(self, key: str, make: Callable[[], SmallModel]) -> SmallModel:
        """Return the file that was made under this key, or make it.

        Raises:
            QuantizationError: as ``make`` does.
        """
        row, content = self._read(f"{key}.json"), self._read_bytes(f"{key}.onnx")
        if row is not None and content is not None and row.get("sha256") == hashlib.sha256(content).hexdigest():
            return SmallModel(content, OperatorCounts(row["small"], row["floating"]), row["frames"])
        made = make()
        counts = {"small": dict(made.counts.small), "floating": dict(made.counts.floating)}
        digest = hashlib.sha256(made.content).hexdigest()
        self._write(f"{key}.onnx", made.content)
        self._write_row(f"{key}.json", {"sha256": digest, "frames": made.calibration_frames, **counts})
        return made

    def errors(self, content: bytes) -> ItemErrors | None:
        """Return the errors that a file made, if they were counted before."""
        row = self._read(self._errors_name(content))
        if row is None:
            return None
        try:
            return ItemErrors.from_json(row)
        except (KeyError, TypeError, ValueError):  # of another version
            return None

    def keep_errors(self, content: bytes, errors: ItemErrors) -> None:
        """Keep the errors that a file made."""
        self._write_row(self._errors_name(content), asdict(errors))

    def sensitivity(self, key: str, measure: Callable[[], Sensitivity]) -> Sensitivity:
        """Return the sensitivity that was measured under this key, or measure it."""
        row = self._read(f"{key}.sensitivity.json")
        if row is not None:
            layers = [LayerSensitivity(tuple(one["layers"]), one["kl"], one["recovered"]) for one in row["layers"]]
            return Sensitivity(row["scheme"], row["frames"], row["kl"], tuple(layers))
        found = measure()
        self._write_row(f"{key}.sensitivity.json", found.to_json())
        return found

    def _errors_name(self, content: bytes) -> str:
        return f"{self.key(hashlib.sha256(content).hexdigest())}.errors.json"

    def _read_bytes(self, name: str) -> bytes | None:
        path = self.folder / name if self.folder is not None else None
        return path.read_bytes() if path is not None and path.is_file() else None

    def _read(self, name: str) -> dict[str, Any] | None:
        content = self._read_bytes(name)
        if content is None:
            return None
        try:
            row = json.loads(content)
        except ValueError:
            return None
        return row if isinstance(row, dict) else None

    def _write_row(self, name: str, row: Mapping[str, Any]) -> None:
        self._write(name, json.dumps(row).encode())

    def _write(self, name: str, content: bytes) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(self.folder / name)
