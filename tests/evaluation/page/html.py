"""A page taken apart, for tests: what it loads, its text, its ids, its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "hr", "input", "source"}
LOADING = {"src", "href", "xlink:href", "data", "action", "srcset", "poster"}


@dataclass
class Table:
    """Width of the head, worked out from spans, and the number of cells of each row of the body."""

    head: list[list[tuple[int, int]]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    @property
    def columns(self) -> int:
        taken: set[tuple[int, int]] = set()
        for r, row in enumerate(self.head):
            column = 0
            for width, height in row:
                while (r, column) in taken:
                    column += 1
                taken |= {(y, x) for y in range(r, r + height) for x in range(column, column + width)}
                column += width
        return 1 + max(x for _, x in taken)


class Page(HTMLParser):
    """Raises when tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tables: list[Table] = []
        self.pieces: list[str] = []
        self.marks: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        if self._open:
            raise ValueError(f"never closed: {self._open}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        for name in LOADING & set(given):
            (self.targets if given[name].startswith("#") else self.loads).append(given[name])
        if tag == "g" and given.get("class") == "mark":
            self.marks.append(given)
        self._table(tag, given)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            raise ValueError(f"</{tag}> closes {self._open[-3:]} in line {self.getpos()[0]}")
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.pieces.append(data)

    def _table(self, tag: str, given: dict[str, str]) -> None:
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr" and "thead" in self._open:
            self.tables[-1].head.append([])
        elif tag == "tr":
            self.tables[-1].rows.append(0)
        elif tag in {"td", "th"} and "thead" in self._open:
            self.tables[-1].head[-1].append((int(given.get("colspan", 1)), int(given.get("rowspan", 1))))
        elif tag in {"td", "th"}:
            self.tables[-1].rows[-1] += int(given.get("colspan", 1))
