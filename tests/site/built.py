"""The website, built, and its pages taken apart."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from tests.notebook_tools import ROOT, run

SITE = ROOT / "docs" / "_build" / "html"
sys.path.insert(0, str(ROOT / "docs"))  # course_site, as docs/conf.py finds it


def build() -> Path:
    """The folder of the site, brought up to date; a warning is an error."""
    command = ("-m", "sphinx", "-q", "-W", "-b", "html", "docs", str(SITE))
    done = run(ROOT, *command)
    if done.returncode:
        shutil.rmtree(SITE, ignore_errors=True)  # the next build says it again
    assert done.returncode == 0, done.stderr
    return SITE


class Page(HTMLParser):
    """What a page links to and fetches, its ids, its pictures, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.alts: list[str | None] = []
        self.unresolved: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for key, value in attrs if key in ("id", "name") and value}
        if tag == "a" and (target := found.get("href")):
            self.links.append(target)
        if tag in ("img", "script", "source", "iframe") and (it := found.get("src")):
            self.fetched.append(it)
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon"):
            self.fetched.append(found["href"] or "")
        if tag == "img":
            self.alts.append(found.get("alt"))
        kind = found.get("class") or ""
        if tag == "code" and "xref py" in kind and "a" not in self._open:
            self.unresolved.append(kind)
        if tag in ("a", "code"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("a", "code") and tag in self._open:
            self._open.remove(tag)


@cache
def pages() -> dict[Path, Page]:
    """Every page of the built site."""
    return {
        path: Page(path)
        for path in sorted(SITE.rglob("*.html"))
        if "_static" not in path.parts  # templates of the theme
    }
