"""Which exercises a copy of the notebooks has solved, or a whole class.

    python -m llm_course.classroom.progress [notebooks or folders]

Runs each exercise's cell as it is saved, in a process of its own for each notebook, and
prints a row as soon as it is known. A folder of folders is a class: a table at the end
has a row for each folder. Nothing is stored: the notebooks are the state.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from llm_course.authoring.location import ROOT
from llm_course.authoring.processes import print_anything
from llm_course.classroom.answers import read_answers
from llm_course.classroom.exercise_cells import FormError
from llm_course.classroom.supervise import LIMIT, Row, judge_notebook
from llm_course.errors import readable

Work = list[tuple[str, Path]]  # (a student, or "" for the reader, and a notebook)


def find(given: Path) -> Work:
    """The notebooks at `given`: a file, a folder of notebooks, or one of students'
    folders."""
    if not given.is_dir():
        return [("", given)]
    if own := sorted(given.glob("*.ipynb")):
        return [("", path) for path in own]
    return [
        (folder.name, path)
        for folder in sorted(given.iterdir())
        if folder.is_dir()
        for path in sorted(folder.rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in path.parts
    ]


def one_line(text: str) -> str:
    """Text of somebody else's notebook or folder, as a row may show it."""
    return readable(text, 600).replace("\n", "\\n")


def line(student: str, row: Row) -> str:
    """One row of the list, in columns that need not wait for the others."""
    answer = row.answer
    minutes = f"{answer.minutes} min" if answer.minutes else ""
    columns = f"{answer.key:<12}  {answer.title:<38}  {answer.level:<14}  {minutes:>6}"
    who = f"{student:<12}  " if student else ""
    return one_line(f"{who}{columns}  {row.status:<10}  {row.reason}".rstrip())


def table(rows: list[list[str]]) -> str:
    """Rows of text in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def class_tables(found: Iterable[tuple[str, Row]]) -> Iterator[str]:
    """A table for each chapter: the students down, the exercises across."""
    by_chapter: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    students = dict.fromkeys(student for student, _ in found)
    for student, row in found:
        chapter = by_chapter[row.answer.key[:2]]
        chapter.setdefault(student, {})[row.answer.key] = row.status
    for chapter in by_chapter.values():
        keys = list(dict.fromkeys(key for status in chapter.values() for key in status))
        rows = [["student", *keys, "solved"]]
        for student in students:
            status = chapter.get(student, {})
            solved = sum(value == "solved" for value in status.values())
            shown = [status.get(key, "-") for key in keys]
            rows.append([one_line(student), *shown, f"{solved} of {len(keys)}"])
        yield table(rows)


def judged(
    work: Work, limit: float, problems: list[str]
) -> Iterator[tuple[str, Path, Row]]:
    """Each row as it comes; what cannot be read is appended to `problems`."""
    for student, path in work:
        name = f"{student}, {path.name}" if student else path.name
        try:
            if read_answers(path):
                for row in judge_notebook(path.resolve(), limit):
                    yield student, path, row
        except FormError as error:
            said = str(error)
            said = said if said.startswith(name) else f"{name}: {said}"
            problems.append(one_line(said))


def count(work: Work) -> int:
    """How many answers there are, as far as they can be read."""
    total = 0
    for _, path in work:
        try:
            total += len(read_answers(path))
        except FormError:
            continue
    return total


def seconds(text: str) -> float:
    """The type of `--limit`."""
    value = float(text)
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def main() -> int:
    """The command line. Exit status 1 when a notebook cannot be read."""
    print_anything()
    parser = argparse.ArgumentParser(description="Show which exercises are solved.")
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    parser.add_argument(
        "--limit", type=seconds, default=LIMIT, help="seconds for one exercise"
    )
    args = parser.parse_args()
    work, problems = [], []
    for given in args.paths:
        found = find(given) if given.exists() else []
        work += found
        if not found:
            problems.append(f"{given}: no notebook there")
    rows = []
    with tqdm(total=count(work), disable=None, leave=False) as bar:
        for student, _, row in judged(work, args.limit, problems):
            rows.append((student, row))
            bar.write(line(student, row), file=sys.stdout)
            sys.stdout.flush()
            bar.update()
    report(rows)
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return min(1, len(problems))


def report(rows: list[tuple[str, Row]]) -> None:
    """What the rows come to: a class's tables, or one number."""
    if any(student for student, _ in rows):
        for text in class_tables(rows):
            print(f"\n{text}")
    elif rows:
        solved = sum(row.status == "solved" for _, row in rows)
        print(f"\n{solved} of {len(rows)} solved")


if __name__ == "__main__":
    sys.exit(main())
