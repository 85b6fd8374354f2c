"""``kdcompress pack``: recordings into tars that are read in ranges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kdcompress import console
from kdcompress.commands.options import CHECK_FAILED
from kdcompress_runtime.errors import OptionsError

app = typer.Typer()

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@app.command("pack")
def pack_command(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="A manifest; or tars, with --from-tars.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the tars; the manifest, with --from-tars.")
    ] = None,
    shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Largest tar, for example 500MB.")] = "1GB",
    address: Annotated[
        str, typer.Option(metavar="URL", help="Where the tars will be put, for example s3://bucket/folder.")
    ] = "",
    from_tars: Annotated[
        bool, typer.Option("--from-tars", help="Index tars of WebDataset or NeMo; nothing is copied.")
    ] = False,
    texts: Annotated[
        Path | None, typer.Option(metavar="MANIFEST", help="With --from-tars: manifest whose lines name members.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Verify the tars of a packed folder; exit code 3 when one is damaged.")
    ] = False,
) -> None:
    """Write the recordings of a manifest into tars, and a manifest of ranges in them that every command reads."""
    if check:
        _check(sources)
        return
    if output is None:
        raise OptionsError("pack: say with --output where to write")
    if from_tars:
        _from_tars(sources, output, texts)
        return
    if len(sources) != 1:
        raise OptionsError(f"pack: takes one manifest, found {len(sources)} paths; for tars add --from-tars")
    from kdcompress.data.packing import pack

    with console.progress_bar("pack") as update:
        manifest = pack(
            sources[0],
            output,
            shard_bytes=parse_size(shard_size),
            address=address,
            on_progress=lambda done, total: update(done, total, ""),
        )
    console.stdout().print(str(manifest), markup=False)


def parse_size(text: str) -> int:
    """Read ``500MB``, ``1GB`` or a number of bytes.

    Raises:
        OptionsError: something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise OptionsError(f"--shard-size {text}: expected a size such as 500MB or 1GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _from_tars(tars: list[Path], output: Path, texts: Path | None) -> None:
    from kdcompress.data.foreign_tars import index_tars

    with console.progress_bar("pack") as update:
        kept, left_out = index_tars(tars, output, texts=texts, on_progress=lambda done, total: update(done, total, ""))
    remark = f"; {left_out} that {texts} does not name are left out" if left_out else ""
    console.stdout().print(f"{output}: {kept} recordings in {len(tars)} tars{remark}", markup=False)


def _check(folders: list[Path]) -> None:
    from kdcompress.data.packing import check_shards
    from kdcompress.errors import PackError

    for folder in folders:
        try:
            with console.progress_bar("check") as update:
                shards = check_shards(folder, lambda done, total: update(done, total, ""))
        except PackError as problem:
            console.error(str(problem))
            raise typer.Exit(CHECK_FAILED) from problem
        items = sum(shard.items for shard in shards)
        console.stdout().print(f"{folder}: {items} items in {len(shards)} tars, as they were written", markup=False)
