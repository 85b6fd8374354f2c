"""Builds the compiled core of the beam search while the package is installed, where there is a C compiler.

Without a compiler, or with ``KDCOMPRESS_NO_NATIVE=1``, the wheel is pure Python and searches with
``kdcompress_runtime/decoders/beam.py``. The core is loaded by ctypes and knows no Python headers, so one wheel
serves every version of Python on a platform. ``python hatch_build.py`` builds it in place.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent
PACKAGE = "kdcompress_runtime/decoders/native"
SOURCES = ROOT / "runtime" / PACKAGE
SOURCE = SOURCES / "beam.c"
LIBRARY = {"win32": "beam.core.dll", "darwin": "beam.core.dylib"}.get(sys.platform, "beam.core.so")
"""As ``library.py`` looks for it."""
OPT_OUT = "KDCOMPRESS_NO_NATIVE"
# Portable and exact: nothing of this machine alone, no reordering and no fusing of floating-point operations.
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-fPIC", "-shared")


class BuildError(Exception):
    """The core cannot be compiled here."""


def compilers() -> Iterator[list[str]]:
    """Commands of C compilers, most wanted first: ``CC``, the one that built Python, usual names."""
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang", "cl"):
        words = shlex.split(command, posix=sys.platform != "win32") if command else []
        found = shutil.which(words[0]) if words else None
        if found:
            yield [found, *words[1:]]


def command(compiler: list[str], target: Path) -> list[str]:
    """Command line that compiles the core."""
    if Path(compiler[0]).stem.lower() == "cl":
        return [*compiler, "/nologo", "/O2", "/fp:precise", "/LD", str(SOURCE), f"/Fe:{target}"]
    libraries = [] if sys.platform == "win32" else ["-lm"]
    return [*compiler, *FLAGS, str(SOURCE), "-o", str(target), *libraries]


def build(target: Path) -> None:
    """Compile the core to ``target``, which is replaced only when that succeeds.

    Raises:
        BuildError: there is no compiler, or none of them compiles it.
    """
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / LIBRARY
        for compiler in compilers():
            done = subprocess.run(  # noqa: S603 - a compiler that the caller chose
                command(compiler, made), cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode == 0 and made.is_file():
                beside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
                shutil.copyfile(made, beside)
                beside.replace(target)
                return
            failures.append(f"{' '.join(compiler)}: {(done.stderr or done.stdout).strip()[-500:]}")
    raise BuildError("; ".join(failures) or "no C compiler was found")


def platform_tag() -> str:
    """Tag of wheels for any Python 3 on this platform."""
    from packaging.tags import platform_tags

    plain = (tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))
    return f"py3-none-{next(plain)}"


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand
    if TYPE_CHECKING or __name__ != "__main__":
        raise
else:

    class NativeBuildHook(BuildHookInterface[Any]):
        """Puts the core into the wheel; into the checkout, where that is installed to be edited."""

        PLUGIN_NAME = "custom"
        _folder: Path | None = None

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile the core. What fails is a warning: everything works without it."""
            in_place = version == "editable"
            if not in_place:
                self._folder = Path(tempfile.mkdtemp())
            target = (self._folder or SOURCES) / LIBRARY
            try:
                target.unlink(missing_ok=True)  # never one that was built from something else
                if os.environ.get(OPT_OUT, "") not in {"", "0"}:
                    self.app.display_info(f"{OPT_OUT} is set: without the compiled beam search")
                    return
                build(target)
            except (BuildError, OSError) as error:
                self.app.display_warning(f"the compiled beam search is left out, the slower one is used: {error}")
                return
            if not in_place:
                build_data["pure_python"] = False
                build_data["tag"] = platform_tag()
                build_data["force_include"][str(target)] = f"{PACKAGE}/{LIBRARY}"

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
            """Remove what was compiled for the wheel; it is in it."""
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


if __name__ == "__main__":
    build(SOURCES / LIBRARY)
    print(SOURCES / LIBRARY)
