"""What the README shows and links to is there, and is what the notebooks hold."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat

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


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert len(local) >= 6
    assert not [target for target in local if not (ROOT / target).is_file()]


def test_every_notebook_is_on_the_map():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"(notebooks/{path.name})" in README


def test_the_picture_is_one_of_the_notebooks():
    """Redraw it: copy the stored picture of the notebook to docs/."""
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.read_bytes() in stored_pictures(), picture.name


def test_the_python_example_runs(smollm2):
    """The example as written, with the loaded model in place of a second load."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    printed: list[str] = []
    load = "load_pretrained("
    assert code.count(load) == 1
    scope = {"print": printed.append, "__loaded": smollm2}
    exec(re.sub(r"load_pretrained\(.*\)", "__loaded", code), scope)
    assert "Tokyo" in printed[0]
