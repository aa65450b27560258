"""A class: copies, their points, and who has solved what."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from llm_course.classroom.answers import Answer, answers_of, read_answers
from llm_course.classroom.exercise_cells import FormError, read_section, section_of
from llm_course.classroom.progress import line
from llm_course.classroom.run import judge_answer, judge_cells, missing
from llm_course.classroom.student import (
    instructor_copy,
    points,
    student_copy,
    without_solutions,
    write_copies,
)
from llm_course.classroom.supervise import Row
from llm_course.exercises.judging import NotSolved, check
from llm_course.exercises.records import FAILING, NOT_YET, SOLVED
from tests.notebook_tools import NOTEBOOKS, ROOT, run

FIRST = NOTEBOOKS[0]
SECTION = read_section(FIRST)
assert SECTION is not None
CELLS = {cells.key: cells for cells in SECTION.exercises}
SOLVED_FOLD = CELLS["01.fold"].solution
CALL = 'check("01.fold", fold)'


def exercises(*own: str, heading: str = "### Exercise 1 · Fold\n\n*easy · 5 minutes*"):
    """The cells of a section with one exercise, whose code cells are `own`."""
    return [
        new_markdown_cell("## Exercises"),
        new_code_cell(SECTION.imports),
        new_markdown_cell(heading),
        *map(new_code_cell, own),
    ]


def verdict(*own: str):
    (answer,) = answers_of(exercises(*own))
    return judge_answer(answer)


@pytest.mark.parametrize(
    "cells",
    [
        (f"{SOLVED_FOLD}\n\n{CALL}\n",),
        (f"{SOLVED_FOLD}\n\n{CALL}  # mine\n\nprint('done')",),
        (f"{SOLVED_FOLD}\n\ncheck(\n    '01.fold',\n    fold,\n)",),
        (SOLVED_FOLD, CALL),
        (SOLVED_FOLD, "fold(torch.ones(2), torch.ones(2, 2))", CALL, "1 / 0"),
        (f"%%time\n{SOLVED_FOLD}\n\n{CALL}",),
        (f"%matplotlib inline\n{SOLVED_FOLD}\ndisplay(3)\n!true\n{CALL}",),
        (f"{SOLVED_FOLD}\n\n{CALL}\nraise ValueError",),
        (f"solve = lambda weight, matrix: weight * matrix\n\n{CALL[:-5]}solve)",),
        (f"from llm_course.exercises import check\n{SOLVED_FOLD}\n{CALL}",),
    ],
)
def test_a_cell_is_read_as_a_notebook_reads_it(cells: tuple[str, ...]) -> None:
    assert verdict(*cells).status == SOLVED


@pytest.mark.parametrize(
    ("cells", "status", "said"),
    [
        ((SOLVED_FOLD, CALL, CALL), "unreadable", "2 cells call check"),
        ((f"def fold(:\n\n{CALL}",), FAILING, "SyntaxError"),
        ((f"def fold(w, m):\n{CALL}",), FAILING, "IndentationError"),
        ((CALL,), FAILING, "NameError"),
        ((f"if False:\n    ...\n'''\n{CALL}\n'''",), "unreadable", "does not come to"),
        ((f"import sys\nsys.exit()\n{CALL}",), FAILING, "SystemExit"),
        ((f"raise KeyboardInterrupt\n{CALL}",), FAILING, "KeyboardInterrupt"),
        ((CELLS["01.fold"].stub + CALL,), NOT_YET, ""),
    ],
)
def test_what_cannot_be_run_says_why(
    cells: tuple[str, ...], status: str, said: str
) -> None:
    found = verdict(*cells)
    assert found.status == status
    assert said in found.reason


def test_headings_and_solutions_may_be_gone_and_others_added() -> None:
    cells = exercises(f"{SOLVED_FOLD}\n\n{CALL}", heading="### my notes")
    (answer,) = answers_of([new_code_cell("1 / 0"), *cells])
    assert (answer.title, answer.minutes) == ("", "")
    assert judge_answer(answer).status == SOLVED
    (answer,) = answers_of(cells[1:])  # nor is the heading of the section needed
    assert judge_answer(answer).status == SOLVED


def test_an_exercise_without_a_check_is_named() -> None:
    answers = read_answers(FIRST)
    assert [a.key for a in answers] == list(CELLS)
    assert [(a.title, a.level, a.minutes) for a in answers] == [
        (c.title, c.level, str(c.minutes)) for c in CELLS.values()
    ]
    (gone,) = missing(answers[1:])
    assert judge_answer(gone).status == "unreadable"
    assert judge_answer(gone).reason == 'no cell ends in check("01.fold", …)'


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"cells": [1]}'])
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "01.ipynb"
    path.write_bytes(content)
    for read in (read_answers, read_section):
        with pytest.raises(FormError, match=r"01\.ipynb is not a notebook"):
            read(path)


def write_answers(path: Path, **answers: str) -> Path:
    """A copy of notebook 01 in which some exercises' cells are replaced."""
    nb = nbformat.read(FIRST, as_version=4)
    for name, source in answers.items():
        nb.cells[CELLS[f"01.{name}"].places[0]].source = source
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(nb), encoding="utf-8")
    return path


def progress(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "llm_course.classroom.progress", *map(str, arguments)]
    return run(ROOT, *command)


def rows_of(text: str) -> dict[str, str]:
    return {
        line.split()[0]: line for line in text.splitlines() if line.startswith("01.")
    }


@pytest.mark.slow
def test_an_answer_that_hangs_or_ends_the_process_fails_alone(tmp_path: Path) -> None:
    call = '\n\n\ncheck("01.{0}", {1})'.format
    path = write_answers(
        tmp_path / "01_rmsnorm.ipynb",
        fold="input()\n" + SOLVED_FOLD + call("fold", "fold"),
        grouped="def norm(*_):\n    while True:\n        print(1)"
        + call("grouped", "norm"),
        lean="import os\n\ndef lean(*_):\n    os._exit(0)" + call("lean", "lean"),
        backward=CELLS["01.backward"].solution
        + call("backward", "rms_norm_backward")
        + "\nprint('that is all')",
        hunt="import sys\n\ndef hunt(f):\n    sys.exit(1)" + call("hunt", "hunt"),
    )
    done = progress(path, "--limit", "5")
    assert done.returncode == 0, done.stderr
    rows = rows_of(done.stdout)
    assert rows["01.fold"].endswith("failing     its cell waits for input")
    assert rows["01.grouped"].endswith("failing     its cell takes more than 5 s")
    assert rows["01.lean"].endswith("failing     its cell ends the process")
    assert rows["01.backward"].endswith("solved")
    assert "raised SystemExit" in rows["01.hunt"]
    assert done.stdout.endswith("1 of 5 solved\n")


@pytest.mark.slow
def test_progress_shows_a_class_as_a_table(tmp_path: Path) -> None:
    """Copies that `student` made, in one folder a student, and one that is broken."""
    write_copies([FIRST], tmp_path)
    release = tmp_path / "release" / "llm_course" / FIRST.name
    source = tmp_path / "source" / "llm_course" / FIRST.name
    for student, copy in (("ada", source), ("ben", release)):
        target = tmp_path / "submitted" / student / "llm_course" / FIRST.name
        target.parent.mkdir(parents=True)
        target.write_bytes(copy.read_bytes())
    broken = tmp_path / "submitted" / "cyd" / FIRST.name
    broken.parent.mkdir()
    broken.write_text("[]", encoding="utf-8")
    done = progress(tmp_path / "submitted")
    assert done.returncode == 1
    assert "cyd, 01_rmsnorm.ipynb" in done.stderr
    table = done.stdout.split("\n\n")[-1].splitlines()
    assert table[0].split() == ["student", *CELLS, "solved"]
    assert table[1].split() == ["ada", *["solved"] * 5, "5", "of", "5"]
    assert table[2].split() == ["ben", *["not", "yet"] * 5, "0", "of", "5"]
    assert "Fold the weight away" in done.stdout  # rows, with titles from the headings


def test_what_a_student_wrote_cannot_draw_on_the_terminal() -> None:
    answer = Answer("01.fold", title="\x1b]0;title\x07 \u202e")
    shown = line("ben\x1b[2J\n", Row(answer, FAILING, "\x1b[31m" + "x" * 10_000))
    assert shown.isprintable()
    assert "\\x1b[31mxxx" in shown
    assert len(shown) < 1000


@pytest.mark.slow
def test_progress_says_when_there_is_nothing_to_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        done = progress(path)
        assert done.returncode == 1
        assert "no notebook there" in done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_copies_for_a_class(path: Path) -> None:
    """Sources that pass their checks, and students' copies that differ by the solutions
    alone."""
    nb = nbformat.read(path, as_version=4)
    source, release = instructor_copy(nb), student_copy(nb)
    for made in (source, release):
        nbformat.validate(made)
        texts = "\n".join(cell.source for cell in made.cells)
        assert "solution is folded away" not in texts
        assert texts.count("The cell below each exercise holds its check.") == 1
        assert "<summary>Solution" not in texts
        assert "ends in its check" not in texts
    section = section_of(nb)
    marked = [nbgrader_cells(made, solution=True) for made in (source, release)]
    for cells, cell, stub in zip(section.exercises, *marked, strict=True):
        assert judge_cells(section, cells, cell.source).status == SOLVED
        assert judge_cells(section, cells, stub.source).status == NOT_YET
        assert stub.source == without_solutions(cell.source)
        assert "SOLUTION" not in stub.source
    graded = nbgrader_cells(release, grade=True)
    for cells, cell in zip(section.exercises, graded, strict=True):
        meta = cell.metadata["nbgrader"]
        assert meta["locked"]
        assert meta["points"] == points(cells) >= 1
        assert cell.source == f'check("{cells.key}", {cells.name}, graded=True)'
    answers = answers_of(release.cells)
    assert [answer.key for answer in answers] == [c.key for c in section.exercises]
    assert len(source.cells) == len(release.cells) == len(nb.cells)


def nbgrader_cells(nb: Any, **wanted: bool) -> list[Any]:
    return [
        cell
        for cell in nb.cells
        if wanted.items() <= cell.metadata.get("nbgrader", {}).items()
    ]


def test_a_graded_check_raises_unless_the_exercise_is_solved(capsys) -> None:
    names: dict[str, Any] = {}
    exec(f"from torch import Tensor\n{SOLVED_FOLD}", names)
    check("01.fold", names["fold"], graded=True)

    def warns(weight, matrix):
        print("no points for this stream", file=sys.stderr)
        return names["fold"](weight, matrix)

    check("01.fold", warns, graded=True)
    with pytest.raises(NotSolved, match=r"01\.fold: no points yet"):
        check("01.fold", lambda weight, matrix: matrix, graded=True)
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("01.fold: solved") == 2
    assert "01.fold: not right yet." in said.out


@pytest.mark.slow
def test_copies_of_some_chapters(tmp_path: Path) -> None:
    command = ("-m", "llm_course.classroom.student", str(tmp_path), "--chapters")
    done = run(ROOT, *command, "1-3")
    names = sorted(p.name for p in (tmp_path / "release/llm_course").iterdir())
    assert names == [path.name for path in NOTEBOOKS[:3]]
    assert "--check --chapters 1,2,3" in done.stdout
    check = ("-m", "llm_course.authoring.export", "--check", "--chapters", "1,2,3")
    assert run(ROOT, *check).returncode == 0
    refused = run(ROOT, *command, "1-99")
    assert refused.returncode == 1
    assert "no notebook of chapter" in refused.stderr
    assert "Traceback" not in refused.stderr


def submit(course: Path, student: str, **bodies: str) -> None:
    """The released copy, in which some functions have another body."""
    nb = nbformat.read(course / "release/llm_course" / FIRST.name, as_version=4)
    source = nbformat.read(course / "source/llm_course" / FIRST.name, as_version=4)
    for cell, solved in zip(nb.cells, source.cells, strict=True):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "").removeprefix("01-")
        if name in bodies:
            cell.source = bodies[name] or solved.source
    path = course / "submitted" / student / "llm_course" / FIRST.name
    path.parent.mkdir(parents=True)
    path.write_text(nbformat.writes(nb), encoding="utf-8")


@pytest.mark.slow
def test_nbgrader_gives_the_points(tmp_path: Path) -> None:
    """The three commands of docs/teaching.md, on the exercises of notebook 01."""
    write_copies([FIRST], tmp_path)
    path = tmp_path / "source/llm_course" / FIRST.name
    nb = json.loads(path.read_text(encoding="utf-8"))
    start = next(
        i for i, c in enumerate(nb["cells"]) if "## Exercises" in "".join(c["source"])
    )
    nb["cells"] = nb["cells"][start:-1]  # the rest runs for a minute
    path.write_text(json.dumps(nb), encoding="utf-8")
    nbgrader(tmp_path, "generate_assignment", "llm_course", "--force")
    submit(tmp_path, "solved", fold="", grouped="", lean="", backward="", hunt="")
    submit(tmp_path, "half", fold="", grouped="")
    loop = "def grouped_rms_norm(*_):\n    while True:\n        pass"
    submit(tmp_path, "loop", fold="", grouped=loop)
    limit = "--ExecutePreprocessor.timeout=10"
    nbgrader(tmp_path, "autograde", "llm_course", limit)
    nbgrader(tmp_path, "export")
    lines = (tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    found = {
        row["student_id"]: (float(row["raw_score"]), float(row["max_score"]))
        for row in (
            dict(zip(names, line.split(","), strict=True)) for line in lines[1:]
        )
    }
    worth = {key: points(cells) for key, cells in CELLS.items()}
    total = sum(worth.values())
    assert found == {
        "solved": (total, total),
        "half": (worth["01.fold"] + worth["01.grouped"], total),
        "loop": (worth["01.fold"], total),
    }


def nbgrader(course: Path, *command: str) -> None:
    done = run(ROOT, "-m", "nbgrader", *command, cwd=course)
    assert done.returncode == 0, done.stderr
