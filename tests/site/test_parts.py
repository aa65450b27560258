"""What the site makes of notebooks and pages, part by part."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_markdown_cell, new_notebook

from tests.notebook_tools import NOTEBOOKS, ROOT
from tests.site import built  # noqa: F401  (finds course_site)

from course_site import mathjax, pages, staging, steps  # isort: skip
from course_site.chapters import Chapter, chapter_of, chapters  # isort: skip


def test_chapters_are_the_notebooks_in_order() -> None:
    assert [chapter.path for chapter in chapters()] == NOTEBOOKS


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.number)
def test_a_chapter_says_what_it_takes_and_needs(chapter: Chapter) -> None:
    assert chapter.reading >= 30
    assert chapter.exercises >= 30
    assert chapter.needs.strip()
    assert len({section.label for section in chapter.sections}) == len(chapter.sections)


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.number)
def test_the_plan_of_teaching_takes_the_times_of_the_chapters(chapter: Chapter) -> None:
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    times = map(pages.hours, (chapter.reading, chapter.exercises))
    assert f" | {chapter.number} | {' | '.join(times)} | " in text


@pytest.mark.parametrize(("which", "count"), [("Chapters 1 to 4", 4), ("all eight", 8)])
def test_the_sums_of_the_plan_are_right(which: str, count: int) -> None:
    text = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    taken = chapters()[:count]
    reading, exercises = (
        pages.hours(sum(getattr(chapter, kind) for chapter in taken))
        for kind in ("reading", "exercises")
    )
    assert f"{which} take {reading} of reading and {exercises} of exercises" in text


def test_the_front_page_says_what_each_chapter_builds_and_shows() -> None:
    text = pages.chapter_map()
    assert text.count("  You build ") == text.count("  You see ") == len(chapters())


def test_a_new_notebook_is_on_the_map_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = "# 42 · Something new\n\nYou need [01](01_rmsnorm.ipynb). Reading takes"
    cell = new_markdown_cell(f"{first} about 95 minutes.")
    path = tmp_path / "42_new.ipynb"
    path.write_text(nbformat.writes(new_notebook(cells=[cell])), encoding="utf-8")
    monkeypatch.setattr(pages, "chapters", lambda: [chapter_of(path)])
    text = pages.chapter_map()
    assert "[42 · Something new](notebooks/42_new.ipynb)" in text
    assert "1 h 35 min of reading" in text
    assert "You need* [01](notebooks/01_rmsnorm.ipynb)" in text
    assert "notebooks/42_new\n" in pages.contents()


def test_every_page_of_docs_is_in_the_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quite_new.md").write_text("# New\n", encoding="utf-8")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert "\nquite_new\n" in pages.contents()


def stems(term: str) -> list[str]:
    """The words of a term, up to its first comma, without their endings."""
    words = re.findall(r"\w+", term.partition(",")[0].lower())
    return [word[:6] for word in words if word not in ("a", "and", "by", "of", "the")]


def test_terms_stand_in_their_sections() -> None:
    lost = [
        f"{term}: {section.label} lacks {stem}"
        for term, places in pages.terms().items()
        for _, section in places
        for stem in stems(term)
        if stem not in section.text.lower()
    ]
    assert lost == []
    assert len(pages.terms()) > 60


def test_terms_cover_every_chapter() -> None:
    found = {chapter.number for ways in pages.terms().values() for chapter, _ in ways}
    assert found == {chapter.number for chapter in chapters()}


def test_a_term_of_a_section_that_is_gone_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "TERMS", tmp_path / "terms.toml")
    pages.TERMS.write_text('"a" = ["01-99"]\n', encoding="utf-8")
    with pytest.raises(KeyError, match="99"):
        pages.terms()
    pages.TERMS.write_text('"a" = ["99-1"]\n', encoding="utf-8")
    assert pages.terms() == {}  # a notebook that is not there yet


@pytest.mark.parametrize("name", ["generate", "RMSNorm", "KVCache"])
def test_the_index_has_what_the_package_offers(name: str) -> None:
    assert f"{{py:obj}}`{name} <llm_course." in pages.term_index()


@pytest.mark.parametrize(
    ("text", "file", "page", "expected"),
    [
        ("[a](install.md)", "docs/online.md", "online.md", "[a](install.md)"),
        ("[a](../README.md)", "docs/online.md", "online.md", "[a](index.md)"),
        (
            "[a](../CONTRIBUTING.md#set-up)",
            "docs/online.md",
            "online.md",
            "[a](project/contributing.md#set-up)",
        ),
        (
            "[a](docs/structure.md)",
            "CONTRIBUTING.md",
            "project/contributing.md",
            "[a](../structure.md)",
        ),
        (
            "[a](notebooks/01_rmsnorm.ipynb)",
            "README.md",
            "index.md",
            "[a](notebooks/01_rmsnorm.ipynb)",
        ),
        ("[a](https://x.org/)", "README.md", "index.md", "[a](https://x.org/)"),
        ("[a](#start)", "README.md", "index.md", "[a](#start)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(
    text: str, file: str, page: str, expected: str
) -> None:
    assert staging.site_links(text, file, page) == expected


@pytest.mark.parametrize("name", ["LICENSE", "notebooks/playground.ipynb"])
def test_a_file_that_the_site_does_not_have_is_a_link_to_the_repository(
    name: str,
) -> None:
    link = staging.site_links(f"[a](../{name})", "docs/online.md", "online.md")
    assert link == f"[a]({staging.address()}/blob/main/{name})"


def test_another_mathjax_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (mathjax.source() / mathjax.SCRIPT).is_file()
    monkeypatch.setattr(mathjax, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="SHA-256"):
        mathjax.source()


def test_what_the_build_makes_is_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {f"/docs/{name}/" for name in (*staging.MADE, "_build")} <= set(ignored)


def test_the_test_extra_brings_what_builds_the_site() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "llm_course[docs]" in project["project"]["optional-dependencies"]["test"]


def test_a_picture_from_elsewhere_gives_way_to_its_words() -> None:
    text = "[![Binder](https://x.org/badge.svg)](https://x.org/v2)"
    assert staging.site_links(text, "README.md", "index.md") == (
        "[Binder](https://x.org/v2)"
    )


@pytest.mark.slow
def test_the_steps_of_the_front_page_are_the_models() -> None:
    """Made anew by `python -m course_site.steps` in docs/."""
    stored = json.loads(steps.STORED.read_text(encoding="utf-8"))
    computed = steps.compute()
    assert [step["text"] for step in computed] == [step["text"] for step in stored]
    for new, old in zip(computed, stored, strict=True):
        shares = zip(new["guesses"], old["guesses"], strict=True)
        assert all(abs(a[1] - b[1]) <= 1 for a, b in shares)
        assert new["guesses"][0][0] == old["guesses"][0][0]


def test_the_front_page_shows_the_last_step_where_nothing_plays() -> None:
    text = steps.figure()
    last = json.loads(steps.STORED.read_text(encoding="utf-8"))[-1]
    assert f'<p class="steps-text">{last["text"]}</p>' in text
    assert "&lt;|im_end|&gt;" in text


def test_the_workflow_builds_what_ci_builds_and_knows_no_secret() -> None:
    text = (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert "python -m sphinx -W -b html docs docs/_build/html" in commands
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m sphinx -q -W -b html docs docs/_build/html\n" in ci
    assert "secrets" not in text
    assert jobs["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
