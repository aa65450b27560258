"""Every stored notebook keeps the rules, and each rule is shown to catch a notebook
that does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from llm_course.authoring.normal_form import normal_form
from tests import notebook_rules as rules
from tests.notebook_tools import (
    CELLS,
    CURVE_CELL,
    EXPORT_CELL,
    NOTEBOOKS,
    PLAYGROUND,
    TIMING_CELL,
    code,
    find,
    read,
    tiny_notebook,
    write,
)

# (notebook, first line) of the cells whose output is not compared: measured times, and
# no others.
UNCOMPARED: set[tuple[str, str]] = {
    (
        "05_generate",
        "# Random draws come out differently on another kind of processor: your output may",
    ),
    (
        "05_generate",
        (
            "# The draws differ on another kind of processor: your picture may differ, the"
            " asserts"
        ),
    ),
    ("05_generate", "def seconds(S: int) -> float:"),
    ("06_kv_cache", "ratios = []"),
    ("07_speed", "@torch.inference_mode()"),
    ("07_speed", "@njit(**OPTIONS)"),
    ("07_speed", "rounds = ["),
    ("07_speed", "def as_written(words, x, out):"),
    ("07_speed", "def one_pass(model, length: int, rows: int):"),
    ("07_speed", "def seconds(model, prompt: torch.Tensor, k: int) -> float:"),
    ("07_speed", "fused_model = FusedModel(model).eval()"),
    ("07_speed", "groups = {"),
    ("07_speed", 'models = {"as built": model, **packed}'),
    (
        "07_speed",
        "# The draws differ on another kind of processor, and so do the numbers.",
    ),
    (
        "07_speed",
        "ones = np.ones(100_000_000, np.float32)  # 400 MB: larger than any cache",
    ),
    (
        "07_speed",
        'print("kind          MB  tokens/s  x as built  share of the plain sum\'s bandwidth")',
    ),
    ("08_batching", "REQUESTS, TOKENS = 40, 6"),
    (
        "08_batching",
        'RULES = SYSTEM + "".join(f" Rule {i}: be brief and polite." for i in range(50))',
    ),
    ("08_batching", "def stall(budget: int) -> str:"),
    (
        "08_batching",
        "def seconds_a_step(rows: int, length: int = 200, steps: int = 6) -> float:",
    ),
    (
        "08_batching",
        "def tokens_a_second(rows: int, together: bool = False) -> float:",
    ),
    ("06_kv_cache", "def best(run, repeats: int = 3) -> float:"),
    ("06_kv_cache", "fig = viz.roofline("),
    ("06_kv_cache", "prompt = STORY.repeat(1, 9)  # [1, 243]"),
    ("06_kv_cache", "long_text = STORY.repeat(1, 40)"),
}


# Rules for chapters: the playground exports nothing, and is not read from the beginning.
OF_CHAPTERS = (rules.last_cell, rules.reading_time)


def test_the_playground_keeps_the_rules_that_are_not_for_chapters() -> None:
    nb = read(PLAYGROUND)
    kept = [*rules.RULES_FOR_NOTEBOOKS, *rules.RULES_OF_READING]
    others = [rule for rule in kept if rule not in OF_CHAPTERS]
    assert len(others) == len(kept) - 2
    assert [line for rule in others for line in rule(PLAYGROUND, nb)] == []
    assert rules.uncompared(PLAYGROUND) == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_rules(path: Path) -> None:
    assert rules.offences(path) == []


# Notebooks that keep the rules of reading; the others have yet to.
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", rules.RULES_OF_READING, ids=lambda rule: rule.__name__)
def test_notebook_reads_well(path: Path, rule: rules.Rule) -> None:
    assert rule(path, read(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short(path: Path) -> None:
    for cell in rules.long_cells(read(path), rules.LONG_LINES):
        lines = rules.lines_of(cell)
        warnings.warn(
            f"{path.stem}: {rules.label(cell)} has {lines} lines", stacklevel=1
        )


def test_cells_whose_output_is_not_compared_are_listed() -> None:
    assert set().union(*map(rules.uncompared, NOTEBOOKS)) == UNCOMPARED


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """The small notebook with outputs, in normal form, as if it had been executed."""
    nb = tiny_notebook()
    output = nbformat.v4.new_output
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj+YAAAAABJRU5ErkJggg=="
    outputs = {
        "root of 9": output("stream", text="root of 9 is 3\n"),
        CURVE_CELL: output(
            "display_data", data={"image/png": pixel, "text/plain": "<Figure>"}
        ),
        "IntSlider": output(
            "execute_result",
            data={
                "text/plain": "IntSlider(value=0)",
                "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
            },
        ),
        "slept": output("stream", text="slept 1.2345 s; 3.45678 tokens/s\n"),
    }
    for source, out in outputs.items():
        find(nb, source).outputs = [out]
    path = tmp_path / "01_tiny.ipynb"
    path.write_text(normal_form(nb, path.stem), encoding="utf-8")
    return path


def test_the_good_notebook_keeps_the_rules(good: Path) -> None:
    assert rules.offences(good) == []
    assert rules.uncompared(good) == {("01_tiny", TIMING_CELL.splitlines()[0])}


def set_count(nb: Any, count: int | None) -> None:
    find(nb, "root of 9").execution_count = count


def stream(nb: Any, text: str, name: str = "stdout") -> None:
    find(nb, "root of 9").outputs = [
        nbformat.v4.new_output("stream", name=name, text=text)
    ]


def data(nb: Any, **kinds: str) -> None:
    out = nbformat.v4.new_output(
        "display_data", data={k.replace("_", "/"): v for k, v in kinds.items()}
    )
    find(nb, "root of 9").outputs = [out]


def longer(nb: Any, lines: int) -> None:
    find(nb, "root of 9").source += "\n" + "\n".join(
        f"x = {i}" for i in range(lines - 1)
    )


def add_cells(nb: Any, number: int) -> None:
    nb.cells[0:0] = [
        nbformat.v4.new_code_cell(f"x = {i}", id=f"m{i}") for i in range(number)
    ]


def set_in(nb: Any, where: str, /, **fields: Any) -> None:
    find(nb, where).update(fields)


CORRUPTIONS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("unrun cell", lambda nb: set_count(nb, None), "execution counts"),
    ("repeated count", lambda nb: set_count(nb, 1), "execution counts"),
    ("warning", lambda nb: stream(nb, "deprecated", "stderr"), "an error or a warning"),
    (
        "error",
        lambda nb: set_in(
            nb, "root of 9", outputs=[nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
        ),
        "an error or a warning",
    ),
    ("bare widget", lambda nb: set_in(nb, "assert np.sin", source="x = 1"), "without a static figure"),
    (
        "bare widget without its tag",
        lambda nb: (
            set_in(nb, "assert np.sin", source="x = 1"),
            find(nb, "IntSlider").metadata.pop("tags"),
        ),
        "without a static figure",
    ),
    ("long cell", lambda nb: longer(nb, 33), "33 lines"),
    ("many cells", lambda nb: add_cells(nb, 100), "at most 100"),
    ("large file", lambda nb: stream(nb, "a" * 3_000_000), "bytes"),
    ("no export at the end", lambda nb: nb.cells.pop(), "does not end with export_notebook"),
    ("exports another", lambda nb: nb.cells[-1].update(source='export_notebook("02")'), "does not end"),
    ("home folder", lambda nb: stream(nb, "read /home/someone/model.gguf"), "a path or an address"),
    ("address", lambda nb: data(nb, text_plain="<obj at 0x7f00deadbeef>"), "a path or an address"),
    ("last digits", lambda nb: stream(nb, "loss 2.71828"), "prints 2.71828"),
    ("last digits in a table", lambda nb: data(nb, text_html="<td>-0.0123456</td>"), "0.0123456"),
    ("jpeg", lambda nb: data(nb, image_jpeg="AA=="), "stores image/jpeg"),
    ("metadata", lambda nb: set_in(nb, "root of 9", metadata={"collapsed": True}), "normal form"),
    ("kernel of one machine", lambda nb: nb.metadata.kernelspec.update(name="my-env"), "normal form"),
    ("widget state", lambda nb: nb.metadata.update(widgets={"x": 1}), "normal form"),
    ("empty cell", lambda nb: nb.cells.insert(1, nbformat.v4.new_code_cell("")), "normal form"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("corrupt", "reason"), [c[1:] for c in CORRUPTIONS], ids=[c[0] for c in CORRUPTIONS]
)
def test_a_rule_catches(good: Path, corrupt: Callable[[Any], Any], reason: str) -> None:
    nb = read(good)
    corrupt(nb)
    write(good, nb)
    assert reason in "\n".join(rules.offences(good))


READING: list[tuple[str, rules.Rule, str, str]] = [
    (
        "a heading in mid-cell",
        rules.sections,
        "Text.\n\n## 2 · More\n\nText.",
        "middle",
    ),
    ("a wall of text", rules.sections, "word " * 281, "281 words"),
    ("a notebook that is no link", rules.links, "As in notebook 02.", "is no link"),
    ("a link to nowhere", rules.links, "[02](02_ropes.ipynb)", "which is no notebook"),
    (
        "an answer in the open",
        rules.predictions,
        "**Predict, then run.** What?\n\n",
        "not folded",
    ),
    (
        "no reading time",
        rules.reading_time,
        "# Title",
        "does not say 'about 0 minutes'",
    ),
]


@pytest.mark.parametrize(
    ("rule", "text", "reason"), [r[1:] for r in READING], ids=[r[0] for r in READING]
)
def test_a_rule_of_reading_catches(
    good: Path, rule: rules.Rule, text: str, reason: str
) -> None:
    nb = read(good)
    nb.cells[0].source = text
    assert reason in "\n".join(rule(good, nb))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", 1),
        ("#| fig-alt: A sine.\n", 1),  # says too little
        (
            "#| fig-alt: A sine curve over one period, from 0 up to 1\n",
            1,
        ),  # no sentence
        ("#| fig-alt: A sine curve that rises from 0 to 1.\n", 0),
        ("#| fig-alt: A sine curve that rises\n#|   from 0 to 1.\n", 0),
    ],
)
def test_a_figure_says_what_it_shows(good: Path, line: str, found: int) -> None:
    nb = read(good)
    for cell in code(nb):
        cell.outputs = [] if cell.source != CURVE_CELL else cell.outputs
    find(nb, CURVE_CELL).source = line + CURVE_CELL
    good.write_text(normal_form(nb, good.stem), encoding="utf-8")
    assert len(rules.alt_texts(good, read(good))) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("loss 2.718, 0.0001234, 19,007,744, 100000.0, 12.50, v1.2.34567, 3.10.12", 0),
        ("2.7183", 1),
        ("[-1.2345, 1.0]", 1),
        ("took 1.23456 s at 12.3456 tokens/s", 0),
    ],
)
def test_significant_digits(good: Path, text: str, found: int) -> None:
    nb = read(good)
    stream(nb, text)
    assert len(rules.digits(good, nb)) == found


@pytest.mark.parametrize(
    "tag", ["timing", "nbval-ignore-output", "nbval-skip", "raises-exception"]
)
def test_a_tag_that_switches_the_comparison_off_is_noticed(
    good: Path, tag: str
) -> None:
    nb = read(good)
    find(nb, EXPORT_CELL).metadata["tags"] = [tag]
    find(nb, "root of 9").source = "# NBVAL_SKIP\n" + find(nb, "root of 9").source
    write(good, nb)
    lines = {line for _, line in rules.uncompared(good)}
    assert lines == {
        EXPORT_CELL.splitlines()[0],
        "# NBVAL_SKIP",
        TIMING_CELL.splitlines()[0],
    }


def test_normal_form_keeps_sources_and_order(good: Path) -> None:
    assert [cell.source for cell in code(read(good))] == list(CELLS)
