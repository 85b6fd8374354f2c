"""The kinds of input, and all that the format of a bundle and the call of a graph ask about them. Nothing else asks.

How the caller's value becomes units is the matter of ``intake`` (audio, piece by piece) and ``inputs`` (whole values).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kdcompress_runtime.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kdcompress_runtime.bundle import BundleMetadata, InputSpec

SOURCE_TOKENS_FILE = "source_tokens.txt"
_MOST = 2**31 - 1


class InputKind(NamedTuple):
    """What is particular to one kind; the units of every kind stand along the second axis."""

    dtype: str
    """Of the graph's input."""
    units: str
    """What an input is long in."""
    items: str
    """What inputs are called in messages."""
    fields: Mapping[str, Sequence[int]]
    """Fields of ``InputSpec`` beyond those of every kind, and the values that they can have."""
    streams: bool = False
    """Whether there are models that take them piece by piece."""
    files: tuple[str, ...] = ()
    """Files of the bundle without which it cannot be fed."""


KINDS: Mapping[str, InputKind] = {
    "pcm": InputKind("float32", "samples", "audio", {"sample_rate": range(1, _MOST)}, streams=True),
    "image": InputKind("uint8", "columns", "images", {"height": range(8, 257), "channels": (1, 3)}),
    "tokens": InputKind("int64", "tokens", "sentences", {"frames_per_unit": range(1, 17)}, files=(SOURCE_TOKENS_FILE,)),
}
INPUT_KINDS = tuple(KINDS)
"""What this runtime can feed."""
_PARTICULAR: Mapping[str, object] = {"sample_rate": None, "height": None, "channels": None, "frames_per_unit": 1}
"""Fields that only some kinds have, and what stands there for the others."""


def axes_of(spec: InputSpec) -> tuple[int | str, ...]:
    """Axes of a graph's input behind that of the batch: the name of the units, and the values of each."""
    column = () if spec.height is None else (spec.height * (spec.channels or 1),)
    return (KINDS[spec.kind].units, *column)


def require_audio(metadata: BundleMetadata, what: str, remedy: str) -> None:
    """Refuse what only audio has.

    Raises:
        OptionsError: the bundle takes something else.
    """
    kind = KINDS[metadata.input.kind]
    if not kind.streams:
        raise OptionsError(f"{what}: only for audio, and this bundle takes {kind.items}; {remedy}")


def wrong_input(metadata: BundleMetadata) -> Iterator[str]:
    """What is wrong with the input of a bundle, in words; ``input.kind`` is a text."""
    spec = metadata.input
    kind = KINDS.get(spec.kind)
    if kind is None:
        yield f"input kind {spec.kind!r} is unknown; this runtime feeds {', '.join(INPUT_KINDS)}"
        return
    for name, nothing in _PARTICULAR.items():
        value, known = getattr(spec, name), kind.fields.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if known is None and value != nothing:
            yield f"{name} means nothing for an input of kind {spec.kind}, found {value!r}"
        elif known is not None and not (whole and value in known):
            span = f"from {known[0]} to {known[-1]}" if isinstance(known, range) else " or ".join(map(str, known))
            yield f"{name} of an input of kind {spec.kind} must be an integer, {span}, found {value!r}"
    if spec.frames_per_unit != 1 and spec.units_per_frame != 1:
        yield "one of units_per_frame and frames_per_unit must be 1"
    if metadata.streaming and not kind.streams:
        yield f"a model that takes {kind.items} takes them whole (streaming false)"
    for file in kind.files:
        if file not in metadata.files:
            yield f"{file} has no SHA-256"
