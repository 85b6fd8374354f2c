"""Starting from the weights of a finished run, ``init`` in a recipe: what must agree, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcompress.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress.network import CtcNetwork
    from kdcompress.recipe import Recipe
    from kdcompress.run import TrainedRun
    from kdcompress.settings import Settings
    from kdcompress_runtime.vocabulary import Vocabulary

FREE_TO_CHANGE = ("dropout", "encoder.dropout", "chunk_frames")
"""Settings of a model that its weights do not depend on."""


def start_from(start: TrainedRun, network: CtcNetwork, recipe: Recipe, vocabulary: Vocabulary) -> None:
    """Copy weights and feature statistics of a finished run into ``network``.

    Raises:
        RecipeError: model, frontend or tokens differ; the message names what.
    """
    found = [
        *differences("model", recipe.model, start.recipe.model),
        *differences("frontend", recipe.frontend, start.recipe.frontend),
    ]
    if start.vocabulary.symbols != vocabulary.symbols:
        found.append(f"it has {len(start.vocabulary)} tokens, here are {len(vocabulary)}, or others")
    if found:
        raise RecipeError(
            f"init: {start.folder.path} holds another model: {'; '.join(found)}. Start from a run of this very model, "
            "or take model and frontend from its recipe.yaml"
        )
    network.load_state_dict(start.network.state_dict())


def differences(section: str, mine: Settings, theirs: Settings) -> list[str]:
    """Say which settings that weights depend on differ between two sections."""
    here, there = dict(_flat(mine)), dict(_flat(theirs))
    keys = [key for key in (*here, *(there.keys() - here.keys())) if key not in FREE_TO_CHANGE]
    return [
        f"{section}.{key} is {there.get(key)} there and {here.get(key)} here"
        for key in keys
        if here.get(key) != there.get(key)
    ]


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
