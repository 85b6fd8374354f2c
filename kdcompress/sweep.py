"""A sweep file: one recipe and variants of it, trained side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from kdcompress.errors import RecipeError
from kdcompress.recipe_file import load_recipe
from kdcompress.side_by_side import fit_side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kdcompress.recipe import Recipe


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> dict[str, Recipe]:
    """Read a sweep file: ``recipe``, a file or a packaged name, and ``variants``, lists of overrides by name.

    Args:
        path: YAML file.
        overrides: applied to every variant, before its own.

    Raises:
        RecipeError: the file cannot be read or has another form, or a variant is no valid recipe (it is named).
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: not a readable YAML file ({error})") from error
    variants = content.get("variants") if isinstance(content, dict) else None
    if not isinstance(variants, dict) or not variants or set(content) != {"recipe", "variants"}:
        raise RecipeError(f"{path}: a sweep has two keys, `recipe` and `variants` (lists of key=value by name)")
    found = {}
    for name, own in variants.items():
        if not isinstance(own, list) or not all(isinstance(item, str) for item in own):
            raise RecipeError(f"{path}: variants.{name} must be a list of key=value overrides")
        try:
            found[str(name)] = load_recipe(content["recipe"], [f"name={name}", *overrides, *own])
        except RecipeError as error:
            raise RecipeError(f"{path}, variant {name}: {error}") from error
    return found


def run_sweep(
    variants: dict[str, Recipe], output: Path, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, Any]]:
    """Train each variant into ``output/<name>`` and return the content of its ``run.json`` by name.

    Raises:
        KdcompressError: see ``fit_side_by_side``.
    """
    runs = [(recipe, output / name) for name, recipe in variants.items()]
    return dict(zip(variants, fit_side_by_side(runs, on_progress), strict=True))
