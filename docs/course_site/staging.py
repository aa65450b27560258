"""Pages that Sphinx finds in `docs/` only while it builds, and what pages hold there.

Sphinx reads one folder. Notebooks and two pages of the repository's root lie elsewhere,
and are copied in. `docs/*.md` are read where they are, with their links to other files
of the repository turned into links of the site.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import PurePosixPath

from course_site import pages, reference, steps
from course_site.chapters import ROOT, chapters

DOCS = ROOT / "docs"
MADE = ("notebooks", "project", "reference")  # folders of docs/ that are not committed
ROOT_PAGES = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
REMOTE_PICTURE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
# A comment, and the table right under it that stands for the part on GitHub.
PART = re.compile(r"^<!-- site: (\w+) ?(.*?) -->$(?:\n\|.*)*", re.MULTILINE)


def address() -> str:
    """The repository's public address."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["urls"]["Repository"]


def stage() -> None:
    """Bring the folders `MADE` up to date; what has not changed is not touched."""
    wanted = (
        {f"notebooks/{c.path.name}": c.path.read_bytes() for c in chapters()}
        | {place: (ROOT / name).read_bytes() for name, place in ROOT_PAGES.items()}
        | {
            f"reference/{name}": text.encode()
            for name, text in reference.pages().items()
        }
    )
    for folder in MADE:
        for path in (DOCS / folder).rglob("*"):
            if path.is_file() and path.relative_to(DOCS).as_posix() not in wanted:
                path.unlink()
    for name, content in wanted.items():
        path = DOCS / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def place_of(name: str) -> str | None:
    """Where the site has a file of the repository, by its path there."""
    if name in ROOT_PAGES:
        return ROOT_PAGES[name]
    if name == "README.md":
        return "index.md"
    if name in {f"notebooks/{chapter.path.name}" for chapter in chapters()}:
        return name
    if name.startswith("docs/") and (ROOT / name).is_file():
        return name.removeprefix("docs/")
    return None


def site_links(text: str, file: str, page: str) -> str:
    """The Markdown of a repository's file, its relative links those of a page."""

    def link(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if "://" in target:
            return match[0]
        folder = PurePosixPath(file).parent
        name = os.path.normpath(folder / target).replace(os.sep, "/")
        if place := place_of(name):
            start = PurePosixPath(page).parent
            new = os.path.relpath(place, start).replace(os.sep, "/")
        elif (ROOT / name).exists():
            new = f"{address()}/blob/main/{name}"
        else:
            return match[0]
        return before + new + after

    # A picture from elsewhere would be fetched by whoever reads: its words stay.
    return LINK.sub(link, REMOTE_PICTURE.sub(r"\1", text))


def on_source_read(app: object, docname: str, source: list[str]) -> None:
    """Markdown pages: links, and the parts that are made from other files."""
    by_page = {place: name for name, place in ROOT_PAGES.items()}
    page = f"{docname}.md"
    if docname.startswith(("notebooks/", "reference/")):
        return
    source[0] = site_links(source[0], by_page.get(page, f"docs/{page}"), page)
    source[0] = PART.sub(lambda part: made(page, part[1], part[2]), source[0])


def made(page: str, kind: str, argument: str) -> str:
    """What stands on the site in the place of a comment `<!-- site: kind -->`."""
    if kind == "readme":
        return site_links(pages.readme_section(argument), "README.md", page)
    return {
        "chapters": pages.chapter_map,
        "contents": pages.contents,
        "terms": pages.term_index,
        "reference": pages.reference_link,
        "steps": steps.figure,
    }[kind]()
