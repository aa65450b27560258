"""What README and docs/ show and link to is there, and is what the notebooks hold."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from tests.doc_tools import PAGES
from tests.notebook_tools import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def stored_pictures() -> set[bytes]:
    pictures = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    pictures.add(base64.b64decode(output["data"]["image/png"]))
    return pictures


def anchors(page: Path) -> set[str]:
    """What a link into a page may end in: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        if "://" not in target:
            file = page.parent / name if name else page
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), target


def test_every_page_is_one_link_from_the_readme() -> None:
    for page in PAGES[1:]:
        assert f"(docs/{page.name}" in README, page.name


def test_every_notebook_is_on_the_map():
    for path in NOTEBOOKS:
        assert f"(notebooks/{path.name})" in README
        front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
        assert re.search(rf"^\| \[\w+\]\(\.\./notebooks/{path.name}\)", front, re.M)


def test_the_readme_is_a_front_and_no_manual() -> None:
    assert len(README.split()) < 800


def test_the_picture_is_one_of_the_notebooks():
    """Redraw it: copy the stored picture of the notebook to docs/."""
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.read_bytes() in stored_pictures(), picture.name


def test_the_moving_picture_moves_and_is_small() -> None:
    """Made anew by `python -m tests.make_moving_picture`."""
    path = ROOT / "docs" / "playground.gif"
    assert f"](docs/{path.name})" in README
    assert path.stat().st_size < 600_000
    with Image.open(path) as picture:
        assert picture.n_frames > 20
        assert picture.info["loop"] == 0  # for ever


def test_the_readme_says_how_long_the_course_takes() -> None:
    """To the nearest hour of what the notebooks say of themselves."""
    reading = exercises = 0
    for path in NOTEBOOKS:
        cells = nbformat.read(path, 4).cells
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
        reading += int(re.findall(r"about (\d+) minutes", texts[0])[0])
        own = [
            re.match(r"### .*\n\n?\*[\w, ]+ · (\d+) minutes", text) for text in texts
        ]
        exercises += sum(int(found[1]) for found in own if found)
    said = re.findall(r"about (\d+) (?:hours of reading|more for all)", README)
    assert [
        abs(int(hours) - total / 60) <= 0.5
        for hours, total in zip(said, (reading, exercises), strict=True)
    ] == [True, True]


def test_the_pages_about_browsers_name_every_notebook() -> None:
    page = (ROOT / "docs" / "online.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert re.search(rf"^\| {path.stem} \|(.* GB \|){{2}}", page, re.M), path.stem
        assert f"/blob/main/notebooks/{path.name})" in page
