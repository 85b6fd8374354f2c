"""The wheel: what is in it, and that it works in an environment with only what it asks for.

Nothing is downloaded: the environments borrow the distributions that a requirement leads to, and no others,
from the one that runs the tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
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


NATIVE = "kdcompress_runtime/decoders/native/"
LIBRARIES = (".so", ".dylib", ".dll")


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    words, environ = [str(part) for part in command], {**os.environ, **environ}
    done = subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(output: Path, kind: str, **environ: str) -> Path:
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", output, ROOT, **environ)
    (path,) = output.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """With the compiled core, where there is a compiler."""
    return build(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("pure"), "wheel", KDCOMPRESS_NO_NATIVE="1")


@pytest.fixture
def hatch_build(tmp_path, monkeypatch):
    """The build hook as a module; what it would put into the checkout, it puts into ``tmp_path``."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SOURCES", tmp_path)
    monkeypatch.delenv("KDCOMPRESS_NO_NATIVE", raising=False)
    return module


def has_compiler() -> bool:
    return any(shutil.which(name) for name in ("cc", "gcc", "clang"))


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
    kinds = {".py", ".yaml", ".typed", ".html", ".jinja", ".j2", ".css", ".json", ".c", ".h"}
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
    assert wheel.stat().st_size < 1_500_000


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


def content(wheel: Path) -> tuple[set[str], str]:
    """Names of the files in a wheel, and its ``WHEEL``."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        return names, archive.read(about).decode()


def test_the_compiled_wheel_is_for_any_python_on_this_platform(wheel):
    if not has_compiler():
        pytest.skip("no C compiler")
    names, about = content(wheel)
    (library,) = (name for name in names if name.endswith(LIBRARIES))
    assert library.startswith(NATIVE + "beam.core.")
    assert "Root-Is-Purelib: false" in about
    (tag,) = (line.removeprefix("Tag: ") for line in about.splitlines() if line.startswith("Tag: "))
    assert wheel.name.endswith(f"-{tag}.whl")
    assert tag.startswith("py3-none-")
    assert tag != "py3-none-any"


def test_the_pure_wheel_is_for_everything(pure_wheel):
    names, about = content(pure_wheel)
    assert not [name for name in names if name.endswith(LIBRARIES)]
    assert {NATIVE + "beam.c", NATIVE + "decoder.py"} <= names
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    assert "Root-Is-Purelib: true" in about


DECODE = """
import json
import numpy as np
from kdcompress_runtime import DecoderOptions, Vocabulary, build_decoder
scores = np.random.default_rng(0).normal(0, 2, (80, 6))
scores = (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)
decoder = build_decoder(DecoderOptions("beam"), Vocabulary.from_symbols(["▁", *"abcd"]), lexicon={"ab", "c", "dad"})
decoder = decoder.with_hotwords({"dad": 1.5})
found = decoder.nbest(decoder.advance(decoder.init_state(), scores), 5)
print(json.dumps([type(decoder).__name__, [[h.token_ids, h.frames, h.ends, round(h.score, 8)] for h in found]]))
"""


def test_both_wheels_decode_the_same(wheel, pure_wheel, tmp_path):
    compiled, pure = (
        json.loads(run(environment(tmp_path / name, path, set()), "-c", DECODE, cwd=tmp_path, PYTHONUTF8="1"))
        for name, path in (("compiled", wheel), ("pure", pure_wheel))
    )
    assert compiled[0] == ("NativeBeamDecoder" if has_compiler() else "BeamDecoder")
    assert pure[0] == "BeamDecoder"
    assert compiled[1] == pure[1]
    assert len(pure[1]) == 5


def test_the_source_distribution_can_build_the_core(tmp_path):
    with tarfile.open(build(tmp_path, "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {path.name for path in (ROOT / "runtime" / NATIVE).iterdir() if path.suffix in {".c", ".h"}}
    assert {"hatch_build.py", *(f"runtime/{NATIVE}{name}" for name in sources)} <= names
    assert "beam.c" in sources
    assert not [name for name in names if name.endswith(LIBRARIES)]


def test_an_editable_installation_builds_in_place(hatch_build, tmp_path):
    if not has_compiler():
        pytest.skip("no C compiler")
    hook = hatch_build.NativeBuildHook(str(ROOT), {}, None, None, str(tmp_path / "dist"), "wheel")
    data = {"force_include": {}}
    hook.initialize("editable", data)
    hook.finalize("editable", data, "")
    assert (tmp_path / hatch_build.LIBRARY).stat().st_size > 10_000
    assert data == {"force_include": {}}
    assert f"*{Path(hatch_build.LIBRARY).suffix}" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("reason", ["no compiler", "opted out"])
def test_without_a_compiler_the_wheel_is_pure_and_nothing_old_is_left(hatch_build, tmp_path, monkeypatch, reason):
    monkeypatch.setenv(*(("PATH", str(tmp_path)) if reason == "no compiler" else ("KDCOMPRESS_NO_NATIVE", "1")))
    monkeypatch.setenv("CC", "no-such-compiler")
    (tmp_path / hatch_build.LIBRARY).write_bytes(b"of yesterday")
    warnings = []
    hook = hatch_build.NativeBuildHook(str(ROOT), {}, None, None, str(tmp_path / "dist"), "wheel")
    monkeypatch.setattr(hook.app, "display_warning", warnings.append)
    for version in ("editable", "standard"):
        data = {"force_include": {}}
        hook.initialize(version, data)
        hook.finalize(version, data, "")
        assert data == {"force_include": {}}
    assert not (tmp_path / hatch_build.LIBRARY).exists()
    assert len(warnings) == (2 if reason == "no compiler" else 0)
    assert all("no C compiler was found" in warning for warning in warnings)


def test_a_compiler_that_fails_gives_way_to_the_next(hatch_build, tmp_path, monkeypatch):
    if not has_compiler():
        pytest.skip("no C compiler")
    monkeypatch.setenv("CC", "false")
    hatch_build.build(tmp_path / "core")
    assert (tmp_path / "core").stat().st_size > 10_000
    monkeypatch.setattr(hatch_build, "compilers", lambda: iter([["false"]]))
    with pytest.raises(hatch_build.BuildError, match="false"):
        hatch_build.build(tmp_path / "other")
    assert not list(tmp_path.glob("other*"))
