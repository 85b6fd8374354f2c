"""A full-context network -> float32 ONNX graph that takes whole inputs of any length."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import onnx
import torch

from kdcompress.students.base import Encoded, Student
from kdcompress_export.attention import replace_attention
from kdcompress_export.convert import convert
from kdcompress_export.errors import ExportError
from kdcompress_export.importers.proof import compare_with_origin
from kdcompress_export.importers.surgery import finish
from kdcompress_export.prove import FLOAT
from kdcompress_export.recurrent import replace_recurrent
from kdcompress_export.signature import geometry
from kdcompress_export.whole_graph import drop_cut_paddings, drop_masks, embed_ids, pad_to_frames
from kdcompress_runtime.bundle import BATCH_AXIS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.network import CtcNetwork
    from kdcompress.run import TrainedRun
    from kdcompress_export.inputs import Units
    from kdcompress_runtime.bundle import BundleMetadata, StateSpec
    from kdcompress_runtime.model import CtcModel


class WholeInputs(Student):
    """A full-context network as a student of one step: the whole input at once, no states, nothing delayed."""

    def __init__(self, network: CtcNetwork) -> None:
        super().__init__(network.frontend, network.subsampling_factor)
        self.network = network
        self.feature_norm = network.feature_norm

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Nothing is left over when the input has ended."""
        return ()

    def encoder_state_specs(self) -> tuple[StateSpec, ...]:
        """See ``state_specs``."""
        return ()

    def encode(self, features: Tensor, states: dict[str, Tensor]) -> Encoded:  # noqa: ARG002
        """Ask the network about items that are all as long as the batch, without a reference text."""
        items = features.shape[0]
        frame_lens = features.new_full((items,), features.shape[1] // self.subsampling_factor, dtype=torch.int64)
        labels = features.new_zeros((items, 0), dtype=torch.int64)
        return Encoded(self.network(features, frame_lens, labels, torch.zeros_like(frame_lens)), {})

    def step(self, inputs: Tensor, states: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Answer for whole inputs ``(N, k * units_per_frame, ...)``; a frontend with states starts from silence."""
        silence = {
            spec.name: inputs.new_full(
                [inputs.shape[0] if size == BATCH_AXIS else int(size) for size in spec.shape], spec.initial
            )
            for spec in self.frontend.state_specs()
        }
        features, _ = self.frontend.step(inputs, silence)
        return self.encode(features, states).log_probs, {}


def whole_inputs(run: TrainedRun) -> WholeInputs:
    """Return the full-context network of a run as one step.

    Raises:
        ExportError: the run holds an Oracle Teacher.
    """
    if run.recipe.model.sees_labels:
        raise ExportError(
            f"{run.folder.path}: holds an Oracle Teacher, which answers only with the reference text at hand, so that "
            "its error rate would mean nothing; export a student that was distilled from it"
        )
    return WholeInputs(run.network).eval()


def convert_whole(whole: WholeInputs, num_tokens: int, metadata: BundleMetadata) -> bytes:
    """Export a network as an ONNX file that takes ``(N, units, ...)``, any number of units from one on.

    Args:
        whole: in evaluation mode, on the CPU; not changed.
        num_tokens: size of the vocabulary, for the check of the output.
        metadata: of the bundle, with ``streaming`` false.

    Raises:
        GraphError: torch cannot export it, or what came out is not what was asked for.
    """
    exported = WholeInputs(replace_attention(replace_recurrent(copy.deepcopy(whole.network)))).eval()
    model = onnx.load_from_string(convert(exported, num_tokens, geometry(metadata, FLOAT)))
    drop_masks(model.graph, metadata.input.name)
    drop_cut_paddings(model.graph)
    if whole.frontend.symbols is not None:
        embed_ids(model.graph, metadata.input.name)
    pad_to_frames(model.graph, metadata.input)
    return finish(model, metadata, num_tokens)


def check_whole_parity(
    network: CtcNetwork, model: CtcModel, *, atol: float, recordings: Sequence[Units]
) -> dict[str, Any]:
    """Compare the graph with what the network answers in training and as a teacher, input for input.

    Args:
        network: in evaluation mode, on the CPU.
        model: the exported graph, loaded.
        atol: allowed difference of log-probabilities.
        recordings: real inputs, ``(units, ...)`` each, compared whole and cut to lengths that fill no frame.

    Returns:
        JSON object with every comparison, made-up ones of several lengths and batch sizes included.

    Raises:
        ParityError: naming every comparison beyond ``atol``.
    """
    units = network.units_per_frame
    cut = [one[: max(1, length)] for one in recordings for length in (len(one) // 2 // units * units + 1, units - 1)]
    return compare_with_origin(model, _answers(network), origin="torch", atol=atol, recordings=[*recordings, *cut])


def _answers(network: CtcNetwork) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    def answer(inputs: NDArray[Any]) -> NDArray[np.float32]:
        units = torch.from_numpy(inputs)
        lengths = torch.full((units.shape[0],), units.shape[1], dtype=torch.int64)
        nothing = torch.zeros(units.shape[0], 0, dtype=torch.int64)
        with torch.no_grad():
            log_probs = network(
                network.features(units), network.frame_lens(lengths), nothing, torch.zeros_like(lengths)
            )
        found: NDArray[np.float32] = log_probs.numpy()
        return found

    return answer
