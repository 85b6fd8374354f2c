"""What the measurements ran on, in words that make a number believable."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

_ISA = {
    "avx2": "avx2",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}
_PACKAGES = ("kdcompress", "onnxruntime", "numpy", "jiwer", "soundfile", "soxr")


@dataclass(frozen=True)
class Machine:
    """One computer at one time."""

    cpu: str
    """Model name."""
    cores: int
    """Logical cores this process may use."""
    isa: tuple[str, ...]
    """Instruction sets that decide int8 and float32 speed, of those the kernel reports."""
    memory_bytes: int
    """Physical memory."""
    system: str
    """Operating system and architecture."""
    load_average: float | None
    """Of one minute, where the system has one; measurements on a busy machine scatter."""
    python: str
    """Version."""
    versions: dict[str, str]
    """Of the packages that matter."""


def describe_machine() -> Machine:
    """Describe this computer now."""
    info = Path("/proc/cpuinfo")
    cpu, isa = parse_cpuinfo(info.read_text(encoding="utf-8") if info.is_file() else "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=usable or 1,
        isa=isa,
        memory_bytes=int(psutil.virtual_memory().total),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        python=platform.python_version(),
        versions=package_versions(),
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that a number depends on."""
    installed = {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in installed.items() if version}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def parse_cpuinfo(content: str) -> tuple[str, tuple[str, ...]]:
    """Return the CPU's name and the instruction sets of interest from ``/proc/cpuinfo`` (x86 or ARM)."""
    fields: dict[str, str] = {}
    for line in content.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    name = fields.get("model name") or fields.get("hardware") or ""
    return name, tuple(dict.fromkeys(word for flag, word in _ISA.items() if flag in flags))
