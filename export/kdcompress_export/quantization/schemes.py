"""Ways to make a graph smaller: what each is called, what it does, and one table that applies it."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import onnx
from onnx import helper

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import FRONTEND_MARK, arrays, store_in_16_bits, strip
from kdcompress_export.quantization.counts import OperatorCounts, check_counts
from kdcompress_export.quantization.dynamic import quantize_matrices
from kdcompress_export.quantization.embeddings import store_embeddings
from kdcompress_export.quantization.float16 import halve
from kdcompress_export.quantization.matrices import matrix_nodes, prepare_matrices
from kdcompress_export.quantization.static import QuantizeOptions, layers, prepare, quantize
from kdcompress_export.quantization.weight_only import pack_weights
from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from onnx import ModelProto

    from kdcompress_export.quantization.calibration import Calibration, CalibrationName
    from kdcompress_export.quantization.qdq import IntegerName

Kind = Literal["static", "dynamic", "weight_only", "float16"]


@dataclass(frozen=True)
class Scheme:
    """A way to make a graph smaller."""

    name: str
    """What the table and the command line call it."""
    kind: Kind
    """Which quantizer."""
    method: CalibrationName = "minmax"
    """Static: how ranges follow from what calibration saw."""
    activations: IntegerName = "u8"
    """Static: type of what flows."""
    weights: IntegerName = "s8"
    """Static: type of what is stored."""
    reduce_range: bool = False
    """Static: 7-bit weights."""
    glue: bool = False
    """Static: int8 between the layers, too."""
    bits: int = 8
    """Weight-only: bits a weight."""
    keep_float: tuple[str, ...] = ()
    """Weights, by initializer name, whose layer stays float32."""

    @property
    def precision(self) -> str:
        """What a bundle calls the result: ``int8``, ``int4`` or ``float16``."""
        return "float16" if self.kind == "float16" else f"int{self.bits}"

    @property
    def needs_calibration(self) -> bool:
        """Whether recordings decide about the file."""
        return self.kind == "static"

    def keeping(self, keep_float: tuple[str, ...]) -> Scheme:
        """Return the mixed scheme in which these layers stay float32."""
        name = f"{self.name.partition('+')[0]}+{len(keep_float)} float32"
        return replace(self, name=name, keep_float=keep_float)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class SmallModel:
    """A file that a scheme made."""

    content: bytes
    """ONNX."""
    counts: OperatorCounts
    """Read back from the file; as many layers are small as were asked for."""
    calibration_frames: int = 0
    """Output frames that calibration ran."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """What went into the file."""


def apply(
    scheme: Scheme, content: bytes, calibration: Calibration | None = None, properties: Mapping[str, str] | None = None
) -> SmallModel:
    """Make a float32 file smaller.

    Args:
        scheme: how.
        content: the float32 file.
        calibration: recordings; without them static schemes are refused.
        properties: go into the file as ``metadata_props``.

    Raises:
        QuantizationError: the scheme does not fit the graph, needs recordings that are not there, or the file does
            not hold as many small layers as were asked for.
    """
    return _APPLY[scheme.kind](scheme, content, calibration, dict(properties or {}))


def layer_names(scheme: Scheme, content: bytes) -> tuple[str, ...]:
    """Weights, by initializer name, that a scheme would make smaller when it keeps none.

    Raises:
        QuantizationError: there is none.
    """
    if scheme.kind in {"static", "float16"}:
        return tuple(layers(content))
    prepared = prepare_matrices(content)
    nodes = set(matrix_nodes(prepared))
    return tuple(node.input[1] for node in prepared.graph.node if node.name in nodes)


def find_scheme(name: str) -> Scheme:
    """Return a named scheme.

    Raises:
        OptionsError: there is none of that name.
    """
    if name not in SCHEMES:
        raise OptionsError(f"no quantization scheme is called {name!r}; known are {', '.join(SCHEMES)}")
    return SCHEMES[name]


def _static(scheme: Scheme, content: bytes, calibration: Calibration | None, properties: dict[str, str]) -> SmallModel:
    if calibration is None:
        raise QuantizationError(f"{scheme.name} needs recordings to calibrate on, and there is no calibration manifest")
    options = QuantizeOptions(scheme.method, scheme.reduce_range, scheme.activations, scheme.weights, scheme.glue)
    asked = len(layers(content)) - len(scheme.keep_float)
    found = quantize(
        content, calibration.model, calibration, options, properties=properties, keep_float=scheme.keep_float
    )
    return SmallModel(found.content, check_counts(found.content, asked), found.calibration_frames, properties)


def _dynamic(scheme: Scheme, content: bytes, _: Calibration | None, properties: dict[str, str]) -> SmallModel:
    return _finish(*_small_tables(quantize_matrices(prepare_matrices(content), scheme.keep_float)), properties)


def _weight_only(scheme: Scheme, content: bytes, _: Calibration | None, properties: dict[str, str]) -> SmallModel:
    packed = pack_weights(prepare_matrices(content), scheme.bits, scheme.keep_float)
    return _finish(*_small_tables(packed), properties)


def _float16(scheme: Scheme, content: bytes, _: Calibration | None, properties: dict[str, str]) -> SmallModel:
    return _finish(*halve(prepare(content), scheme.keep_float), properties)


def _small_tables(made: tuple[ModelProto, int]) -> tuple[ModelProto, int]:
    store_embeddings(made[0])
    return made


def _finish(model: ModelProto, asked: int, properties: dict[str, str]) -> SmallModel:
    """Shrink what stays float32 without loss that counts, name it, and count what it holds."""
    store_in_16_bits(model, [name for name in arrays(model.graph) if FRONTEND_MARK in name])
    strip(model)
    del model.metadata_props[:]
    helper.set_model_props(model, properties)
    content = model.SerializeToString()
    onnx.checker.check_model(model)
    return SmallModel(content, check_counts(content, asked), properties=properties)


_APPLY: Mapping[Kind, Callable[[Scheme, bytes, Calibration | None, dict[str, str]], SmallModel]] = {
    "static": _static,
    "dynamic": _dynamic,
    "weight_only": _weight_only,
    "float16": _float16,
}


_INTEGERS: tuple[tuple[IntegerName, IntegerName, bool], ...] = (
    ("u8", "s8", False),
    ("s8", "s8", False),
    ("u8", "s8", True),
    ("u8", "u8", False),
)
_METHODS: tuple[CalibrationName, ...] = ("minmax", "percentile", "entropy")


def _known() -> dict[str, Scheme]:
    schemes = []
    for glue, (activations, weights, narrow), method in itertools.product((True, False), _INTEGERS, _METHODS):
        parts = ["static", activations + weights, method, *["7bit"] * narrow, *["all"] * glue]
        schemes.append(Scheme("-".join(parts), "static", method, activations, weights, narrow, glue))
    schemes += [
        Scheme("dynamic", "dynamic"),
        Scheme("weights-8bit", "weight_only", bits=8),
        Scheme("weights-4bit", "weight_only", bits=4),
        Scheme("float16", "float16", bits=16),
    ]
    return {scheme.name: scheme for scheme in schemes}


SCHEMES: Mapping[str, Scheme] = _known()
"""Every scheme by name. ``static-<activations><weights>-<calibration>[-7bit][-all]``: ``all`` is int8 between the
layers, too, otherwise only Conv, MatMul and Gemm."""
