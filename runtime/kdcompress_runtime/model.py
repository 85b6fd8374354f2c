"""The model: one pure ``step`` over a graph, or one answer to a whole input. It knows frames and states, not audio."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

from kdcompress_runtime.bundle import BATCH_AXIS
from kdcompress_runtime.errors import ForkedProcessError, ModelError, OptionsError
from kdcompress_runtime.forks import keep_after_fork
from kdcompress_runtime.input_kinds import KINDS, axes_of
from kdcompress_runtime.onnx_guard import refuse_external_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kdcompress_runtime.bundle import Bundle, BundleMetadata
    from kdcompress_runtime.source_text import SourceTable
    from kdcompress_runtime.vocabulary import Vocabulary

LOG_PROBS = "log_probs"
"""Name of the graph's first output."""
NEXT = "next_"
"""A state called ``s`` comes back as ``next_s``."""
_ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(error for error in vars(_ort).values() if isinstance(error, type) and issubclass(error, Exception)),
)
_ORT_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
_ORT_FATAL = 4
_OUTPUT_AXES = 3
GRAPH_OPTIMIZATIONS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
"""How far onnxruntime may rewrite a graph when it loads it."""
_DYNAMIC_RANGE = b"DynamicQuantize"
"""Begins the names of all operators whose range is that of the whole batch."""


@dataclass(frozen=True)
class SessionOptions:
    """How onnxruntime runs the graph; the defaults suit an app that has other work to do.

    Raises:
        OptionsError: a number of threads is negative, the graph optimisation is unknown, or ``config`` does not map
            texts to texts.
    """

    intra_op_threads: int = 1
    """Threads inside one operator; 0 lets onnxruntime choose."""
    inter_op_threads: int = 1
    """Threads over operators; used by parallel execution only."""
    allow_spinning: bool = False
    """Let waiting threads burn CPU for a little latency."""
    enable_cpu_mem_arena: bool | None = None
    """Keep freed memory for the next step. None: for models that stream, whose steps have a longest one; not for those
    that take whole inputs, where the longest ever seen would stay."""
    enable_mem_pattern: bool | None = None
    """Plan the memory of each input shape seen. None: as for the arena."""
    graph_optimization: str = "all"
    """A key of ``GRAPH_OPTIMIZATIONS``; less loads sooner and runs slower."""
    config: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Further entries of onnxruntime's session configuration, ``{"session.set_denormal_as_zero": "1"}``; they win
    over what is set here. onnxruntime ignores keys that it does not know."""

    def __post_init__(self) -> None:
        for name in ("intra_op_threads", "inter_op_threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise OptionsError(f"{name} must be an integer of at least 0, found {value!r}")
        if self.graph_optimization not in GRAPH_OPTIMIZATIONS:
            raise OptionsError(
                f"graph_optimization {self.graph_optimization!r} is unknown; "
                f"choose one of {', '.join(GRAPH_OPTIMIZATIONS)}"
            )
        try:
            entries = dict(self.config)
        except (TypeError, ValueError) as error:
            raise OptionsError(f"config must map texts to texts, found {self.config!r}") from error
        for key, value in entries.items():
            if not isinstance(key, str) or not key or not isinstance(value, str):
                raise OptionsError(f"config must map texts to texts, found {key!r}: {value!r}")
        object.__setattr__(self, "config", entries)  # a copy: the caller's may change

    @property
    def uses_threads(self) -> bool:
        """Whether onnxruntime starts threads of its own, which do not survive a fork."""
        return self.intra_op_threads != 1

    def build(self, *, streaming: bool = False) -> Any:  # noqa: ANN401 - onnxruntime has no types
        """Return the ``onnxruntime.SessionOptions`` that say the same; what is None depends on ``streaming``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.intra_op_threads
        options.inter_op_num_threads = self.inter_op_threads
        arena, pattern = self.enable_cpu_mem_arena, self.enable_mem_pattern
        options.enable_cpu_mem_arena = streaming if arena is None else arena
        options.enable_mem_pattern = streaming if pattern is None else pattern
        # Every failure is raised as an exception; a library prints nothing beside it.
        options.log_severity_level = _ORT_FATAL
        spinning = "1" if self.allow_spinning else "0"
        options.graph_optimization_level = GRAPH_OPTIMIZATIONS[self.graph_optimization]
        entries = {"session.intra_op.allow_spinning": spinning, "session.inter_op.allow_spinning": spinning}
        try:
            for key, value in {**entries, **self.config}.items():
                options.add_session_config_entry(key, value)
        except _ORT_ERRORS as error:
            raise OptionsError(f"onnxruntime refuses config {key!r}: {value!r} ({_first_line(error)})") from error
        return options


class CtcModel:
    """A loaded model. Stateless and thread-safe: what a stream remembers is given and returned."""

    def __init__(
        self,
        content: bytes,
        metadata: BundleMetadata,
        vocabulary: Vocabulary,
        *,
        source: str = "model",
        session_options: SessionOptions | None = None,
        source_table: SourceTable | None = None,
    ) -> None:
        """Load a graph and compare it with ``metadata``; ``from_bundle`` is the usual way.

        Args:
            content: an ONNX file, or one in onnxruntime's own format (``.ort``); the bytes tell.
            metadata: what the graph takes and returns.
            vocabulary: its token table.
            source: name of the file, for messages.
            session_options: threads and memory of onnxruntime.
            source_table: the table of source tokens, where the graph takes them; only text needs it.

        Raises:
            ExternalDataError: the graph asks for data outside of the file.
            ModelError: onnxruntime refuses the graph, or it is not the one that ``metadata`` describes.
            OptionsError: onnxruntime refuses an entry of ``session_options.config``.
        """
        self.metadata = metadata
        self.vocabulary = vocabulary
        self.source_table = source_table
        self._source = source
        refuse_external_data(content, source)
        options = session_options or SessionOptions()
        self._process = os.getpid()
        self._uses_threads = options.uses_threads
        self._axes = (BATCH_AXIS, *axes_of(metadata.input))
        self._dtype = np.dtype(KINDS[metadata.input.kind].dtype)
        built = options.build(streaming=metadata.streaming)
        try:
            self._session = onnxruntime.InferenceSession(content, built, providers=["CPUExecutionProvider"])
        except _ORT_ERRORS as error:
            raise ModelError(
                f"{source}: onnxruntime {onnxruntime.__version__} cannot load it "
                f"({_first_line(error)}); export the bundle again"
            ) from error
        if self._uses_threads:
            keep_after_fork(self._session)
        self._outputs = [LOG_PROBS, *(NEXT + state.name for state in metadata.states)]
        self._check_graph()
        rows = next(one.shape[0] for one in self._session.get_inputs() if one.name == metadata.input.name)
        self._rows_apart = _DYNAMIC_RANGE not in content and not isinstance(rows, int)

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, precision: str | None = None, session_options: SessionOptions | None = None
    ) -> CtcModel:
        """Load the model of ``precision`` (the bundle's default when left out).

        Raises:
            BundleError: no such precision, the file is missing or does not have its hash.
            ModelError: onnxruntime refuses the graph, or it is not the one that ``bundle.json`` describes.
        """
        file = bundle.metadata.model_file(precision).file
        return cls(
            bundle.read(file),
            bundle.metadata,
            bundle.vocabulary,
            source=f"{bundle.path}/{file}",
            session_options=session_options,
            source_table=bundle.source_table,
        )

    @property
    def embedded(self) -> dict[str, str]:
        """The texts that were written into the model file (``metadata_props``), by key."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def batchable(self) -> bool:
        """Whether several streams may be stepped in one call and answer as they would alone.

        False for models that take whole inputs, whose lengths differ, and where ``rows_apart`` is False.
        """
        return self.metadata.streaming and self._rows_apart

    @property
    def rows_apart(self) -> bool:
        """Whether inputs of equal length may share a call and are answered as they would be alone.

        False for models quantized dynamically: those take one range for all that a call is given, so each row would
        hear the others; and for graphs that take one row alone.
        """
        return self._rows_apart

    def init_states(self, batch: int = 1) -> dict[str, NDArray[Any]]:
        """States at the start of ``batch`` streams, by name; shapes as in ``metadata.states``."""
        return {
            state.name: np.full(
                [batch if size == BATCH_AXIS else int(size) for size in state.shape],
                state.initial,
                dtype=state.dtype,
            )
            for state in self.metadata.states
        }

    def step(
        self, inputs: NDArray[Any], states: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Advance ``N`` streams by ``k`` frames; or, when the model does not stream, run ``N`` whole inputs.

        Args:
            inputs: units along the second axis; dtype and shape as ``InputSpec.kind`` has them. ``k *
                units_per_frame`` units, ``k`` at least 1; at least ``min_units`` when the model does not stream.
            states: from ``init_states`` or from the step before; not changed. None when the model does not stream.

        Returns:
            Natural-log probabilities, float32, shape ``(N, k, C)``, or ``(N, T, C)`` with ``T`` as the graph decides
            when the model does not stream; and the next states.

        Raises:
            ModelError: a shape or dtype does not fit, onnxruntime fails, or the output is not a number.
            ForkedProcessError: the process was forked since the model was loaded, and onnxruntime's threads with it.
        """
        self._check_process()
        self._check_units(inputs)
        feed = {self.metadata.input.name: inputs, **states}
        try:
            log_probs, *following = self._session.run(self._outputs, feed)
        except _ORT_ERRORS as error:
            raise ModelError(f"{self._source}: the step failed ({_first_line(error)})") from error
        self._check_shape(log_probs, inputs)
        if math.isnan(log_probs.max(initial=-math.inf)):  # NaN comes through
            raise ModelError(f"{self._source}: log_probs holds NaN; the model is damaged or overflows")
        names = [state.name for state in self.metadata.states]
        return log_probs, dict(zip(names, following, strict=True))

    def _check_process(self) -> None:
        """Refuse to wait for threads that a fork left behind; without threads of its own a session survives it."""
        if self._uses_threads and os.getpid() != self._process:
            raise ForkedProcessError(
                f"{self._source} was loaded with threads before this process was forked, and threads do not survive "
                "a fork; open the bundle in the child, start it with 'spawn', or use "
                "SessionOptions(intra_op_threads=1)"
            )

    def _check_units(self, inputs: NDArray[Any]) -> None:
        """Refuse an input that is not of the shape and dtype that a step takes."""
        source, column = self.metadata.input, self._axes[2:]
        fits = inputs.dtype == self._dtype and inputs.ndim == len(self._axes) and inputs.shape[2:] == column
        count = inputs.shape[1] if fits else 0
        if not self.metadata.streaming and count < source.min_units:
            units, least = "n", f"n >= {source.min_units}"
        elif self.metadata.streaming and (not count or count % source.units_per_frame):
            units, least = f"k * {source.units_per_frame}", "k >= 1"
        else:
            return
        takes = f"({', '.join(map(str, (BATCH_AXIS, units, *column)))}) with {least}"
        raise ModelError(
            f"{self._source}: input of shape {inputs.shape}, {inputs.dtype}; a step takes {takes}, {self._dtype}"
        )

    def _check_shape(self, log_probs: NDArray[Any], inputs: NDArray[Any]) -> None:
        """Refuse an answer that is not one row for each frame; a model that does not stream decides how many."""
        frames: int | str = "T"
        if self.metadata.streaming:
            frames = inputs.shape[1] // self.metadata.input.units_per_frame
        elif log_probs.ndim == _OUTPUT_AXES:
            frames = log_probs.shape[1]
        expected = (inputs.shape[0], frames, len(self.vocabulary))
        if log_probs.shape != expected:
            raise ModelError(
                f"{self._source}: log_probs has shape {log_probs.shape}, bundle.json and tokens.txt "
                f"promise ({', '.join(map(str, expected))}); export the bundle again"
            )

    def _check_graph(self) -> None:
        """Compare names, dtypes and ranks of the graph with the metadata."""
        found_inputs = {value.name: value for value in self._session.get_inputs()}
        found_outputs = {value.name: value for value in self._session.get_outputs()}
        states = {state.name: (state.dtype, state.shape) for state in self.metadata.states}
        inputs = {self.metadata.input.name: (str(self._dtype), self._axes), **states}
        outputs = {
            LOG_PROBS: ("float32", (BATCH_AXIS, "frames", len(self.vocabulary))),
            **{NEXT + name: spec for name, spec in states.items()},
        }
        problems = [*_compare("input", inputs, found_inputs), *_compare("output", outputs, found_outputs)]
        if problems:
            raise ModelError(
                f"{self._source} is not the graph that bundle.json describes: {'; '.join(problems)}; "
                "export the bundle again"
            )


def _compare(
    kind: str, expected: Mapping[str, tuple[str, tuple[int | str, ...]]], found: Mapping[str, Any]
) -> list[str]:
    """What is wrong with the graph's inputs or outputs, in words."""
    problems = [f"no {kind} {name!r}" for name in expected if name not in found]
    problems += [f"unknown {kind} {name!r}" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        dtype, shape = expected[name]
        value = found[name]
        actual = _ORT_DTYPES.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
        if actual != dtype:
            problems.append(f"{kind} {name!r} is {actual}, not {dtype}")
        # A symbolic dimension may turn out to be anything; two integers must agree.
        fits = len(value.shape) == len(shape) and all(
            one == other
            for one, other in zip(value.shape, shape, strict=True)
            if isinstance(one, int) and isinstance(other, int)
        )
        if not fits:
            problems.append(f"{kind} {name!r} has shape {value.shape}, not {list(shape)}")
    return sorted(problems)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
