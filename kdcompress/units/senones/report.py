"""What ``kdcompress senones`` says, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress.units.senones.tree import FACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def lines_of(told: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on senones that were built, and on a manifest that was written."""
    if "leaves" in told:
        yield from _of_tree(told)
        yield from _of_contexts(told)
    if "manifest" in told:
        yield (
            f"{told['manifest']}: {told['items']:,} items in senones, {told['senones_used']} of {told['of']} occur; "
            "data.units: words makes each one token"
        )


def _of_tree(told: Mapping[str, Any]) -> Iterator[str]:
    leaves, asked, phones, states = (told[name] for name in ("leaves", "asked_for", "phones", "states"))
    yield (
        f"{told['senones']}: {leaves} senones of {phones} phones with {states} {_plural('state', states)}, "
        f"{told['frames']:,.0f} frames, {told['gain']:.3f} nats a frame above {told['roots']} without context"
    )
    if leaves < asked:
        yield f"  fewer than the {asked} asked for: no further split leaves enough frames; lower --min-frames"
    if asked < phones:
        yield f"  fewer than phones, so that phones share them; {phones} or more give each phone its own"
    elif asked < phones * states:
        yield f"  fewer than states, so that states share them; {phones * states} or more give each state its own"
    yield f"  purity {100 * told['purity']:.1f} %: frames that belong to the phone which their senone is named after"
    if told["unheard"]:
        yield f"  never heard, a senone without frames each: {', '.join(told['unheard'])}"
    smallest, low, median, high, largest = told["leaf_frames"]
    yield (
        f"  frames of a senone: smallest {smallest:.0f}, 10 % {low:.0f}, median {median:.0f}, 90 % {high:.0f}, "
        f"largest {largest:.0f}"
    )


def _of_contexts(told: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"  {told['contexts']:,} phones in context, {told['contexts_a_leaf']:.1f} a senone; "
        f"{100 * told['once']:.1f} % of all phones are in a context seen once: about so many of a new text's are unseen"
    )
    for path, share in told["unseen"].items():
        yield f"  {path}: {100 * share:.1f} % of the phones are in a context never seen in training"
    questions = [
        f"{phone or 'any phone'}: {FACTORS[factor]} {question}"
        for phone, factor, question, _ in told["first_questions"]
    ]
    if questions:
        yield f"  first questions: {'; '.join(questions)}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
