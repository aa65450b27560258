"""The built site: whole, at home in one folder, and true to the notebooks."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

import pytest

from tests.notebook_tools import NOTEBOOKS, ROOT
from tests.site import built

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def site() -> Path:
    return built.build()


def elsewhere(target: str) -> bool:
    return bool(re.match(r"\w+:", target))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    lost = []
    for path, page in built.pages().items():
        for target in (link for link in page.links if not elsewhere(link)):
            name, _, anchor = urllib.parse.unquote(target).partition("#")
            file = (path.parent / name).resolve() if name else path
            there = built.pages().get(file)
            if not file.is_file() or (anchor and there and anchor not in there.ids):
                lost.append(f"{path.relative_to(site)}: {target}")
    assert lost == []
    assert sum(len(page.links) for page in built.pages().values()) > 1000


def test_pages_fetch_only_files_of_the_site(site: Path) -> None:
    for path, page in built.pages().items():
        for target in page.fetched:
            assert not elsewhere(target), f"{path.name} fetches {target}"
            file = path.parent / urllib.parse.unquote(target).partition("?")[0]
            assert file.is_file(), f"{path.name} fetches {target}"


def test_style_sheets_and_scripts_name_no_other_machine(site: Path) -> None:
    for path in [*site.rglob("*.css"), site / "_static" / "course.js"]:
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", text_of(path)), path


def test_every_picture_says_what_it_shows(site: Path) -> None:
    for path, page in built.pages().items():
        assert all(alt and alt.strip() for alt in page.alts), path
    figures = built.pages()[site / "notebooks" / "03_attention_gqa.html"].alts
    assert sum(len((alt or "").split()) > 5 for alt in figures) > 10


def test_no_formula_is_left_as_it_is_typed(site: Path) -> None:
    for path in (site / "notebooks").glob("*.html"):
        shown = re.sub(r"<(pre|script|code)\b.*?</\1>", "", text_of(path), flags=re.S)
        assert "$" not in re.sub(r"<[^>]*>", "", shown), path.name


def test_every_name_of_the_package_that_a_page_links_is_found() -> None:
    for path, page in built.pages().items():
        assert page.unresolved == [], path


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_to_download_is_the_stored_one(site: Path, notebook: Path) -> None:
    page = built.pages()[site / "notebooks" / f"{notebook.stem}.html"]
    assert f"../_sources/notebooks/{notebook.name}" in page.links
    copy = site / "_sources" / "notebooks" / notebook.name
    assert copy.read_bytes() == notebook.read_bytes()


def test_every_page_of_docs_and_every_notebook_is_in_the_contents(site: Path) -> None:
    front = {
        link.partition("#")[0] for link in built.pages()[site / "index.html"].links
    }
    pages = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert pages - {"index.html"} <= front
    assert {f"notebooks/{path.stem}.html" for path in NOTEBOOKS} <= front


def test_a_class_links_to_its_section_and_the_section_to_the_class(site: Path) -> None:
    reference = built.pages()[site / "reference" / "models.layers.html"]
    assert "../notebooks/01_rmsnorm.html#ch01-7" in reference.links
    chapter = built.pages()[site / "notebooks" / "01_rmsnorm.html"]
    assert (
        "../reference/models.layers.html#llm_course.models.layers.RMSNorm"
        in chapter.links
    )


def test_every_exported_name_is_linked_from_its_chapter(site: Path) -> None:
    from course_site.chapters import built_in

    for name, (chapter, section) in built_in().items():
        page = built.pages()[site / "notebooks" / f"{chapter.path.stem}.html"]
        module = name.rpartition(".")[0]
        assert f"../reference/{module}.html#llm_course.{name}" in page.links
        reference = built.pages()[site / "reference" / f"{module}.html"]
        assert (
            f"../notebooks/{chapter.path.stem}.html#{section.label}" in reference.links
        )


def test_predictions_and_answers_are_folded(site: Path) -> None:
    text = text_of(site / "notebooks" / "01_rmsnorm.html")
    shown = re.sub(r"<details.*?</details>", "", text, flags=re.S)
    assert "size 237 after 30 matrices" in text  # what the first prediction asks for
    assert "size 237 after 30 matrices" not in shown
    assert "Repetition turns a small factor" in text
    assert "Repetition turns a small factor" not in shown


def test_stubs_and_widgets_do_not_show_what_says_nothing(site: Path) -> None:
    for path in (site / "notebooks").glob("*.html"):
        assert "not done yet.\n" not in text_of(path)
        assert "google.colab" not in text_of(path)
    assert "this cell is interactive: " in text_of(site / "notebooks/05_generate.html")


def test_formulas_come_with_their_fonts(site: Path) -> None:
    from course_site.mathjax import TAKEN

    assert all((site / "_static" / "mathjax" / name).exists() for name in TAKEN)
    assert list((site / "_static" / "mathjax").rglob("*.woff"))
