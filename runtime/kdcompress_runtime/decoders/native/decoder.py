"""The beam search in the compiled core: the same answers as ``decoders/beam.py``, many times as fast."""

from __future__ import annotations

import ctypes
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress_runtime.decoders.base import Hypothesis, check_frames
from kdcompress_runtime.decoders.beam import FORGET_EVERY, HISTORY
from kdcompress_runtime.decoders.native import library
from kdcompress_runtime.decoders.native.tables import FusionTables
from kdcompress_runtime.errors import OptionsError, PicklingRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from numpy.typing import NDArray

    from kdcompress_runtime.decoders.fusion import Fusion

_MOST_BEAMS = 1 << 30
_COUNTS = struct.Struct("=24xii")
"""Beams and nodes, where a block begins."""


@dataclass(frozen=True, eq=False)
class _Settled:
    """Tokens that became history in one call, and a link to those before; shared between states, never copied."""

    before: _Settled | None
    count: int
    """Tokens here and before."""
    nodes: NDArray[np.void]
    """Tokens here, oldest first; dtype ``library.NODE``."""


@dataclass(frozen=True, eq=False)
class NativeBeamState:
    """What is known after ``frame`` frames. A value like any other: it may be kept, copied, pickled."""

    frame: int
    """Frames seen."""
    block: bytes
    """Prefixes alive, as the compiled core keeps them; checked each time before it is used."""
    settled: _Settled | None
    """Leading tokens that all alignments share, out of the search's way."""


class NativeBeamDecoder:
    """``BeamDecoder`` in the compiled core; options, hypotheses and scores are the same."""

    def __init__(
        self,
        classes: int,
        blank_id: int,
        *,
        beam_width: int = 16,
        beam_prune_logp: float = -10.0,
        token_min_logp: float = -5.0,
        blank_penalty: float = 0.0,
        blank_skip: float = 1.0,
        fusion: Fusion | None = None,
    ) -> None:
        """Build the decoder; options as for ``BeamDecoder``.

        Raises:
            MissingDependencyError: the compiled core is not there.
            OptionsError: the language model looks further back than the core does.
        """
        self._library = library.load()
        self._classes = classes
        self._width = min(beam_width, _MOST_BEAMS)
        self._fusion = fusion
        self._tables = library.Tables(
            classes=classes,
            blank=blank_id,
            width=self._width,
            history=HISTORY,
            forget_every=FORGET_EVERY,
            prune=beam_prune_logp,
            floor=token_min_logp,
            penalty=blank_penalty,
            quiet=math.log(blank_skip) if blank_skip < 1 else math.inf,
        )
        active = fusion is not None and fusion.active
        self._fusion_tables = FusionTables(self._tables, fusion) if fusion is not None and active else None
        self._arguments = (classes, blank_id, beam_width, beam_prune_logp, token_min_logp, blank_penalty, blank_skip)

    def init_state(self) -> NativeBeamState:
        """State before the first frame: the empty prefix."""
        work = self._work(1, 1, 1)
        size = self._library.kd_start(self._tables, work.ctypes.data)
        return NativeBeamState(0, work[:size].tobytes(), None)

    def advance(self, state: NativeBeamState, log_probs: NDArray[np.float32]) -> NativeBeamState:
        """State after ``log_probs`` of shape ``(T, C)``.

        Raises:
            OptionsError: the shape is not ``(T, C)``, a score is NaN or +infinity, or the state is not one of this
                decoder's.
        """
        check_frames(log_probs, self._classes)
        if not len(log_probs):
            return state
        scores = np.ascontiguousarray(log_probs, np.float32 if log_probs.dtype == np.float32 else np.float64)
        beams, nodes = _counts(state.block)
        room = (min(self._width, beams + 64), 2 * nodes + 512, 8 * min(self._width, 4 * beams + 64))
        frame, block, settled, done = state.frame, state.block, state.settled, 0
        report = library.Report()
        while done < len(scores):
            work = self._work(*room)
            status = self._library.kd_advance(
                self._tables,
                block,
                len(block),
                work.ctypes.data,
                *room,
                scores[done:].ctypes.data,
                scores.dtype == np.float64,
                len(scores) - done,
                frame + done,
                report,
            )
            if status < 0:
                raise self._error(status)
            done += report.frames
            block = work[: report.size].tobytes()
            settled = _settle(settled, work, report)
            if status == library.GROW:
                beams, nodes = _counts(block)
                wanted = (report.beams_wanted, report.nodes_wanted + 2 * nodes, report.ranks_wanted)
                room = tuple(max(old, 2 * new) for old, new in zip(room, wanted, strict=True))
        return NativeBeamState(frame + done, block, settled)

    def best(self, state: NativeBeamState, *, final: bool = True) -> Hypothesis:
        """The best hypothesis, with the times of its best alignment."""
        return self.nbest(state, 1, final=final)[0]

    def nbest(self, state: NativeBeamState, count: int, *, final: bool = True) -> tuple[Hypothesis, ...]:
        """Up to ``count`` different prefixes, best first.

        Raises:
            OptionsError: the state is not one of this decoder's.
        """
        if count < 1:
            return ()
        beams, nodes = _counts(state.block)
        count = min(count, beams)
        work = self._work(beams, nodes, library.RANKS_A_BEAM * beams)
        found = np.empty(count, library.FOUND)
        tokens = np.empty((nodes + 1) * min(count, 16), library.NODE)
        total = ctypes.c_int64()
        while True:
            made = self._library.kd_nbest(
                self._tables,
                state.block,
                len(state.block),
                work.ctypes.data,
                beams,
                nodes,
                state.frame,
                final,
                count,
                found.ctypes.data,
                tokens.ctypes.data,
                len(tokens),
                total,
            )
            if made < 0:
                raise self._error(made)
            if total.value <= len(tokens):
                hypotheses = _hypotheses(found[:made], tokens, state.settled)
                return self._fusion.only_words(hypotheses) if final and self._fusion is not None else hypotheses
            tokens = np.empty(total.value, library.NODE)

    def stable_count(self, state: NativeBeamState) -> int:
        """How many leading tokens all alignments share with the frames at which they begin.

        Raises:
            OptionsError: the state is not one of this decoder's.
        """
        beams, nodes = _counts(state.block)
        work = self._work(beams, nodes + 2 * beams, 1)
        count = self._library.kd_stable(self._tables, state.block, len(state.block), work.ctypes.data, beams, nodes)
        if count < 0:
            raise self._error(count)
        return int(count) + (state.settled.count if state.settled is not None else 0)

    def with_hotwords(self, hotwords: Mapping[str, float]) -> NativeBeamDecoder:
        """The same decoder with these phrases boosted, in place of any before; shares all that is large.

        Args:
            hotwords: phrase -> nats for each of its letters; none gives this decoder itself.

        Raises:
            OptionsError: a phrase cannot be spelt, a weight is not finite, or the decoder was built without
                ``fusion`` and does not know how tokens are spelt.
        """
        if not hotwords:
            return self
        if self._fusion is None:
            raise OptionsError("hotwords need the spelling of the tokens; build the decoder with build_decoder()")
        return _build(self._arguments, self._fusion.with_hotwords(hotwords))

    def __reduce__(self) -> NoReturn:
        raise PicklingRefusedError("a decoder lives in one process; call build_decoder() in the other one, too")

    def _work(self, beams: int, nodes: int, ranks: int) -> NDArray[np.uint8]:
        return np.empty(self._library.kd_work_size(self._tables, beams, nodes, ranks), np.uint8)

    def _error(self, status: int) -> BaseException:
        if status == library.BAD_SCORES:
            return OptionsError("log_probs hold NaN or +infinity; log-probabilities are at most 0")
        if status == library.LM_FAILED:
            failure = self._fusion_tables.failure() if self._fusion_tables is not None else None
            return failure or OptionsError("the language model gave NaN for a word")
        return OptionsError("the state is damaged, or of a decoder with another vocabulary, model or hotwords")


def _build(arguments: tuple[Any, ...], fusion: Fusion | None) -> NativeBeamDecoder:
    classes, blank_id, width, prune, floor, penalty, skip = arguments
    return NativeBeamDecoder(
        classes,
        blank_id,
        beam_width=width,
        beam_prune_logp=prune,
        token_min_logp=floor,
        blank_penalty=penalty,
        blank_skip=skip,
        fusion=fusion,
    )


def _counts(block: bytes) -> tuple[int, int]:
    """Beams and nodes that a block claims to hold, never more than fit into it.

    Raises:
        OptionsError: it is too short for that.
    """
    if len(block) >= _COUNTS.size:
        beams, nodes = _COUNTS.unpack_from(block)
        if beams > 0 and nodes >= 0 and beams + nodes <= len(block):
            return beams, nodes
    raise OptionsError("the state is damaged: its block is no state of a beam search")


def _settle(before: _Settled | None, work: NDArray[np.uint8], report: library.Report) -> _Settled | None:
    if not report.settled:
        return before
    nodes = np.frombuffer(work, library.NODE, report.settled, report.settled_at).copy()
    return _Settled(before, len(nodes) + (before.count if before is not None else 0), nodes)


def _history(settled: _Settled | None) -> list[NDArray[np.void]]:
    pieces = []
    while settled is not None:
        pieces.append(settled.nodes)
        settled = settled.before
    return pieces[::-1]


def _columns(nodes: NDArray[np.void]) -> tuple[list[Any], ...]:
    return tuple(nodes[name].tolist() for name in ("token", "begin", "end", "peak"))


def _hypotheses(found: NDArray[np.void], tokens: NDArray[np.void], settled: _Settled | None) -> tuple[Hypothesis, ...]:
    history = _columns(np.concatenate([tokens[:0], *_history(settled)]))
    hypotheses, start = [], 0
    for score, log_prob, lm, hot, count, *_ in found.tolist():
        columns = _columns(tokens[start : start + count])
        start += count
        ids, begins, ends, peaks = (tuple(old + new) for old, new in zip(history, columns, strict=True))
        hypotheses.append(Hypothesis(ids, begins, log_prob, ends, peaks, score, lm, hot))
    return tuple(hypotheses)
