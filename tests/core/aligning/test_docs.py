"""What docs/align.md says is so."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from kdcompress.aligning.aligned import parse_item
from kdcompress.aligning.segments import LEVEL, SegmentOptions
from kdcompress.commands.aligning import app

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "align.md").read_text(encoding="utf-8")


def test_every_option_is_there():
    known = {name for option in get_command(app).params for name in (*option.opts, *option.secondary_opts)}
    used = set(re.findall(r"`(--[a-z-]+)", PAGE))
    for line in re.findall(r"^kdcompress align .*$", PAGE, flags=re.MULTILINE):
        used |= set(re.findall(r"(?<!\S)(--?[a-z-]+)", line))
    assert len(used) > 5
    assert used <= known | {"--set"}


def test_the_line_can_be_read():
    (line,) = re.findall(r"```json\n(.*)\n```", PAGE)
    item = parse_item(line, "characters", "docs/align.md")
    assert item.words[item.segments[0].word].startswith(item.segments[0].unit)


def test_the_numbers_are_the_defaults():
    options = SegmentOptions()
    assert (options.silence, options.wrong, options.reach, options.after) == (0.03, 0.2, 0.2, 0.05)
    assert LEVEL == 0.15
    for told in ("30 ms or more", "even 200 ms inside", "at most 200 ms beyond", "15 % of the way", "50 ms after"):
        assert told in PAGE


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
