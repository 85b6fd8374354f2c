"""TextGrids, read back."""

from __future__ import annotations

import re

from kdcompress.aligning.aligned import Aligned, Segment
from kdcompress.aligning.text_grid import text_grid, write_text_grids

SEGMENTS = (
    Segment("a", 0.1, 0.2, 0),
    Segment('"', 0.2, 0.3, 0),
    Segment("▁", 0.3, 0.45, 0),
    Segment("é", 0.45, 0.45, 1),
    Segment("b", 0.45, 0.6, 1),
)
ITEM = Aligned("x/y é.wav", 7, "characters", ('a"', "éb"), SEGMENTS, 0.6, -1.0)


def parsed(content: str) -> dict[str, list[tuple[float, float, str]]]:
    """Tiers by name, by the grammar of Praat: numbers and strings count, all else is for the eye."""
    assert content.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\n')
    found = [
        float(number) if number else text.replace('""', '"')
        for number, text in re.findall(r'= (?:(-?[\d.]+)$|"((?:[^"]|"")*)"$)', content, flags=re.MULTILINE)
    ][2:]
    start, end, count = found[:3]
    found, tiers = found[3:], {}
    for _ in range(int(count)):
        assert found[0] == "IntervalTier"
        assert found[2:4] == [start, end]
        name, intervals = found[1], int(found[4])
        found = found[5:]
        tiers[name] = [tuple(found[3 * place : 3 * place + 3]) for place in range(intervals)]
        found = found[3 * intervals :]
        assert [left[1] for left in tiers[name][:-1]] == [right[0] for right in tiers[name][1:]]
        assert all(interval[0] < interval[1] for interval in tiers[name])
        assert (tiers[name][0][0], tiers[name][-1][1]) == (start, end)
    assert not found
    return tiers


def test_words_units_and_silence():
    assert parsed(text_grid(ITEM)) == {
        "words": [(0, 0.1, ""), (0.1, 0.3, 'a"'), (0.3, 0.45, ""), (0.45, 0.6, "éb")],
        "characters": [(0, 0.1, ""), (0.1, 0.2, "a"), (0.2, 0.3, '"'), (0.3, 0.45, ""), (0.45, 0.6, "b")],
    }


def test_an_item_without_words_is_silence():
    assert parsed(text_grid(Aligned("x", 0, "phones", (), (), 1.5, 0.0))) == {
        "words": [(0, 1.5, "")],
        "phones": [(0, 1.5, "")],
    }


def test_units_that_are_words():
    item = Aligned("x", 0, "words", ("so",), (Segment("▁so", 0.0, 0.5, 0),), 0.5, 0.0)
    assert parsed(text_grid(item)) == {"words": [(0, 0.5, "so")], "units": [(0, 0.5, "so")]}


def test_one_file_an_item(tmp_path):
    assert write_text_grids(tmp_path / "grids", [ITEM, ITEM.__class__(**{**vars(ITEM), "place": 8})]) == 2
    names = sorted(path.name for path in (tmp_path / "grids").iterdir())
    assert names == ["000007-x_y_é.wav.TextGrid", "000008-x_y_é.wav.TextGrid"]
    assert parsed((tmp_path / "grids" / names[0]).read_text(encoding="utf-8"))["words"][1][2] == 'a"'
