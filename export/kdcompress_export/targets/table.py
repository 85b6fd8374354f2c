"""Every target by name: how its files are made from a finished bundle, and how they are verified."""

from __future__ import annotations

import difflib
import importlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from kdcompress_export.bundle_writer import ZIP_SUFFIX, check_replaceable, write_bundle
from kdcompress_export.targets.retarget import TARGET_KEY
from kdcompress_export.timing import cpu_name
from kdcompress_export.verify import VerifyReport, verify_bundle
from kdcompress_runtime.bundle import METADATA_FILE, Bundle
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ONNXRUNTIME = "onnxruntime"
_MODULES = {"sherpa-onnx": "sherpa", "mobile": "mobile", "web": "web", "rapidocr": "rapidocr"}
_DOCUMENTS = {"sherpa-onnx.json": "sherpa-onnx", "rapidocr.json": "rapidocr"}
"""Documents of folders of other runtimes, and the target that writes them."""
TARGETS = (ONNXRUNTIME, *_MODULES)
"""Names; ``onnxruntime`` is the bundle itself."""
SPEECH_TARGETS = tuple(name for name in TARGETS if name != "rapidocr")
"""Those for which a streaming student of speech can be exported."""


def check_targets(targets: Sequence[str]) -> None:
    """Refuse unknown, repeated or no targets.

    Raises:
        OptionsError: naming the target and the known ones.
    """
    if not targets:
        raise OptionsError(f"name at least one target: {', '.join(TARGETS)}")
    for target in targets:
        if target not in TARGETS:
            near = difflib.get_close_matches(target, TARGETS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionsError(f"no target is called {target!r}; known are {', '.join(TARGETS)}{hint}")
        if list(targets).count(target) > 1:
            raise OptionsError(f"target {target!r} is named twice")


def output_of(output: Path, targets: Sequence[str], target: str) -> Path:
    """Where a target goes: to ``output`` when it is the only one, else to a folder inside it."""
    return output if len(targets) == 1 else output / target


def check_outputs(output: Path, targets: Sequence[str], *, overwrite: bool) -> None:
    """Refuse early what could not be written at the end.

    Raises:
        ExportError: something is there that would be destroyed.
        OptionsError: several targets do not fit into one ``.zip``.
    """
    if len(targets) > 1 and output.suffix == ZIP_SUFFIX:
        raise OptionsError(f"{output}: several targets need a folder; give a name that does not end in {ZIP_SUFFIX}")
    for target in targets:
        check_replaceable(output_of(output, targets, target), overwrite=overwrite)


def write_targets(
    bundle: Bundle, output: Path, targets: Sequence[str], *, overwrite: bool, say: Callable[[str], None]
) -> None:
    """Make the files of every target from a finished bundle, then write them all.

    Raises:
        TargetError, ParityError: a target cannot run the model, or does not compute the same; nothing is written.
        ExportError: the output cannot be written.
    """
    contents = {}
    for target in targets:
        if target != ONNXRUNTIME:
            say(f"Making and proving the files for {target}")
        contents[target] = _bundle_files(bundle) if target == ONNXRUNTIME else dict(_module(target).files(bundle))
    for target, files in contents.items():
        where = output_of(output, targets, target)
        say(f"Writing {where}")
        write_bundle(where, files, overwrite=overwrite)


def verify_output(output: Path, *, manifest: Path | None = None) -> VerifyReport:
    """Repeat the proof of whatever export wrote: a bundle, for any target, or the folder of another runtime.

    Raises:
        BundleError: there is nothing of the kind, or its document cannot be read.
        ManifestError, AudioError: the manifest cannot be read.
    """
    for document, target in _DOCUMENTS.items():
        if _holds(output, document):
            checks = tuple(_module(target).verify(output))
            return VerifyReport(str(output), cpu_name(), onnxruntime.__version__, "probe", checks)
    report = verify_bundle(output, manifest=manifest)
    if not report.passed:
        return report
    target = str(Bundle.open(output).metadata.provenance.get(TARGET_KEY, ONNXRUNTIME))
    extra = tuple(_module(target).verify(output)) if target in _MODULES else ()
    return replace(report, checks=(*report.checks, *extra))


def _holds(output: Path, file: str) -> bool:
    """Whether a folder or a ``.zip`` has a file of that name."""
    if output.is_file() and zipfile.is_zipfile(output):
        with zipfile.ZipFile(output) as archive:
            return file in archive.namelist()
    return (output / file).is_file()


def _module(target: str) -> Any:  # noqa: ANN401 - each has ``files`` and ``verify``
    return importlib.import_module(f"kdcompress_export.targets.{_MODULES[target]}")


def _bundle_files(bundle: Bundle) -> dict[str, bytes]:
    whole = {name: bundle.read(name) for name in bundle.metadata.files}
    return {METADATA_FILE: (Path(bundle.path) / METADATA_FILE).read_bytes(), **whole}
