"""Codebook prediction after MVQ-KD (Guo et al., arXiv 2211.00508): name what the teacher's block looks like.

A block of the teacher is quantised to one index of each of several codebooks, and a block of the student predicts the
indices by cross-entropy: a classification instead of a regression. The paper trains its quantiser jointly, on much data
and offline, with 8 or 16 codebooks of 256 entries. Here it is residual k-means (each codebook quantises what those
before it left): on the first training batches, with indices made in every update; or by ``kdcompress label``, which
stores the indices, one byte each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch.nn import functional as F  # noqa: N812

from kdcompress.losses.base import Answer, Head, LossConfig, Shapes, Signals
from kdcompress.losses.frames import delay
from kdcompress.losses.projection import Projection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

ITERATIONS = 12
"""Of k-means."""
MOST_FRAMES = 16384
"""Frames that k-means looks at; more are thinned out."""
NO_CODE = -100
"""An index where there is none: in padding."""


def fit_codebooks(frames: Tensor, codebooks: int, entries: int, seed: int = 1) -> Tensor:
    """Residual k-means.

    Args:
        frames: ``(M, D)``, at least one; the first ``MOST_FRAMES`` of a random order are used.
        codebooks: C.
        entries: K of each; with fewer frames than entries some entries are equal.
        seed: of where the centroids start; the result follows from it and the frames.

    Returns:
        Centroids ``(C, K, D)`` float32.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(frames), generator=generator)[:MOST_FRAMES]
    residual = frames.detach().float()[order.to(frames.device)]
    centroids = []
    for _ in range(codebooks):
        book = _k_means(residual, entries, generator)
        centroids.append(book)
        residual = residual - book[_nearest(residual, book)]
    return torch.stack(centroids)


def _k_means(points: Tensor, entries: int, generator: torch.Generator) -> Tensor:
    """Lloyd's iterations; an entry without points moves to one that is far from its own."""
    book = _far_apart(points, entries, generator)
    for _ in range(ITERATIONS):
        nearest = _nearest(points, book)
        counts = torch.zeros(entries, device=points.device).index_add(0, nearest, torch.ones_like(points[:, 0]))
        sums = torch.zeros_like(book).index_add(0, nearest, points)
        far = (points - book[nearest]).square().sum(dim=1).argsort(descending=True, stable=True)[:entries]
        empty = (counts == 0).nonzero()[: len(far), 0]
        book = torch.where((counts > 0)[:, None], sums / counts.clamp(min=1)[:, None], book)
        book[empty] = points[far[: len(empty)]]
    return book


def _far_apart(points: Tensor, entries: int, generator: torch.Generator) -> Tensor:
    """Points to start from, each drawn by its squared distance to those drawn before (k-means++)."""
    chosen = [points[int(torch.randint(len(points), (1,), generator=generator))]]
    distance = torch.full_like(points[:, 0], torch.inf)
    for draw in torch.rand(entries - 1, generator=generator).tolist():
        distance = torch.minimum(distance, (points - chosen[-1]).square().sum(dim=1))
        ahead = distance.double().cumsum(dim=0)
        index = torch.searchsorted(ahead, draw * ahead[-1], right=True).clamp(max=len(points) - 1)
        chosen.append(points[index])
    return torch.stack(chosen)


def _nearest(points: Tensor, book: Tensor) -> Tensor:
    """Index of the nearest centroid: ``(..., D)`` and ``(K, D)`` to ``(...)``."""
    # |x - c|^2 without |x|^2, which is the same for all c
    return (book.square().sum(dim=1) - 2 * points @ book.T).argmin(dim=-1)


def encode(frames: Tensor, centroids: Tensor) -> Tensor:
    """Indices of ``frames (..., D)`` in the codebooks ``(C, K, D)``: ``(..., C)`` int64."""
    residual, codes = frames.detach().float(), []
    for book in centroids:
        nearest = _nearest(residual, book)
        codes.append(nearest)
        residual = residual - book[nearest]
    return torch.stack(codes, dim=-1)


def codebook(
    logits: Tensor, teacher: Tensor, centroids: Tensor, frame_lens: Tensor, *, delay_frames: int = 0
) -> Tensor:
    """Cross-entropy of the teacher's indices, summed, divided by the numbers of valid frames and of codebooks.

    Args:
        logits: the student's, ``(N, T, C * K)``.
        teacher: its block, ``(N, T, D)``.
        centroids: ``(C, K, D)``.
        frame_lens: valid frames, ``(N,)`` int64.
        delay_frames: student frame ``t + delay_frames`` answers teacher frame t.

    Returns:
        Scalar, float32; log K for a student that knows nothing.
    """
    student, target, inside = delay(logits, teacher.detach(), frame_lens, delay_frames)
    return _cross_entropy(student[inside], encode(target[inside], centroids), frame_lens)


def stored_codebook(logits: Tensor, codes: Tensor, frame_lens: Tensor, *, delay_frames: int = 0) -> Tensor:
    """Return the same for indices that were made before.

    Args:
        logits: the student's, ``(N, T, C * K)``.
        codes: ``(N, T, C)`` int64; negative ones do not count.
        frame_lens: valid frames, ``(N,)`` int64.
        delay_frames: student frame ``t + delay_frames`` answers teacher frame t.

    Returns:
        Scalar, float32.
    """
    student, target, inside = delay(logits, codes, frame_lens, delay_frames)
    return _cross_entropy(student[inside], target[inside], frame_lens)


def _cross_entropy(logits: Tensor, codes: Tensor, frame_lens: Tensor) -> Tensor:
    """Logits ``(M, C * K)`` against codes ``(M, C)``."""
    books = codes.shape[1]
    scores = logits.float().view(len(codes), books, logits.shape[1] // books).transpose(1, 2)
    known = codes.masked_fill(codes < 0, NO_CODE)
    return F.cross_entropy(scores, known, ignore_index=NO_CODE, reduction="sum") / (frame_lens.sum() * books)


class CodebookHead(Projection):
    """Logits for every entry of every codebook; centroids that are fitted here are buffers, for the checkpoints."""

    def __init__(self, config: CodebookLoss, shapes: Shapes) -> None:
        super().__init__(
            config.student_layer, shapes.hidden_dims[config.student_layer], config.codebooks * config.entries
        )
        if shapes.teacher_codebooks is not None:
            return  # what was stored are indices
        width = shapes.teacher_hidden_dims[config.teacher_layer]
        self.register_buffer("centroids", torch.zeros(config.codebooks, config.entries, width))
        self.centroids: Tensor


class CodebookLoss(LossConfig):
    """Cross-entropy to the quantised block of the teacher."""

    needs_teacher: ClassVar[bool] = True
    prepares: ClassVar[bool] = True
    learns_from: ClassVar[tuple[Answer, ...]] = ("codes", "hidden")

    kind: Literal["codebook"] = "codebook"
    """Selects this loss."""
    weight: float = Field(default=0.1, ge=0)
    """Factor in the sum. The recipes of the paper's authors sum over codebooks with 0.01, which is 0.08 here for 8."""
    student_layer: int = -1
    """Block of the student, from 0; negative ones count from the end. The paper takes one in the middle."""
    teacher_layer: int = -1
    """Block of the teacher, in the same way."""
    codebooks: int = Field(default=8, ge=1)
    """Indices of each frame."""
    entries: int = Field(default=64, ge=2)
    """Values of each index."""
    delay_frames: int = Field(default=0, ge=0)
    """The student answers this many frames after the teacher."""

    def head(self, shapes: Shapes) -> Head:
        """Linear, from the student's width to all entries.

        Raises:
            ValueError: the teacher's labels were stored with other codebooks.
        """
        stored = shapes.teacher_codebooks
        if stored is not None and stored != (self.codebooks, self.entries):
            raise ValueError(
                f"the stored labels have {stored[0]} codebooks of {stored[1]} entries; set codebooks to {stored[0]} "
                f"and entries to {stored[1]}"
            )
        return CodebookHead(self, shapes)

    def prepare(self, head: Head, teacher_hidden: Sequence[Tensor], seed: int) -> None:
        """Fit the codebooks to the teacher's block."""
        if isinstance(head, CodebookHead) and hasattr(head, "centroids"):
            head.centroids.copy_(fit_codebooks(teacher_hidden[self.teacher_layer], self.codebooks, self.entries, seed))

    def __call__(self, signals: Signals) -> Tensor:
        """See ``codebook``, or ``stored_codebook`` where the teacher gives codes."""
        taught = signals.taught()
        if taught.codes is not None:
            return stored_codebook(
                signals.from_head(), taught.codes, signals.frame_lens, delay_frames=self.delay_frames
            )
        return codebook(
            signals.from_head(),
            taught.hidden[self.teacher_layer],
            signals.fitted["centroids"],
            signals.frame_lens,
            delay_frames=self.delay_frames,
        )
