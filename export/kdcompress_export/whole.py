"""A full-context teacher -> float32 ONNX graph that takes whole recordings of any length."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import onnx
import torch

from kdcompress.students.base import Encoded, Student
from kdcompress_export.convert import convert
from kdcompress_export.errors import ExportError
from kdcompress_export.importers.proof import compare_with_origin
from kdcompress_export.importers.surgery import finish
from kdcompress_export.prove import FLOAT
from kdcompress_export.recurrent import replace_recurrent
from kdcompress_export.signature import geometry
from kdcompress_export.whole_graph import drop_cut_paddings, drop_masks, pad_to_frames
from kdcompress_runtime.bundle import BATCH_AXIS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from kdcompress.network import CtcNetwork
    from kdcompress.run import TrainedRun
    from kdcompress_export.streams import Samples
    from kdcompress_runtime.bundle import BundleMetadata, StateSpec
    from kdcompress_runtime.model import CtcModel


class WholeRecordings(Student):
    """A full-context network as a student of one step: the whole recording at once, no states, nothing delayed."""

    def __init__(self, network: CtcNetwork) -> None:
        super().__init__(network.frontend, network.subsampling_factor)
        self.network = network
        self.feature_norm = network.feature_norm

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Nothing is left over when the recording has ended."""
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
        """Answer for whole recordings ``(N, k * units_per_frame)``; the frontend starts from silence."""
        silence = {
            spec.name: inputs.new_full(
                [inputs.shape[0] if size == BATCH_AXIS else int(size) for size in spec.shape], spec.initial
            )
            for spec in self.frontend.state_specs()
        }
        features, _ = self.frontend.step(inputs, silence)
        return self.encode(features, states).log_probs, {}


def whole_recordings(run: TrainedRun) -> WholeRecordings:
    """Return the teacher of a run as one step.

    Raises:
        ExportError: the run holds an Oracle Teacher.
    """
    if run.recipe.model.sees_labels:
        raise ExportError(
            f"{run.folder.path}: holds an Oracle Teacher, which answers only with the reference text at hand, so that "
            "its error rate would mean nothing; export a student that was distilled from it"
        )
    return WholeRecordings(run.network).eval()


def convert_whole(teacher: WholeRecordings, num_tokens: int, metadata: BundleMetadata) -> bytes:
    """Export a teacher as an ONNX file that takes ``(N, samples)``, any number of samples from one on.

    Args:
        teacher: in evaluation mode, on the CPU; not changed.
        num_tokens: size of the vocabulary, for the check of the output.
        metadata: of the bundle, with ``streaming`` false.

    Raises:
        GraphError: torch cannot export it, or what came out is not what was asked for.
    """
    exported = WholeRecordings(replace_recurrent(copy.deepcopy(teacher.network))).eval()
    model = onnx.load_from_string(convert(exported, num_tokens, geometry(metadata, FLOAT)))
    drop_masks(model.graph, metadata.input.name)
    drop_cut_paddings(model.graph)
    pad_to_frames(model.graph, metadata.input)
    return finish(model, metadata, num_tokens)


def check_whole_parity(
    network: CtcNetwork, model: CtcModel, *, atol: float, recordings: Sequence[Samples]
) -> dict[str, Any]:
    """Compare the graph with what the network answers in training and as a teacher, recording for recording.

    Args:
        network: in evaluation mode, on the CPU.
        model: the exported graph, loaded.
        atol: allowed difference of log-probabilities.
        recordings: real audio at the model's rate; each is compared whole and cut to lengths that fill no frame.

    Returns:
        JSON object with every comparison, noise of several lengths and batch sizes included.

    Raises:
        ParityError: naming every comparison beyond ``atol``.
    """
    units = network.units_per_frame
    cut = [samples[:length] for samples in recordings for length in (len(samples) // 2 // units * units + 1, units - 1)]
    return compare_with_origin(model, _answers(network), origin="torch", atol=atol, recordings=[*recordings, *cut])


def _answers(network: CtcNetwork) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def answer(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = torch.from_numpy(inputs)
        lengths = torch.full((samples.shape[0],), samples.shape[1], dtype=torch.int64)
        nothing = torch.zeros(samples.shape[0], 0, dtype=torch.int64)
        with torch.no_grad():
            log_probs = network(
                network.features(samples), network.frame_lens(lengths), nothing, torch.zeros_like(lengths)
            )
        found: NDArray[np.float32] = log_probs.numpy()
        return found

    return answer
