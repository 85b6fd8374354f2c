"""What the page does in a browser: sorts, points, follows, changes its theme, and fits a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcompress_evaluation.report import render_html
from tests.evaluation.page.browser import CHROMIUM, Browser
from tests.evaluation.report_case import rich_summary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
SIZES = "[...document.querySelector('#variants tbody').rows].map(r => r.cells[6].dataset.value)"
PAGE = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(rich_summary(20)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    pytest.importorskip("websockets")
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found
        assert found.errors == []


def head(text: str, table: str = "#variants", which: int = 0) -> str:
    return f"[...document.querySelectorAll('{table} thead button')].filter(b => b.innerText.match(/{text}/))[{which}]"


def test_headings_sort_by_keyboard_and_missing_values_stay_last(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.ask(f"{head('Size')}.focus()")
    browser.press("Enter")
    assert browser.ask(f"{head('Size')}.closest('th').getAttribute('aria-sort')") == "ascending"
    up = browser.ask(SIZES)
    assert up[-1] == ""
    assert [int(v) for v in up[:-1]] == sorted(int(v) for v in up[:-1])
    browser.press("Enter")
    down = browser.ask(SIZES)
    assert down[-1] == ""
    assert [int(v) for v in down[:-1]] == sorted((int(v) for v in up[:-1]), reverse=True)


def test_headings_under_groups_sort_their_own_column(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.ask(f"{head('^p99$', '#speed', 1)}.click()")
    cells = "[...document.querySelector('#speed tbody').rows].map(r => r.cells[9].innerText)"
    shown = [float(text) for text in browser.ask(cells) if text != "–"]
    assert len(shown) == 18
    assert shown == sorted(shown)


def middle(browser: Browser, variant: int) -> tuple[float, float]:
    """Of a mark in the first plot, which is scrolled into view."""
    mark = f"document.querySelector('svg.chart .mark[data-variant=\"{variant}\"] use')"
    browser.ask(f"{mark}.scrollIntoView({{block: 'center'}})")
    box = f"(r => [r.left + r.width / 2, r.top + r.height / 2])({mark}.getBoundingClientRect())"
    x, y = browser.ask(box)
    return x, y


def test_pointing_tells_and_pressing_follows_through_the_page(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    x, y = middle(browser, 4)
    browser.move(x + 4, y - 3)
    assert browser.ask("tip.innerText").split("\n")[0] == "medium-oracle-int8"
    assert not browser.ask("tip.hidden")
    browser.click(x, y)
    assert browser.ask("document.querySelectorAll('.pin').length") == 3
    assert browser.ask("document.querySelectorAll('tr.pinned').length") > 5
    browser.click(x, y)
    assert browser.ask("document.querySelectorAll('.pin, .pinned').length") == 0
    browser.move(5, 5)
    assert browser.ask("tip.hidden")


def test_plots_are_walked_with_arrow_keys(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.ask("document.querySelector('svg.chart .mark[tabindex=\"0\"]').focus()")
    first = browser.ask("document.activeElement.dataset.told")
    browser.press("ArrowRight")
    second = browser.ask("document.activeElement.dataset.told")
    assert first != second
    assert browser.ask("tip.textContent") == second
    browser.press("Enter")
    assert browser.ask("document.querySelectorAll('.pin').length") >= 2
    browser.press("Escape")
    assert browser.ask("tip.hidden")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_sees_the_answer_at_once_and_never_scrolls_sideways(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, 390, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") == 390
    bottom = "document.querySelector('{}').getBoundingClientRect().bottom"
    assert browser.ask(bottom.format("h1")) < 250
    assert browser.ask(bottom.format(".figures")) < 844
    assert browser.ask("innerHeight") == 844
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") == 390


def test_theme_follows_the_system_until_it_is_chosen(browser: Browser, page: Path) -> None:
    browser.open(page, 390)
    light = browser.ask(PAGE)
    browser.ask("theme.click(); theme.click()")
    dark = browser.ask(PAGE)
    assert dark != light
    browser.ask("theme.click()")
    assert browser.ask(PAGE) == light
    browser.open(page, 390, dark=True)
    assert browser.ask(PAGE) == dark
