"""`pytest --nbval`, with the hook of conftest.py, fails on what it should and on
nothing else."""

from __future__ import annotations

import base64
import copy
import io
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llm_course.authoring.normal_form import SANITIZE_FILE, Rules
from tests.notebook_tools import (
    CURVE_CELL,
    EXPORT_CELL,
    TIMING_CELL,
    find,
    make_repo,
    read,
    run,
    write,
)

pytestmark = pytest.mark.slow

# As a first use shows them, when the weights are not in the cache yet.
PROGRESS = """
from tqdm import tqdm

for leave in (True, False):
    for _ in tqdm(range(3), desc="download", unit="B", leave=leave):
        pass
tqdm(total=1, desc="converting", bar_format="{desc}", leave=False).close()"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small repository whose one notebook was refreshed."""
    root = make_repo(tmp_path_factory.mktemp("repo"))
    done = run(root, "-m", "llm_course.authoring.refresh")
    assert done.returncode == 0, done.stdout + done.stderr
    yield root
    shutil.rmtree(root)


def blank(encoded: str) -> str:
    """A white picture of the same size."""
    buffer = io.BytesIO()
    size = Image.open(io.BytesIO(base64.b64decode(encoded))).size
    Image.new("RGB", size, "white").save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def corrupted(good: Any) -> dict[str, Any]:
    """Copies of a notebook, each with one thing changed, by name."""
    names = (
        "blank shifted picture_gone text count_of_outputs stale untagged_widget raises "
        "other_timing other_duration progress untouched"
    )
    nbs = {name: copy.deepcopy(good) for name in names.split()}
    picture = find(nbs["blank"], CURVE_CELL).outputs[0].data
    picture["image/png"] = blank(picture["image/png"])
    curve = find(nbs["shifted"], CURVE_CELL)
    curve.source = curve.source.replace(
        "shift = np.linspace(0, 6, 200), 0.0", "shift = np.linspace(0, 6, 200), 0.15"
    )
    del find(nbs["picture_gone"], CURVE_CELL).outputs[0].data["image/png"]
    find(nbs["text"], "root of 9").outputs[0].text = "root of 9 is 4\n"
    find(nbs["count_of_outputs"], "root of 9").outputs = []
    find(nbs["stale"], EXPORT_CELL).source += "  # changed"
    find(
        nbs["stale"], "export_notebook("
    ).source = (
        'from llm_course.authoring import export_notebook\n\nexport_notebook("stale")'
    )
    find(nbs["untagged_widget"], "IntSlider").metadata["tags"] = []
    find(nbs["raises"], "assert np.sin").source = "assert np.sin(x).max() < 0.9"
    timed = find(nbs["other_timing"], TIMING_CELL)
    timed.outputs[0].data["image/png"] = blank(timed.outputs[0].data["image/png"])
    slept = find(nbs["other_duration"], "slept").outputs[0]
    slept.text = re.sub(r"[\d.]+ s", "77.7 s", slept.text)
    find(nbs["progress"], "root of 9").source += PROGRESS
    return nbs


@pytest.fixture(scope="module")
def failures(repo: Path) -> dict[str, list[str]]:
    """For each corrupted notebook, the first lines of the cells that failed under
    nbval."""
    folder = repo / "copies"
    shutil.copytree(repo / "notebooks", folder)
    nbs = corrupted(read(folder / "01_tiny.ipynb"))
    for name, nb in nbs.items():
        write(folder / f"{name}.ipynb", nb)
    done = run(
        repo,
        "-m",
        "pytest",
        "--nbval",
        "-q",
        "--color=no",
        "--junitxml=report.xml",
        "copies",
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, list[str]] = {name: [] for name in nbs}
    for case in ElementTree.parse(repo / "report.xml").iter("testcase"):
        name = case.attrib["classname"].split(".")[1]
        for failure in case.iter("failure"):
            found.setdefault(name, []).append(failure.text or "")
    return found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("blank", "pixels differ by"),
        ("shifted", "pixels differ by"),
        ("picture_gone", "0 pictures are stored, 1 were drawn"),
        ("text", "root of 9 is 4"),
        ("count_of_outputs", "Unexpected output fields"),
        ("stale", "differs from this notebook"),
        ("untagged_widget", "lacks the tag `widget`"),
        ("raises", "AssertionError"),
    ],
)
def test_a_corrupted_notebook_fails(
    failures: dict[str, list[str]], name: str, reason: str
) -> None:
    assert len(failures[name]) == 1
    assert reason in failures[name][0]


@pytest.mark.parametrize(
    "name", ["untouched", "other_timing", "other_duration", "progress", "01_tiny"]
)
def test_what_may_differ_passes(failures: dict[str, list[str]], name: str) -> None:
    assert failures.get(name, []) == []


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("notebooks", ["--nbval"]),
        (".", ["--nbval", "-n", "2", "--dist=loadfile", "notebooks/"]),
    ],
)
def test_nbval_works_from_any_folder_and_in_workers(
    repo: Path, folder: str, options: list[str]
) -> None:
    before = read(repo / "notebooks" / "01_tiny.ipynb")
    done = run(repo, "-m", "pytest", "-q", *options, cwd=repo / folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout
    assert read(repo / "notebooks" / "01_tiny.ipynb") == before


def test_a_second_refresh_changes_nothing(repo: Path) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    before = path.read_bytes()
    done = run(repo, "-m", "llm_course.authoring.refresh", "notebooks/01_tiny.ipynb")
    assert "same: 01_tiny.ipynb" in done.stdout, done.stdout + done.stderr
    assert path.read_bytes() == before


def test_timing_is_stored_anew_only_when_asked_for(repo: Path) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    before = path.read_bytes()
    done = run(repo, "-m", "llm_course.authoring.refresh", "--timing", str(path))
    assert "changed: 01_tiny.ipynb" in done.stdout, done.stdout + done.stderr
    new = read(path)
    path.write_bytes(before)
    old = read(path)
    assert find(new, TIMING_CELL).outputs != find(old, TIMING_CELL).outputs
    assert find(new, CURVE_CELL) == find(old, CURVE_CELL)


def test_a_failing_cell_leaves_the_notebook_as_it_was(repo: Path) -> None:
    path = repo / "notebooks" / "01_tiny.ipynb"
    good, nb = path.read_bytes(), read(path)
    find(nb, "root of 9").source = "root(-1.0)"
    write(path, nb)
    broken = path.read_bytes()
    done = run(repo, "-m", "llm_course.authoring.refresh", str(path))
    after = path.read_bytes()
    path.write_bytes(good)
    assert done.returncode == 1
    assert "01_tiny.ipynb: code cell [2] failed" in done.stdout
    assert "ValueError" in done.stdout
    assert after == broken


def test_nbval_reads_the_same_rules_as_refresh() -> None:
    from nbval.plugin import get_sanitize_patterns

    rules = Rules.load()
    ours = [
        (pattern.pattern, replacement)
        for pattern, replacement in rules.scrub + rules.measure
    ]
    assert get_sanitize_patterns(SANITIZE_FILE.read_text(encoding="utf-8")) == ours


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("<object at 0x7f3a2b4c5d6e>", "<object at 0xADDRESS>"),
        ("in /tmp/ipykernel_1/2.py:3", "in PATH:3"),
        ("loaded ~/.cache/x/y.gguf", "loaded PATH"),
        ("'/home/someone/llm/a b'", "'PATH b'"),
        ("C:\\Users\\someone\\llm", "PATH"),
        ("[export] was written\nkept", "kept"),
        (
            "5 tokens/s, 1/2, q/k/v and/or W_up/x",
            "5 tokens/s, 1/2, q/k/v and/or W_up/x",
        ),
        ('<img src="data:image/png;base64,/9j/4AA+/a/b/c=">',) * 2,
        ("<b>x</b>/<i>y</i>",) * 2,
    ],
)
def test_what_is_stored_tells_nothing_about_the_machine(text: str, stored: str) -> None:
    assert Rules.load().stored(text) == stored


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("took 1.32 s", "took 0.90 s"),
        ("4.4 tokens/s", "19 tokens/s"),
        ("12.5 ms ± 3 µs", "13 ms ± 4 µs"),
        (" 40%|████      | 4/10 [00:01<00:02]\ndone", "done"),
    ],
)
def test_measurements_are_equal_when_compared(text: str, same: str) -> None:
    rules = Rules.load()
    assert rules.compared(text) == rules.compared(same)
    assert rules.compared("3 heads, 64 dims, 5 steps") == "3 heads, 64 dims, 5 steps"
