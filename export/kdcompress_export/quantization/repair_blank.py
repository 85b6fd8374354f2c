"""Repair: a constant taken from the blank's logit, tuned on dev. Deletions are how int8 CTC models usually fail.

icefall#2003 cures most of a doubled error rate this way while decoding; here the constant goes into the graph, before
the log-softmax, so that every runtime has it and the outputs are still log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jiwer
import numpy as np
import onnx
from onnx import helper

from kdcompress_export.errors import QuantizationError
from kdcompress_export.graphs import arrays, consumers, producers, set_array
from kdcompress_export.inputs import inputs_of
from kdcompress_export.quantization.repairs import Repair
from kdcompress_export.streams import run_pieces
from kdcompress_runtime.manifest import read_manifest
from kdcompress_runtime.model import LOG_PROBS, CtcModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import GraphProto

    from kdcompress_export.quantization.calibration import Calibration
    from kdcompress_runtime.vocabulary import Vocabulary

PENALTIES = tuple(np.arange(0, 3.01, 0.25).tolist())
"""What is tried; nothing is added to the blank, since insertions are no known failure."""
_BIAS_OPERATORS = ("Add", "Sum")


@dataclass(frozen=True)
class BlankTuned:
    """A file with its blank penalty, and what dev said to each."""

    content: bytes
    """ONNX; the file that came in where the penalty is 0."""
    penalty: float
    """Taken from the blank's logit."""
    errors: dict[float, int]
    """Word errors on dev for each penalty."""
    deletions: dict[float, int]
    """Words left out on dev for each penalty."""


def tune_blank(small: bytes, model: CtcModel, dev: Path, penalties: Sequence[float] = PENALTIES) -> BlankTuned:
    """Choose the penalty with the fewest word errors on ``dev``, the smallest of equals, and put it into the file.

    Args:
        small: the quantized file.
        model: another file of the same bundle; gives vocabulary and geometry.
        dev: manifest; never that of a test, and what is measured on it afterwards has been tuned on it.
        penalties: to try, greedily decoded; without 0 among them it is added.

    Raises:
        ManifestError, AudioError: dev cannot be read.
        QuantizationError: the graph has no log-probabilities to change.
    """
    answers = CtcModel(small, model.metadata, model.vocabulary, source_table=model.source_table)
    entries = list(read_manifest(dev))
    said = [run_pieces(answers, one) for one in inputs_of(model).read_all(entries)]
    references = [" ".join(entry.text.split()) for entry in entries]
    tried = sorted({0.0, *penalties}, key=abs)
    counts = {penalty: count(said, references, model.vocabulary, penalty) for penalty in tried}
    best = min(tried, key=lambda penalty: counts[penalty][0])
    content = with_blank_penalty(small, model.vocabulary.blank_id, best) if best else small
    errors = {penalty: found for penalty, (found, _) in counts.items()}
    return BlankTuned(content, best, errors, {penalty: found for penalty, (_, found) in counts.items()})


def blank_repair(dev: Path) -> Repair:
    """Repair that tunes the blank penalty of a quantized file on ``dev``."""

    def after(content: bytes, quantized: bytes, calibration: Calibration) -> bytes:
        del content
        return tune_blank(quantized, calibration.model, dev).content

    return Repair("blank penalty", after=after, kinds=("static", "dynamic", "weight_only"))


def count(
    said: Iterable[NDArray[np.float32]], references: Iterable[str], vocabulary: Vocabulary, penalty: float
) -> tuple[int, int]:
    """Word errors, and deletions among them, of greedy decoding with a penalty on the blank.

    Args:
        said: log-probabilities ``(T, C)`` of each item; normalising them again would not change the best labels.
        references: what was said.
        vocabulary: of the model.
        penalty: taken from the blank.
    """
    errors = deletions = 0
    for log_probs, reference in zip(said, references, strict=True):
        shifted = log_probs.copy()
        shifted[:, vocabulary.blank_id] -= penalty
        labels = shifted.argmax(axis=1)
        changes = np.flatnonzero(np.diff(labels, prepend=-1))
        text = vocabulary.text(index for index in labels[changes].tolist() if index != vocabulary.blank_id)
        counts = jiwer.process_words(reference, text)
        errors += counts.substitutions + counts.deletions + counts.insertions
        deletions += counts.deletions
    return errors, deletions


def with_blank_penalty(content: bytes, blank_id: int, penalty: float) -> bytes:
    """Take ``penalty`` from the blank's logit: in the head's float32 bias where there is one, else by one more Sum.

    Raises:
        QuantizationError: no node writes the log-probabilities.
    """
    model = onnx.load_from_string(content)
    graph = model.graph
    size = next((v.type.tensor_type.shape.dim[-1].dim_value for v in graph.output if v.name == LOG_PROBS), 0)
    softmax = producers(graph).get(LOG_PROBS)
    if softmax is None or not size:
        raise QuantizationError(f"no node of the graph writes {LOG_PROBS!r} of a known size")
    shift = np.zeros(size, dtype=np.float32)
    shift[blank_id] = -penalty
    if softmax.op_type != "LogSoftmax":
        _normalise_again(graph, shift)
    elif not _into_bias(graph, softmax.input[0], shift):
        set_array(graph, "blank_penalty", shift)
        place = next(index for index, node in enumerate(graph.node) if LOG_PROBS in node.output)
        added = helper.make_node("Sum", [softmax.input[0], "blank_penalty"], ["penalised_logits"], "blank_penalty")
        graph.node.insert(place, added)
        softmax = producers(graph)[LOG_PROBS]
        softmax.input[0] = "penalised_logits"
    changed: bytes = model.SerializeToString()
    return changed


def _into_bias(graph: GraphProto, logits: str, shift: NDArray[np.float32]) -> bool:
    """Change the bias that is added last before ``logits``; False where none is found."""
    written, read, values = producers(graph), consumers(graph), arrays(graph)
    node = written.get(logits)
    while node is not None and node.op_type == "Transpose" and len(read[node.output[0]]) == 1:
        node = written.get(node.input[0])
    if node is None or len(read[node.output[0]]) != 1:
        return False
    places = range(len(node.input)) if node.op_type in _BIAS_OPERATORS else (2,) if node.op_type == "Conv" else ()
    for place in places:
        bias = values.get(node.input[place]) if place < len(node.input) else None
        if bias is not None and bias.dtype == np.float32 and bias.shape == shift.shape:
            # A copy: the same numbers may serve elsewhere, too.
            name = "penalised_bias"
            set_array(graph, name, np.add(bias, shift, dtype=np.float32))
            old = node.input[place]
            node.input[place] = name
            if not any(old in other.input for other in graph.node):
                graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == old))
            return True
    return False


def _normalise_again(graph: GraphProto, shift: NDArray[np.float32]) -> None:
    """Where the graph ends in something else than a log-softmax, put one behind it."""
    last = producers(graph)[LOG_PROBS]
    readers = consumers(graph).get(LOG_PROBS, [])
    for node in [last, *readers]:
        for names in (node.input, node.output):
            names[:] = ["unpenalised" if name == LOG_PROBS else name for name in names]
    set_array(graph, "blank_penalty", shift)
    graph.node.append(helper.make_node("Sum", ["unpenalised", "blank_penalty"], ["penalised_logits"], "blank_penalty"))
    graph.node.append(helper.make_node("LogSoftmax", ["penalised_logits"], [LOG_PROBS], "log_probs", axis=-1))
