"""Parts of pages that are made from the notebooks and from the README."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import llm_course.engine
import llm_course.models
from course_site import reference
from course_site.chapters import ROOT, Chapter, Section, built_in, chapters

DOCS = ROOT / "docs"
TERMS = Path(__file__).with_name("terms.toml")
# The pages of docs/ under the titles of the site's contents, in order. A page that no
# list names comes last in "Using it".
USING = (
    "install",
    "online",
    "package",
    "lab",
    "experiments",
    "troubleshooting",
    "teaching",
)
CODE = ("structure", "parity", "speed", "project/contributing", "project/changelog")
LOOKING = ("terms", "reference/index")


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def readme_section(title: str) -> str:
    """The text under a heading of the README."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", readme(), re.M | re.S
    )
    if not found:
        raise ValueError(f"README.md has no section {title!r}")
    return found[1].strip()


def cell_of(page: Path, chapter: Chapter) -> str:
    """What the table of the chapters on a page says of one of them."""
    row = rf"^\|[^|]*notebooks/{re.escape(chapter.path.name)}\)[^|]*\|([^|]*)\|"
    found = re.search(row, page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else ""


def hours(minutes: int) -> str:
    """45 -> "45 min", 80 -> "1 h 20 min"."""
    whole, rest = divmod(minutes, 60)
    parts = [f"{whole} h"] * bool(whole) + [f"{rest} min"] * bool(rest)
    return " ".join(parts) or "0 min"


def chapter_map() -> str:
    """Each chapter with what it builds, how long it takes and what it needs."""
    lines = ["{.chapter-map}"]
    for chapter in chapters():
        builds = cell_of(ROOT / "README.md", chapter) or chapter.title
        sees = cell_of(DOCS / "index.md", chapter)
        needs = re.sub(r"\]\((\w+\.ipynb)", r"](notebooks/\1", chapter.needs)
        link = f"[{chapter.number} · {chapter.title}](notebooks/{chapter.path.name})"
        lines += [
            f"- **{link}**",
            "",
            f"  You build {builds}.",
            "",
            *([f"  You see {sees}.", ""] if sees else []),
            f"  {hours(chapter.reading)} of reading, {hours(chapter.exercises)} of"
            " exercises.",
            *(["", f"  *You need* {needs}."] if needs else []),
            "",
        ]
    reading = hours(sum(chapter.reading for chapter in chapters()))
    exercises = hours(sum(chapter.exercises for chapter in chapters()))
    lines.append(f"In all, {reading} of reading and {exercises} of exercises.")
    return "\n".join(lines)


def reference_link() -> str:
    """The reference is made by the site alone: a page of docs/ cannot link to it."""
    return (
        "[The reference](reference/index.md) has every class and function, with the"
        " section in which it is built."
    )


def contents() -> str:
    """The site's tables of contents, for the side bar."""
    listed = {*USING, *CODE, *LOOKING, "index"}
    others = sorted({path.stem for path in DOCS.glob("*.md")} - listed)
    parts = {
        "Chapters": [f"notebooks/{chapter.path.stem}" for chapter in chapters()],
        "Using it": [*USING, *others],
        "Looking up": [*LOOKING],
        "The code": [*CODE],
    }
    return "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n"
        + "\n".join(names)
        + "\n```\n"
        for title, names in parts.items()
    )


def terms() -> dict[str, list[tuple[Chapter, Section]]]:
    """Each term of terms.toml with its sections, as far as the notebooks are there."""
    by_number = {chapter.number: chapter for chapter in chapters()}
    found: dict[str, list[tuple[Chapter, Section]]] = {}
    for term, places in tomllib.loads(TERMS.read_text(encoding="utf-8")).items():
        for place in places:
            number, _, section = place.partition("-")
            if chapter := by_number.get(number):
                where = (chapter, chapter.section(section))
                found.setdefault(term, []).append(where)
    return found


def terms_of(label: str) -> list[str]:
    """The terms of the index that a section builds, or shows at work."""
    return [
        term
        for term, places in terms().items()
        if label in (section.label for _, section in places)
    ]


def link_to(chapter: Chapter, section: Section) -> str:
    return f"[{reference.words_for(chapter, section)}](#{section.label})"


def public() -> list[str]:
    """The exported names that the package offers, as "engine.kv_cache.KVCache"."""
    offered = {*llm_course.models.__all__, *llm_course.engine.__all__}
    return [name for name in built_in() if name.rpartition(".")[2] in offered]


def entries() -> dict[str, str]:
    """The index: terms, and the package's exported names, with links."""
    lines = {
        term: "; ".join(link_to(*place) for place in places)
        for term, places in terms().items()
    }
    for name in public():
        link = f"{{py:obj}}`{name.rpartition('.')[2]} <llm_course.{name}>`"
        lines[link] = link_to(*built_in()[name])
    return lines


def sort_key(term: str) -> str:
    return re.sub(r"\W|_", "", term.removeprefix("{py:obj}")).lower()


def term_index() -> str:
    """The index under its first letters."""
    by_letter: dict[str, list[str]] = defaultdict(list)
    for term, links in sorted(entries().items(), key=lambda e: sort_key(e[0])):
        by_letter[sort_key(term)[0].upper()].append(f"- {term}: {links}")
    return "\n\n".join(
        f"## {letter}\n\n" + "\n".join(lines) for letter, lines in by_letter.items()
    )
