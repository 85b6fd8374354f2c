"""torch student -> float32 ONNX graph, with everything about the file read back and checked."""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import TensorProto, checker, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from kdcompress_export.errors import GraphError
from kdcompress_export.graphs import fix_reshapes, fold_batch_norm, strip
from kdcompress_export.inputs import inputs_for
from kdcompress_export.interrupts import interrupts_held
from kdcompress_export.signature import METADATA_KEY
from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.model import LOG_PROBS, NEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import ModelProto, ValueInfoProto

    from kdcompress.students.base import Student
    from kdcompress_runtime.bundle import InputSpec, StateSpec

OPSET = 18
"""The exporter's own opset; later ones are refused by older runtimes, earlier ones not reached reliably."""
FRAMES_AXIS = "frames"
STUDENT = "student"
"""Where ``StepModule`` keeps the student; the names of weights start with it."""
_EXAMPLE_BATCH, _EXAMPLE_FRAMES = 2, 3  # not 1: torch would take a 1 for a constant


class StepModule(nn.Module):
    """``Student.step`` with states as a flat list, as a graph has them."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student
        self.names = [spec.name for spec in student.state_specs()]

    def forward(self, inputs: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Map input and states to log-probabilities and next states, in order."""
        log_probs, following = self.student.step(inputs, dict(zip(self.names, states, strict=True)))
        return (log_probs, *(following[name] for name in self.names))


def input_spec(student: Student) -> InputSpec:
    """Describe the input of a student's graph."""
    return student.frontend.input_spec(student.subsampling_factor)


def convert(student: Student, num_tokens: int, geometry: Mapping[str, Any]) -> bytes:
    """Export the student as an ONNX file.

    Args:
        student: in evaluation mode, on the CPU; not changed.
        num_tokens: size of the vocabulary, for the check of the output.
        geometry: JSON object that goes into the file under the key ``kdcompress``.

    Raises:
        GraphError: torch cannot export it; or what came out has another opset, name, dtype or dimension than asked,
            or a batch norm left.
    """
    model = _export(student)
    fold_batch_norm(model)
    fix_reshapes(model)
    _name_matrices(model, student)
    _name_axes(model)
    strip(model)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(geometry, ensure_ascii=False, sort_keys=True)})
    check_graph(model, input_spec(student), student.state_specs(), num_tokens)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def check_graph(model: ModelProto, source: InputSpec, states: Sequence[StateSpec], num_tokens: int) -> None:
    """Read opset, operators, names, dtypes and dimensions from the file and compare them with what was asked.

    Raises:
        GraphError: naming everything that differs.
    """
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    problems = [] if opsets == {"ai.onnx": OPSET} else [f"opsets are {opsets}, asked was ai.onnx {OPSET} alone"]
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        problems.append("a BatchNormalization is left that no convolution absorbs")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        problems.append("weights lie outside the file")
    fed = inputs_for(source)
    inputs = [(source.name, (None, None, *fed.trailing), fed.dtype), *((s.name, _shape(s), s.dtype) for s in states)]
    outputs = [
        (LOG_PROBS, (None, None, num_tokens), "float32"),
        *((NEXT + s.name, _shape(s), s.dtype) for s in states),
    ]
    problems += _differences("input", model.graph.input, inputs)
    problems += _differences("output", model.graph.output, outputs)
    if problems:
        raise GraphError(f"the exported graph is not the one asked for: {'; '.join(problems)}")


def _shape(state: StateSpec) -> tuple[int | None, ...]:
    return tuple(None if size == BATCH_AXIS else int(size) for size in state.shape)


def _differences(
    kind: str, found: Sequence[ValueInfoProto], asked: Sequence[tuple[str, tuple[int | None, ...], str]]
) -> list[str]:
    names = [value.name for value in found]
    if names != [name for name, _, _ in asked]:
        return [f"{kind}s are {names}, asked were {[name for name, _, _ in asked]}"]
    problems = []
    for value, (name, shape, dtype) in zip(found, asked, strict=True):
        tensor = value.type.tensor_type
        actual = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        if actual != dtype:
            problems.append(f"{kind} {name} is {actual}, not {dtype}")
        sizes = [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]
        if len(sizes) != len(shape):
            problems.append(f"{kind} {name} has {len(sizes)} axes, not {len(shape)}")
            continue
        for axis, (size, wanted) in enumerate(zip(sizes, shape, strict=True)):
            if wanted is None and size is not None:
                problems.append(f"{kind} {name} is fixed to {size} on axis {axis}, which was to be dynamic")
            elif wanted is not None and size != wanted:
                problems.append(f"{kind} {name} has {size or 'any size'} on axis {axis}, not {wanted}")
    return problems


def _export(student: Student) -> ModelProto:
    module = StepModule(student).eval()
    units, source = student.units_per_frame, input_spec(student)
    fed, states = inputs_for(source), student.init_states(_EXAMPLE_BATCH)
    size = (_EXAMPLE_BATCH, _EXAMPLE_FRAMES * units, *fed.trailing)
    example = torch.zeros(size, dtype=getattr(torch, fed.dtype))
    batch, frames = Dim(BATCH_AXIS, min=1), Dim(FRAMES_AXIS, min=1)
    axes = tuple({spec.shape.index(BATCH_AXIS): batch} for spec in student.state_specs())
    shapes = {0: batch, 1: units * frames if units > 1 else frames}
    try:
        # Interrupted in the middle, torch's exporter takes Ctrl-C for an error of its own and prints a page.
        with interrupts_held(), quiet_exporter():
            program = torch.onnx.export(
                module,
                (example, *(states[name] for name in module.names)),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[source.name, *module.names],
                output_names=[LOG_PROBS, *(NEXT + name for name in module.names)],
                dynamic_shapes=(shapes, axes) if axes else (shapes,),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        raise GraphError(f"torch cannot export this student ({cause}); see docs/add-a-student.md") from error
    if program is None:
        raise GraphError("torch.onnx.export gave no program; export with another version of torch")
    model: ModelProto = onnx.load_from_string(program.model_proto.SerializeToString())
    return model


def _name_matrices(model: ModelProto, student: Student) -> None:
    """Give the weight of a linear layer its name back, which it loses when the exporter transposes it."""
    names = {
        (tuple(weight.T.shape), weight.T.contiguous().numpy().tobytes()): f"{STUDENT}.{name}"
        for name, weight in student.state_dict().items()
        if weight.ndim == 2
    }
    renamed = {}
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2 and "." not in tensor.name:
            content = numpy_helper.to_array(tensor)
            name = names.pop((content.shape, content.tobytes()), None)
            if name is not None:
                renamed[tensor.name] = name
                tensor.name = name
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _name_axes(model: ModelProto) -> None:
    """Give the output's axes the names a reader expects; the exporter invents some (``s76``)."""
    for value in model.graph.output:
        if value.name == LOG_PROBS:
            for axis, name in zip(value.type.tensor_type.shape.dim, (BATCH_AXIS, FRAMES_AXIS), strict=False):
                if axis.dim_param:
                    axis.dim_param = name


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's chatter (missing torchvision, its own deprecations) from the user; errors pass."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
