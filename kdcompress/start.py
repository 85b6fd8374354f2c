"""Starting from the weights of a finished run, ``init`` or ``init_encoder`` in a recipe: what must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe
    from kdcompress.run import TrainedRun
    from kdcompress.settings import Settings
    from kdcompress_runtime.vocabulary import Vocabulary

FREE_TO_CHANGE = ("dropout", "encoder.dropout", "chunk_frames")
"""Settings of a model that its weights do not depend on."""
LONGEST_SHOWN = 60
"""Characters of a setting that a message shows; a table of tokens has thousands."""


def start_from(start: TrainedRun, network: CtcNetwork, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Copy weights and feature statistics of a finished run into ``network``.

    Raises:
        RecipeError: model, frontend or tokens differ; the message names what.
    """
    found = _differing(start, recipe)
    if start.vocabulary.symbols != vocabulary.symbols:
        found.append(f"it has {len(start.vocabulary)} tokens, here are {len(vocabulary)}, or others")
    _refuse("init", start, found)
    network.load_state_dict(start.network.state_dict())


def start_encoder_from(start: TrainedRun, network: CtcNetwork, recipe: Recipe, fresh: Collection[str]) -> None:
    """Copy weights and feature statistics of a finished run into ``network``, all but the ``fresh`` tensors.

    Raises:
        RecipeError: model or frontend differ; the message names what.
    """
    _refuse("init_encoder", start, _differing(start, recipe))
    kept = {name: tensor for name, tensor in network.state_dict().items() if name in fresh}
    network.load_state_dict({**start.network.state_dict(), **kept})


def shaped_by_tokens(network: CtcNetwork, larger: CtcNetwork) -> set[str]:
    """Names of the tensors that depend on the number of tokens, from two networks that differ in nothing else."""
    shapes = {name: tensor.shape for name, tensor in larger.state_dict().items()}
    return {name for name, tensor in network.state_dict().items() if tensor.shape != shapes[name]}


def _differing(start: TrainedRun, recipe: Recipe) -> list[str]:
    return [
        *differences("model", recipe.model, start.recipe.model),
        *differences("frontend", recipe.frontend, start.recipe.frontend),
    ]


def _refuse(key: str, start: TrainedRun, found: list[str]) -> None:
    if found:
        raise RecipeError(
            f"{key}: {start.folder.path} holds another model: {'; '.join(found)}. Start from a run of this very model, "
            "or take model and frontend from its recipe.yaml"
        )


def differences(section: str, mine: Settings, theirs: Settings) -> list[str]:
    """Say which settings that weights depend on differ between two sections."""
    here, there = dict(_flat(mine)), dict(_flat(theirs))
    keys = [key for key in (*here, *(there.keys() - here.keys())) if key not in FREE_TO_CHANGE]
    return [
        f"{section}.{key} is {_short(there.get(key))} there and {_short(here.get(key))} here"
        for key in keys
        if here.get(key) != there.get(key)
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _flat(section: Settings) -> Iterator[tuple[str, Any]]:
    """Settings by dotted key; a preset's name gives way to the sizes it stands for."""
    tree = section.model_dump(mode="json")
    resolved = getattr(section, "resolved", None)
    if resolved is not None:
        del tree["preset"]
        tree |= resolved().model_dump()
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", found) for inner, found in value.items())
        else:
            yield key, value
