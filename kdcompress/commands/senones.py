"""``kdcompress senones``: states of phones in context, tied by a tree, as units of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdcompress import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcompress.aligning import Aligned
    from kdcompress.units.inventory import Inventory
    from kdcompress.units.senones import SenoneInventory
    from kdcompress.units.senones.build import Built
    from kdcompress.units.senones.frames import FrameReader

app = typer.Typer()


@app.command()
def senones(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Items with texts.")],
    alignment: Annotated[
        Path | None,
        typer.Argument(metavar="ALIGNMENT", help="Folder or file of `kdcompress align`; left out, FILE is read."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The senones, JSON.")] = Path(
        "senones.json"
    ),
    count: Annotated[int, typer.Option(min=1, help="Senones.")] = 200,
    states: Annotated[int, typer.Option(min=1, max=9, help="Parts of each phone, one senone each.")] = 1,
    lexicon: Annotated[
        Path | None, typer.Option("--lexicon", metavar="FILE", help="Lines `CAT K AE1 T`; other words are guessed.")
    ] = None,
    units: Annotated[
        Path | None, typer.Option("--units", metavar="FILE", help="A phone inventory, in place of a lexicon.")
    ] = None,
    min_frames: Annotated[float, typer.Option(help="Fewest frames of a senone that a split makes.")] = 100.0,
    pause: Annotated[float, typer.Option(help="Seconds between phones from which on they are no neighbours.")] = 0.2,
    frame_ms: Annotated[float, typer.Option(min=1, help="Time between frames.")] = 10.0,
    sample_rate: Annotated[int, typer.Option(help="Hz that audio is resampled to.")] = 16000,
    feature_dim: Annotated[
        int | None, typer.Option(min=1, help="Items are features, of so many values a frame, and not audio.")
    ] = None,
    held_out: Annotated[
        list[Path] | None, typer.Option(metavar="MANIFEST", help="Count contexts of its texts never seen; repeatable.")
    ] = None,
    manifest_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write MANIFEST again with its texts in senones.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Grow a phonetic decision tree under an alignment; what comes out spells any text in senones."""
    if manifest_out is not None and manifest_out.resolve() == manifest.resolve():
        raise typer.BadParameter("--manifest-out would overwrite MANIFEST; give another name")
    told: dict[str, Any] = {"senones": str(output)}
    if alignment is None:
        inventory = _read(output)
    else:
        from kdcompress.units.senones.statistics import Division

        alignment = alignment / "alignment.jsonl" if alignment.is_dir() else alignment
        phones = _phones(lexicon, units)
        frame = 1.0 if _in_input_units(alignment) else frame_ms / 1000
        division = Division(states=states, frame=frame, pause=pause * frame * 1000 / frame_ms)
        read = _reader(feature_dim, sample_rate, frame_ms / 1000)
        built = _build(manifest, alignment, phones, read, count=count, division=division, min_frames=min_frames)
        inventory = built.inventory
        told |= _told(built, count, held_out or [])
        _write(inventory, output)
    if manifest_out is not None:
        told |= _write_manifest(manifest, manifest_out, inventory)
    if as_json:
        console.stdout().print(json.dumps(told), markup=False)
    else:
        _print(told)


def _read(path: Path) -> SenoneInventory:
    from kdcompress.errors import VocabularyError
    from kdcompress.units.opening import read_inventory
    from kdcompress.units.senones import SenoneInventory

    found = read_inventory(path)
    if not isinstance(found, SenoneInventory):
        raise VocabularyError(f"{path}: holds {found.kind}, not senones; name another file, or give an ALIGNMENT")
    return found


def _phones(lexicon: Path | None, units: Path | None) -> Inventory:
    from kdcompress.units.opening import inventory_of, read_inventory

    if (lexicon is None) == (units is None):
        raise typer.BadParameter("give --lexicon FILE, or --units FILE: what words are said in")
    return inventory_of("phones", lexicon=lexicon, g2p="lexicon") if units is None else read_inventory(units)


def _reader(feature_dim: int | None, sample_rate: int, frame_s: float) -> FrameReader:
    from kdcompress.units.senones.frames import audio_reader, feature_reader

    return audio_reader(sample_rate, frame_s=frame_s) if feature_dim is None else feature_reader(feature_dim)


def _in_input_units(alignment: Path) -> bool:
    """Whether times are frames of features."""
    from kdcompress.aligning.aligned import INPUT_UNITS, read_header

    return read_header(alignment).time == INPUT_UNITS


def _build(manifest: Path, alignment: Path, phones: Inventory, read: FrameReader, **settings: Any) -> Built:  # noqa: ANN401
    from kdcompress.aligning import read_alignments
    from kdcompress.units.senones.build import build_senones

    with console.progress_bar("frames") as update, alignment.open("rb") as lines:
        total = sum(1 for _ in lines) - 1  # the first line is no item

        def counted() -> Iterator[Aligned]:
            for done, item in enumerate(read_alignments(alignment), start=1):
                yield item
                update(done, total, "items")

        return build_senones(manifest, counted(), phones, read, source=str(alignment), **settings)


def _write(inventory: SenoneInventory, output: Path) -> None:
    from kdcompress.files import write_text

    write_text(output, json.dumps(inventory.to_json(), ensure_ascii=False) + "\n")


def _told(built: Built, count: int, held_out: list[Path]) -> dict[str, Any]:
    from kdcompress.units.senones.build import unseen_share

    phones, tree = built.inventory.phones, built.growth.tree
    unseen = {str(path): unseen_share(phones, path, built.statistics) for path in held_out}
    shared = {"phones": len(tree.phones), "states": tree.states, "asked_for": count}
    first = [[asked.phone, asked.factor, asked.question, asked.gain] for asked in built.growth.asked[:10]]
    return {**shared, **built.figures.to_json(), "unseen": unseen, "first_questions": first}


def _write_manifest(manifest: Path, output: Path, inventory: SenoneInventory) -> dict[str, Any]:
    from kdcompress.units.senones.manifests import write_unit_manifest

    items, used = write_unit_manifest(manifest, output, inventory)
    return {"manifest": str(output), "items": items, "senones_used": len(used), "of": len(inventory.symbols)}


def _print(told: dict[str, Any]) -> None:
    from kdcompress.units.senones.report import lines_of

    for line in lines_of(told):
        console.stdout().print(line, markup=False)
