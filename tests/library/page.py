"""A report as a reader sees it."""

import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """A page that closes every element, runs no script and loads nothing."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.labels = ""  # the descriptions of the charts, one a line
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        assert not re.search(r"url\(|@import|https?://", html.split("</style>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object"), tag
        for name, value in attrs:
            assert not name.startswith("on"), attrs
            assert name not in ("src", "href", "srcset") or str(value).startswith("data:"), attrs
            self.labels += f"{value}\n" if name == "aria-label" else ""
        if tag not in ("br", "img", "link", "meta"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


def page_of(file: str | Path) -> Page:
    return Page(Path(file).read_text(encoding="utf-8"))
