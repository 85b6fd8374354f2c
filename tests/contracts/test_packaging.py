"""The wheel: what is in it, and that it works in an environment with only what it asks for.

Nothing is downloaded: the environments borrow the distributions that a requirement leads to, and no others,
from the one that runs the tests.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "kdcompress": ROOT / "kdcompress",
    "kdcompress_export": ROOT / "export" / "kdcompress_export",
    "kdcompress_runtime": ROOT / "runtime" / "kdcompress_runtime",
    "kdcompress_evaluation": ROOT / "evaluation" / "kdcompress_evaluation",
}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, ROOT)
    (path,) = output.glob("*.whl")
    return path


def closure(requirements: list[str]) -> set[str]:
    """Names of all distributions that requirements lead to."""
    todo, seen = [Requirement(text) for text in requirements], set()
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        todo += needed(metadata.requires(key[0]) or [], {"", *key[1]})
    return {name for name, _ in seen}


def needed(lines: list[str], extras: set[str]) -> list[Requirement]:
    """The requirements among ``lines`` that hold here with one of the extras."""
    parsed = [Requirement(line) for line in lines]
    return [r for r in parsed if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras)]


def requirements_of(wheel: Path, extras: set[str]) -> list[str]:
    """What the wheel asks for, itself left out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    lines = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    return [str(r) for r in needed(lines, {"", *extras}) if r.name != "kdcompress"]


def environment(folder: Path, wheel: Path, extras: set[str]) -> Path:
    """Make an environment with the wheel and what it needs and nothing else; return its python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name in closure(requirements_of(wheel, extras)):
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    return python


def test_wheel_holds_the_four_packages_whole(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    kinds = {".py", ".yaml", ".typed", ".html", ".jinja", ".j2", ".css", ".json"}
    for package, folder in PACKAGES.items():
        on_disk = {
            f"{package}/{path.relative_to(folder).as_posix()}"
            for path in folder.rglob("*")
            if path.suffix in kinds or path.name == "py.typed"
        }
        assert f"{package}/py.typed" in on_disk
        assert not on_disk - names


def test_wheel_holds_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == set(PACKAGES)
    assert not [name for name in names if name.endswith((".flac", ".wav", ".pyc"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.stat().st_size < 1_000_000


def test_bare_wheel_asks_for_numpy_and_onnxruntime_only(wheel):
    assert {Requirement(text).name for text in requirements_of(wheel, set())} == {"numpy", "onnxruntime"}


def test_runtime_alone(wheel, tmp_path):
    python = environment(tmp_path / "venv", wheel, set())
    code = "import sys, kdcompress_runtime; print(sorted({'torch', 'soundfile', 'pydantic'} & set(sys.modules)))"
    assert run(python, "-c", code, cwd=tmp_path) == "[]\n"
    assert str(tmp_path) in run(python, "-c", "import kdcompress_runtime as r; print(r.__file__)", cwd=tmp_path)


def test_command_line_without_torch(wheel, tmp_path):
    python = environment(tmp_path / "venv", wheel, {"cli", "audio"})
    assert "transcribe" in run(python.with_name("kdcompress"), "--help", cwd=tmp_path)
    assert "--stream" in run(python.with_name("kdcompress"), "transcribe", "--help", cwd=tmp_path)


def test_transcribe_from_the_wheel(wheel, toy_bundle, tmp_path):
    import numpy as np
    import soundfile

    python = environment(tmp_path / "venv", wheel, {"cli", "audio"})
    frames = np.repeat(np.array([1, 1, 0, 1, 2, 3, 0, 2], np.float32), 4)
    soundfile.write(tmp_path / "letters.wav", frames, 8000, subtype="FLOAT")
    words = run(python.with_name("kdcompress"), "transcribe", toy_bundle, tmp_path / "letters.wav", cwd=tmp_path)
    assert words == "aab b\n"
