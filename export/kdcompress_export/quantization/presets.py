"""Which schemes make sense on which CPU. optimum's ``AutoQuantizationConfig`` says which integers it likes."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdcompress_export.quantization.schemes import SCHEMES, Scheme
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PRESETS = ("avx2", "avx512", "avx512_vnni", "arm64")
"""Names, as optimum has them."""
_BESIDE: Mapping[str, tuple[str, ...]] = {
    # Two products of 8 bits overflow 16 bits where the CPU has no VNNI: 7-bit weights, beside what optimum says.
    "avx2": ("u8s8-7bit",),
    "avx512": ("u8s8-7bit",),
    "avx512_vnni": ("s8s8",),
    # onnxruntime's own advice for ARM.
    "arm64": ("s8s8",),
}
_METHODS = ("minmax", "percentile", "entropy")
_UNCALIBRATED = ("dynamic", "weights-8bit", "weights-4bit", "float16")


@dataclass(frozen=True)
class Preset:
    """What to try for a CPU."""

    name: str
    """One of ``PRESETS``."""
    integers: tuple[str, ...]
    """Types of activations and weights, the preferred ones first: ``u8s8``, ``s8s8``, ``u8u8``, ``u8s8-7bit``."""
    schemes: tuple[Scheme, ...]
    """Candidates, the most promising first."""


def find_preset(name: str | None = None) -> Preset:
    """Return a preset by name; that of this machine when left out.

    Raises:
        OptionsError: there is none of that name.
    """
    name = name or this_cpu()
    if name not in PRESETS:
        raise OptionsError(f"no CPU preset is called {name!r}; known are {', '.join(PRESETS)}")
    integers = (_optimum(name), *_BESIDE[name])
    statics = [_scheme(one, method, glue=glue) for one in integers for glue in (True, False) for method in _METHODS]
    # The types that are not the preferred ones are tried with the plainest calibration alone.
    chosen = [
        s for s in statics if s.name.startswith(f"static-{integers[0]}") and s.reduce_range == ("7bit" in integers[0])
    ]
    beside = [s for s in statics if s not in chosen and s.method == "minmax"]
    return Preset(name, integers, (*chosen, *beside, *(SCHEMES[one] for one in _UNCALIBRATED)))


def this_cpu(flags: frozenset[str] | None = None, machine: str | None = None) -> str:
    """Name of the preset that suits this machine, or one with these flags."""
    machine = (machine or platform.machine()).lower()
    if machine in {"arm64", "aarch64"}:
        return "arm64"
    flags = _flags() if flags is None else flags
    if flags & {"avx512_vnni", "avx_vnni"}:
        return "avx512_vnni"
    return "avx512" if "avx512bw" in flags else "avx2"


def _flags() -> frozenset[str]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return frozenset()
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _optimum(name: str) -> str:
    """Integers of optimum's preset for static quantization."""
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = getattr(AutoQuantizationConfig, name)(
        is_static=True, per_channel=True, operators_to_quantize=["MatMul", "Conv"]
    )
    short = {"QUInt8": "u8", "QInt8": "s8"}
    pair = short[config.activations_dtype.name] + short[config.weights_dtype.name]
    return pair + "-7bit" * bool(config.reduce_range)


def _scheme(integers: str, method: str, *, glue: bool) -> Scheme:
    pair, _, narrow = integers.partition("-")
    return SCHEMES["-".join(["static", pair, method, *([narrow] if narrow else []), *["all"] * glue])]
