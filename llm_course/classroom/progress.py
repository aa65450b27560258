"""Which exercises this copy of the notebooks has solved.

    python -m llm_course.classroom.progress [notebooks or folders]

Runs each exercise's cell as it is saved, in a process of its own for each notebook, and
prints a table. Nothing is stored: the notebooks are the state.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from llm_course.authoring.location import ROOT
from llm_course.classroom.exercise_cells import FormError, read_section


def judge_notebook(path: Path) -> list[dict[str, str]]:
    """One row for each exercise of a notebook: key, title, level, minutes, status,
    reason."""
    done = subprocess.run(
        [sys.executable, "-m", "llm_course.classroom.run", str(path)],
        cwd=path.parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip() or "it ended without a word").splitlines()[-1]
        raise FormError(f"{path.name}: its exercises cannot be run: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict[str, str]]) -> str:
    """The rows as text, one line each, columns aligned."""
    names = ["exercise", "title", "level", "minutes", "status"]
    lines = [names, *([row[name] for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    shown = []
    for i, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        reason = rows[i - 1]["reason"] if i else ""
        shown.append("  ".join([*cells, reason]).rstrip())
    return "\n".join(shown)


def main() -> int:
    """The command line. Exit status 1 when a notebook cannot be read."""
    parser = argparse.ArgumentParser(description="Show which exercises are solved.")
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    rows, problems = [], []
    for given in parser.parse_args().paths:
        paths = sorted(given.glob("*.ipynb")) if given.is_dir() else [given]
        if not paths or not given.exists():
            problems.append(f"{given}: no notebook there")
            continue
        for path in paths:
            try:
                if read_section(path):
                    rows += judge_notebook(path.resolve())
            except (FormError, ValueError) as error:
                problems.append(str(error))
    if rows:
        solved = sum(row["status"] == "solved" for row in rows)
        print(f"{table(rows)}\n\n{solved} of {len(rows)} solved")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return min(1, len(problems))


if __name__ == "__main__":
    sys.exit(main())
