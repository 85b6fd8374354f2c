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
_PACKAGES = ("kdcompress", "onnxruntime", "numpy", "jiwer", "sacrebleu", "soundfile", "soxr", "sherpa-onnx")


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
    cache_bytes: int | None = None
    """Last-level cache; a model that does not fit reads its weights from memory at every chunk."""
    governor: str | None = None
    """How the kernel chooses the clock: ``performance``, ``powersave``...; ``None``, here and below: not readable."""
    turbo: bool | None = None
    """Whether the clock may rise above its base."""
    virtual: bool | None = None
    """Whether a hypervisor is underneath, whose other guests disturb measurements."""


def describe_machine() -> Machine:
    """Describe this computer now."""
    content = _read(Path("/proc/cpuinfo")) or ""
    cpu, isa = parse_cpuinfo(content)
    settings = read_cpu_settings(Path("/sys/devices/system/cpu"))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=usable or 1,
        isa=isa,
        memory_bytes=int(psutil.virtual_memory().total),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load_average=load_average(),
        python=platform.python_version(),
        versions=package_versions(),
        cache_bytes=settings.cache_bytes,
        governor=settings.governor,
        turbo=settings.turbo,
        virtual=is_virtual(content),
    )


@dataclass(frozen=True)
class CpuSettings:
    """What the kernel says about clock and caches; ``None``: nothing."""

    cache_bytes: int | None
    """Last-level cache."""
    governor: str | None
    """Of the first core."""
    turbo: bool | None
    """Whether it is allowed."""


def read_cpu_settings(folder: Path) -> CpuSettings:
    """Read what lies under ``/sys/devices/system/cpu``; other systems have no such folder."""
    sizes = {}
    for cache in sorted(folder.glob("cpu0/cache/index*")):
        level, size = _read(cache / "level"), _read(cache / "size")
        if level and size and size.endswith("K"):
            sizes[int(level)] = int(size[:-1]) * 1024
    no_turbo, boost = _read(folder / "intel_pstate/no_turbo"), _read(folder / "cpufreq/boost")
    turbo = no_turbo == "0" if no_turbo else boost == "1" if boost else None
    return CpuSettings(sizes[max(sizes)] if sizes else None, _read(folder / "cpu0/cpufreq/scaling_governor"), turbo)


def is_virtual(cpuinfo: str) -> bool | None:
    """Whether ``/proc/cpuinfo`` carries the mark of a hypervisor; ``None`` where it has none to carry (ARM)."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return None if flags is None else "hypervisor" in flags.split()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def load_average() -> float | None:
    """Of one minute, now; ``None`` where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


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
