"""What a tree is worth: how well its leaves fit, how even they are, how much it meets that it never saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcompress.units.senones.moments import CENTRE, STATE, likelihood_under, summed

if TYPE_CHECKING:
    from kdcompress.units.senones.growing import Growth
    from kdcompress.units.senones.moments import Floats, Ints, Statistics
    from kdcompress.units.senones.tree import Tree


@dataclass(frozen=True)
class Figures:
    """Of a tree and the statistics that it was grown from."""

    leaves: int
    roots: int
    """Trees that they are leaves of."""
    frames: float
    gain: float
    """Log-likelihood a frame above that of a Gaussian for each root, nats."""
    purity: float
    """Share of the frames that belong to the phone which their leaf is called by; 1 where no phones share a leaf."""
    unheard: tuple[str, ...]
    """Phones without a frame; each is one leaf, or part of one, all the same."""
    leaf_frames: tuple[float, ...]
    """Smallest (of those with any), 10 %, median, 90 %, largest."""
    contexts: int
    """Different phones in context that were seen."""
    contexts_a_leaf: float
    """How many of them a leaf has on average."""
    once: float
    """Share of the phones whose context was seen only there: about the share of a new text never seen before
    (Good, 1953)."""

    def to_json(self) -> dict[str, Any]:
        """Fields by name."""
        return asdict(self)


def figures_of(growth: Growth, statistics: Statistics) -> Figures:
    """Measure a tree on what it was grown from."""
    tree, frames = growth.tree, statistics.frames
    leaf = tree.leaves(statistics.contexts)
    own = tree.leaf_phone[leaf] == statistics.contexts[:, CENTRE]
    by_phone = np.bincount(statistics.contexts[:, CENTRE], weights=frames, minlength=len(tree.phones))
    first = statistics.contexts[:, STATE] == 0
    visits = statistics.visits[first]
    filled = tree.leaf_frames[tree.leaf_frames > 0]
    pairs = np.unique(np.concatenate([leaf[:, None], statistics.contexts[:, :3]], axis=1), axis=0)
    return Figures(
        leaves=len(tree),
        roots=growth.roots,
        frames=float(frames.sum()),
        gain=(growth.likelihood - growth.root_likelihood) / float(frames.sum()),
        purity=float(frames[own].sum() / frames.sum()),
        unheard=tuple(phone for phone, count in zip(tree.phones, by_phone, strict=True) if not count),
        leaf_frames=tuple(np.quantile(filled, [0.0, 0.1, 0.5, 0.9, 1.0]).round(1).tolist()),
        contexts=int(first.sum()),
        contexts_a_leaf=len(pairs) / len(filled),
        once=float(visits[visits == 1].sum() / visits.sum()),
    )


def leaf_moments(tree: Tree, statistics: Statistics) -> Floats:
    """Moments of each leaf, ``(L, 1 + 2 D)``."""
    return summed(statistics.moments, tree.leaves(statistics.contexts), len(tree))


def held_out_likelihood(tree: Tree, trained: Statistics, heard: Statistics) -> Floats:
    """Log-likelihood of the frames of each context of ``heard`` under its leaf, ``(K,)`` nats.

    The Gaussian of a leaf is fitted to ``trained``. Contexts whose leaf has no frames are NaN.
    """
    moments = leaf_moments(tree, trained)
    leaf = tree.leaves(heard.contexts)
    found = likelihood_under(heard.moments, moments[leaf], trained.floor)
    return np.where(moments[leaf, 0] > 0, found, np.nan)


def seen(contexts: Ints, trained: Statistics) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each context (left phone, phone, right phone, ...) is one of the training's, ``(N,)``."""
    size = len(trained.phones) + 1
    known, asked = (np.ravel_multi_index(tuple(part[:, :3].T), (size,) * 3) for part in (trained.contexts, contexts))
    found: np.ndarray[Any, np.dtype[np.bool_]] = np.isin(asked, known)
    return found
