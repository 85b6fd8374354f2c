"""``kdcompress label``: teachers answer for every item of a manifest, once, and students learn from what was kept."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcompress import console
from kdcompress.commands.options import CHECK_FAILED, SetOption

if TYPE_CHECKING:
    from kdcompress.labels.check import StoreCheck
    from kdcompress.recipe import Recipe

app = typer.Typer()


@app.command()
def label(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="YAML file, or a packaged recipe; its data and teachers.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="STORE", help="Folder of the labels.")
    ] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="A teacher; repeatable; overrides distill.teachers.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Items to label; the recipe's data.train when left out.")
    ] = None,
    settings: SetOption = None,
    shard_items: Annotated[int, typer.Option(min=1, help="Items in a file.")] = 256,
    estimate: Annotated[bool, typer.Option("--estimate", help="Only say what it will take.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Verify every checksum of a store; exit code 3 if one is wrong."),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="With --check: remove what is damaged.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Store what teachers say of a manifest; any number of processes, `torchrun` too, repeat it after a kill."""
    if check is not None:
        _check(check, repair=repair, as_json=as_json)
        return
    if recipe is None or (output is None and not estimate):
        raise typer.BadParameter("give a RECIPE and --output STORE, or --check STORE")
    loaded = _recipe(recipe, teacher, manifest, settings)
    if estimate:
        _estimate(loaded, output or Path(), shard_items, as_json=as_json)
    elif output is not None:
        _label(loaded, output, shard_items, as_json=as_json)


def _recipe(recipe: str, teachers: list[Path] | None, manifest: Path | None, settings: list[str] | None) -> Recipe:
    from kdcompress.recipe_file import load_recipe
    from kdcompress.steps import path_setting

    overrides = list(settings or [])
    overrides += [path_setting("distill.teachers", *teachers)] if teachers else []
    overrides += [path_setting("data.train", manifest)] if manifest else []
    return load_recipe(recipe, overrides)


def _estimate(recipe: Recipe, output: Path, shard_items: int, *, as_json: bool) -> None:
    from kdcompress.labels.estimate import check_room, estimate
    from kdcompress.labels.job import open_job

    found = estimate(open_job(recipe, output, shard_items))
    _told(found.to_json() if as_json else found.sentence())
    check_room(output, found)


def _label(recipe: Recipe, output: Path, shard_items: int, *, as_json: bool) -> None:
    from kdcompress.labels.estimate import size
    from kdcompress.labels.label import label as store_labels
    from kdcompress.labels.store import LabelStore

    if int(os.environ.get("RANK", "0")):
        # of several processes under torchrun one is enough to talk
        store_labels(recipe, output, shard_items=shard_items)
        return
    with console.progress_bar("label") as update:
        index = store_labels(
            recipe,
            output,
            shard_items=shard_items,
            on_progress=lambda done, total: update(done, total, "items"),
            on_estimate=lambda found: console.info(found.sentence()),
        )
    size_in_bytes = sum(shard["bytes"] for shard in index["shards"])
    told = {
        "store": str(output),
        "labels": index["labels"]["kind"],
        "items": index["manifest"]["items"],
        "left_out": index["left_out"],
        "frames": index["frames"],
        "bytes": size_in_bytes,
        "shards": len(index["shards"]),
    }
    if (untold := LabelStore(output).untold) is not None:
        told["without_texts"] = untold
    without = f", {index['left_out']:,} without labels" if index["left_out"] else ""
    without += f", {untold:,} without a text" if untold else ""
    _told(
        told
        if as_json
        else f"{output}: {told['labels']} labels of {told['items']:,} items{without}, {told['frames']:,} frames, "
        f"{size(size_in_bytes)} in {told['shards']} files"
    )


def _check(store: Path, *, repair: bool, as_json: bool) -> None:
    from kdcompress.labels.check import check_store, repair_store

    with console.progress_bar("check") as update:
        found = check_store(store, lambda done, total: update(done, total, "files"))
    if repair:
        repair_store(found, store)
    _told(found.to_json() if as_json else _sentences(found, repaired=repair))
    if not found.passed:
        raise typer.Exit(CHECK_FAILED)


def _sentences(found: StoreCheck, *, repaired: bool) -> str:
    from kdcompress.labels.estimate import size

    if found.passed:
        return (
            f"{found.store}: all is well: {found.items:,} items, {found.frames:,} frames, {size(found.bytes)} in "
            f"{found.shards} files"
        )
    lines = [f"{found.store}: {len(found.bad)} damaged files"]
    lines += [f"  {one.file}: {one.problem}" for one in found.bad]
    lines += [
        "they were removed; repeat the `kdcompress label` that made the store, and it makes them again"
        if repaired
        else "`--repair` removes them, and the `kdcompress label` that made the store makes them again"
    ]
    return "\n".join(lines)


def _told(what: dict[str, Any] | str) -> None:
    console.stdout().print(what if isinstance(what, str) else json.dumps(what), markup=False)
