from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kdcompress_evaluation.csv_file import ALL, COLUMNS, render_csv

if TYPE_CHECKING:
    from kdcompress_evaluation.summary import Summary


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def find(lines: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    (line,) = [line for line in lines if all(line[key] == value for key, value in wanted.items())]
    return line


def leaves(value: Any, path: str = "") -> list[tuple[str, float]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in leaves(part, f"{path}/{key}")]
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part, path)]
    return [(path, float(value))] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_every_number_of_the_report_is_there(summary: Summary) -> None:
    content = json.loads(summary.dumps())
    found = {
        float(line[column]) for line in read(render_csv(summary)) for column in ("value", "low", "high") if line[column]
    }
    wanted = [(path, value) for path, value in leaves(content) if "/measured" not in path]
    assert len(wanted) > 900
    assert [(path, value) for path, value in wanted if value not in found and path != "/schema"] == []


def test_a_line_says_what_its_number_is(summary: Summary) -> None:
    lines = read(render_csv(summary))
    small = next(v for v in summary.variants if v.info.name == "small-int8")
    wer = find(lines, section="accuracy", variant="small-int8", manifest=ALL, metric="wer")
    assert (float(wer["value"]), wer["unit"]) == (small.pooled.metrics["wer"].value, "fraction")
    assert float(wer["low"]) == small.pooled.metrics["wer"].low
    assert float(wer["high"]) == small.pooled.metrics["wer"].high
    noisy = find(lines, section="difference", variant="small-int8", manifest="noisy", metric="wer")
    assert float(noisy["value"]) == small.manifests["noisy"].differences["wer"].estimate.value
    adjusted = find(lines, section="difference", variant="small-int8", manifest=ALL, metric="wer_p_adjusted")
    assert (float(adjusted["value"]), adjusted["unit"]) == (0.0476, "probability")
    p95 = find(lines, section="speed", variant="small-int8", metric="paced_p95")
    assert (float(p95["value"]), p95["unit"]) == (15.75, "ms")
    assert find(lines, section="speed", variant="small-int8", metric="paced_count")["unit"] == "count"
    peak = find(lines, section="footprint", variant="small-int8", metric="memory_peak")
    assert (peak["value"], peak["unit"]) == ("176000008", "bytes")
    moved = find(
        lines, section="slice", variant="small-int8", manifest=ALL, slice="duration: 2 to 4 s", metric="wer_difference"
    )
    assert float(moved["value"]) == 0.0013
    assert find(lines, section="verdict", variant="tiny-int8", metric="dwer<=0.5")["value"] == "0"
    assert find(lines, section="verdict", variant="small-int8", metric="size<=3MB")["value"] == "1"
    assert find(lines, section="verdict", variant="small-int8", metric="dwer<=0.5")["value"] == "1"
    assert find(lines, section="overlap", variant="tiny", slice="tuning", metric="inputs")["value"] == "402"
    assert find(lines, section="failure", variant="tiny-int8", slice="u0101")["metric"] == "timeout"


def test_no_number_is_without_a_unit(summary: Summary) -> None:
    """A new field of the report needs a line in ``UNITS``."""
    assert [line for line in read(render_csv(summary)) if not line["unit"]] == []


def test_no_two_lines_say_the_same_thing(summary: Summary) -> None:
    lines = read(render_csv(summary))
    keys = [tuple(line[c] for c in ("section", "variant", "manifest", "slice", "metric")) for line in lines]
    assert len(keys) == len(set(keys))


def test_what_was_not_measured_has_no_line(summary: Summary) -> None:
    cloud = [line["section"] for line in read(render_csv(summary)) if line["variant"] == "cloud"]
    assert "accuracy" in cloud
    assert "speed" not in cloud
    assert render_csv(replace(summary, speed_run=None, verdict=None, slices=())).count("\nslice,") == 0


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('=HYPERLINK("http://x")', '\'=HYPERLINK("http://x")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a\n=1,b", "a =1,b"),
        ("-5.0", "-5.0"),
        ("a=1", "a=1"),
    ],
)
def test_no_cell_is_a_formula(summary: Summary, value: str, cell: str) -> None:
    """In a place of its own (an id), and behind the field of a slice."""
    utterance = replace(summary.worst["small-int8"][0], id=value)
    text = render_csv(replace(summary, worst={value: (utterance,)}))
    (line,) = [row for row in read(text) if row["section"] == "worst" and row["metric"] == "errors"]
    assert line["slice"] == cell
    assert line["variant"] == cell
    assert all(len(row) == len(COLUMNS) for row in csv.reader(io.StringIO(text)))


def test_letters_beyond_ascii_come_with_a_mark(summary: Summary) -> None:
    plain = render_csv(replace(summary, slices=()))
    assert plain.startswith("section,variant")
    utterance = replace(summary.worst["small-int8"][0], id="été")
    assert render_csv(replace(summary, worst={"small-int8": (utterance,)})).startswith("\ufeffsection,variant")


def test_numbers_that_are_none_are_left_empty(summary: Summary) -> None:
    base = summary.variants[0]
    assert base.speed is not None
    odd = replace(base, speed=replace(base.speed, rtf_median=float("nan"), rtf_total=float("inf")))
    lines = read(render_csv(replace(summary, variants=(odd,))))
    assert find(lines, section="speed", metric="rtf_median")["value"] == ""
    assert find(lines, section="speed", metric="rtf_total")["value"] == ""
