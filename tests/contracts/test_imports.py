"""Who may import whom, and what an import may cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IMPORT_ALL = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in set(sys.argv[2].split(",")):
            raise ImportError("refused: " + name)

sys.meta_path.insert(0, Refuse())
for name in sys.argv[1].split(","):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), name + "."):
        importlib.import_module(module.name)
print("imported")
"""


def import_all(names: str, refused: str) -> subprocess.CompletedProcess:
    """Import packages with every module in them, while ``refused`` cannot be imported."""
    command = [sys.executable, "-c", IMPORT_ALL, names, refused]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (
            "kdcompress_runtime",
            "torch,onnx,soundfile,soxr,scipy,pydantic,yaml,rich,typer,jiwer,jinja2,matplotlib,psutil,pyctcdecode",
        ),
        ("kdcompress_evaluation", "torch,onnx,pydantic,yaml,rich,typer,soundfile,soxr,pyctcdecode"),
        ("kdcompress.data.digits,kdcompress.data.noise", "torch,onnx,soundfile,soxr,scipy"),
    ],
)
def test_every_module_is_imported_without(names, refused):
    done = import_all(names, refused)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported\n"


def test_the_import_test_would_notice():
    assert "refused: numpy" in import_all("kdcompress_runtime", "numpy").stderr
