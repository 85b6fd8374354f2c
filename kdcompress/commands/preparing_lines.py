"""``kdcompress prepare lines``: images of text lines, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kdcompress import console
from kdcompress_runtime.errors import OptionsError

HEIGHTS = (8, 256)


def prepare_lines_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for images and train.jsonl.")],
    count: Annotated[int | None, typer.Option(help="How many lines are drawn.")] = None,
    from_gt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Draw nothing: a manifest of a list of lines such as `image.png, "text"`.'),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts, one a line, UTF-8; left out: built-in generators.")
    ] = None,
    charset: Annotated[
        str | None, typer.Option(metavar="CHARACTERS", help="Characters that may stand; left out: all of the texts.")
    ] = None,
    fonts: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Folder of .ttf and .otf, or `builtin`; may be repeated; else the system's."),
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of images that half of the lines are printed on.")
    ] = None,
    looks: Annotated[
        Literal["receipt", "general", "both"], typer.Option(help="Print on paper, any colours, or half of each.")
    ] = "both",
    height: Annotated[int, typer.Option(help="Pixels of every image.")] = 32,
    colour: Annotated[bool, typer.Option("--colour/--grey", help="Channels of the images.")] = False,
    upper: Annotated[bool, typer.Option("--upper/--mixed", help="All texts in capitals, or as they are.")] = False,
    longest: Annotated[int, typer.Option(min=1, help="Characters of the longest text.")] = 45,
    image_format: Annotated[Literal["jpg", "png"], typer.Option("--format", help="Of the image files.")] = "jpg",
    seed: Annotated[int, typer.Option(help="Which lines are drawn: line i follows from seed and i.")] = 1,
) -> None:
    """Draw images of text lines, as many as wanted; a stopped command goes on where it was."""
    if (count is None) == (from_gt is None):
        raise OptionsError("either --count says how many lines are drawn, or --from-gt which ones there are")
    if from_gt is not None:
        _import(from_gt, output)
        return
    from kdcompress.data.rendering.fonts import FontSet
    from kdcompress.data.rendering.line_set import LineSet, write_lines
    from kdcompress.data.rendering.paper import Backgrounds
    from kdcompress.data.rendering.renderer import RenderConfig, Renderer
    from kdcompress.data.rendering.texts import FileTexts

    if not HEIGHTS[0] <= height <= HEIGHTS[1]:
        raise OptionsError(f"--height must be {HEIGHTS[0]} to {HEIGHTS[1]}, found {height}")
    if charset is not None and not charset.strip():
        raise OptionsError("--charset names no character; leave it out to take all")
    config = RenderConfig(height, 3 if colour else 1, looks, charset, longest, upper)
    renderer = Renderer(
        config,
        FontSet(fonts or ()),
        FileTexts(texts, longest) if texts else None,
        Backgrounds(backgrounds) if backgrounds else None,
    )
    with console.progress_bar("lines") as update:
        manifest = write_lines(
            renderer, LineSet(output, count or 0, seed, image_format), lambda done, total: update(done, total, "")
        )
    console.stdout().print(str(manifest), markup=False)


def _import(listing: Path, output: Path) -> None:
    from kdcompress.data.rendering.ground_truth import import_lines

    with console.progress_bar("images") as update:
        manifest = import_lines(listing, output, lambda done, total: update(done, total, ""))
    console.stdout().print(str(manifest), markup=False)


def register(app: typer.Typer) -> None:
    """Add the command to ``kdcompress prepare``."""
    app.command("lines")(prepare_lines_command)
