"""Write the cells marked `#| export <module>` of notebooks/*.ipynb to the package.

    python -m llm_course.authoring.export                  write what changed
    python -m llm_course.authoring.export --check          exit 1, name what differs
    python -m llm_course.authoring.export --chapters 1-3   of these notebooks alone

A cell whose first line is `#| export models.layers` goes to
`llm_course/models/layers.py`. The module's docstring is the string that the first such
cell starts with. Imports at the top of a cell move to the top of the module. The last
cell of each notebook calls `export_notebook`, which does the same for that notebook
alone; like the command, it reads the file on disk.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection
from pathlib import Path

from llm_course.authoring.chapters import chapter_of, chapters
from llm_course.authoring.install import install, remove_leftovers
from llm_course.authoring.location import ROOT, check_copy, notebook_path, verifying
from llm_course.authoring.modules import (
    HEADER,
    MARK,
    Module,
    collect,
    marked_cells,
    stale,
)
from llm_course.authoring.processes import print_anything
from llm_course.authoring.sources import ExportError, code_cells, defined_names, parsed

DEFINITION = re.compile(r"^(?:async +def|def|class) +(\w+)|^(\w+)(?: *:.*?)? *=", re.M)


def export_all(
    root: Path = ROOT, check: bool = False, chosen: Collection[int] | None = None
) -> list[str]:
    """Write the modules that changed, or only compare. Returns one line for each
    problem."""
    try:
        modules = collect(root / "notebooks", chosen)
    except ExportError as error:
        return [str(error)]
    texts, problems = stale(modules.values(), root)
    files = [modules[name].file for name in texts]
    if check:
        problems += [
            f"stale: {modules[name].file} differs from {modules[name].notebook}.ipynb"
            for name in texts
        ]
    else:
        remove_leftovers(root)
        try:
            install(texts, root)
            print("".join(f"wrote {file}\n" for file in files), end="")
        except ExportError as error:
            problems.append(f"kept {', '.join(files)} as it was: {error}")
    return problems + strays(root, {module.file for module in modules.values()}, chosen)


def strays(
    root: Path, known: set[str], chosen: Collection[int] | None = None
) -> list[str]:
    """A line for each module that no notebook exports. Of other chapters than the
    `chosen` nothing is said."""
    problems = []
    for package in ("models", "engine"):
        for path in sorted((root / "llm_course" / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if name in known or path.name == "__init__.py":
                continue
            home = re.match(HEADER.format(r"(.+)"), path.read_text("utf-8", "replace"))
            if home is None:
                problems.append(f"stray: {name} is exported by no notebook")
            elif chosen is None or chapter_of(home[1]) in chosen:
                problems.append(
                    f"stray: {name} is exported by no notebook; {home[1]}.ipynb wrote"
                    " it. A course of some chapters is checked with --chapters 1-3"
                )
    return problems


def unsaved_cells(path: Path, history: list[str]) -> list[str]:
    """Names whose export cell was last run in a version that the saved notebook does
    not hold."""
    saved = {source.strip() for source in code_cells(path)}
    last: dict[tuple[str, str], str] = {}
    for source in history:
        if match := MARK.match(source):
            try:
                names = defined_names(parsed(source))
            except ExportError:  # what it was meant to define
                names = [a or b for a, b in DEFINITION.findall(source)]
            last.update({(match[1], name): source.strip() for name in names})
    return [name for (_, name), source in last.items() if source not in saved]


def export_notebook(name: str) -> None:
    """Export the notebook `name` ("01_rmsnorm") from inside it; its last cell calls
    this.

    The `[export]` lines are dropped when outputs are compared: an export that wrote and
    one that found nothing to do then leave the same stored output.
    """
    path = notebook_path(name)
    if not check_copy(path):
        print("Nothing was exported.")
        return
    if not path.is_file():
        path = ROOT / "notebooks" / path.name
    try:
        if not verifying() and (names := unsaved_cells(path, _history())):
            print(
                f"Not saved yet: {', '.join(names)}. Save the notebook, then run this"
                " cell again."
            )
            return
        _export_saved(path)
    except ExportError as error:
        if verifying():
            raise
        print(f"Not exported, the package stays as it was: {error}")


def _export_saved(path: Path) -> None:
    cells = marked_cells(path)
    targets = dict.fromkeys(target for target, _ in cells)
    modules = [
        Module(t, path.stem, [s for target, s in cells if target == t]) for t in targets
    ]
    texts = {module.name: module.render(ROOT) for module in modules}
    changed = [m for m in modules if not m.is_current(ROOT, texts[m.name])]
    if verifying() and changed:
        raise ExportError(
            f"{changed[0].file} differs from this notebook; export it first"
        )
    if not verifying():
        _refuse_second_home(path, targets)
        remove_leftovers(ROOT)
        install({module.name: texts[module.name] for module in changed}, ROOT)
    for module in modules:
        if module in changed:
            print(f"[export] {module.file} was written just now.")
            if f"llm_course.{module.name}" in sys.modules:
                print(
                    "[export] Restart the kernel: it still holds the old"
                    f" llm_course.{module.name}."
                )
        count = "1 cell" if len(module.cells) == 1 else f"{len(module.cells)} cells"
        print(f"{module.file} matches this notebook ({count}).")


def _refuse_second_home(path: Path, targets: Collection[str]) -> None:
    for other in sorted((ROOT / "notebooks").glob("*.ipynb")):
        try:
            both = {target for target, _ in marked_cells(other)} & {*targets}
        except ExportError:
            continue  # a notebook that exports nothing does not stand in the way
        if both and other.stem != path.stem:
            raise ExportError(f"{other.name} exports {min(both)} too")


def _history() -> list[str]:
    from IPython import get_ipython

    shell = get_ipython()
    return list(shell.user_ns.get("_ih", [])) if shell else []


def main() -> int:
    """The command line. Exit status 1 when a module is stale, stray or refused."""
    print_anything()
    parser = argparse.ArgumentParser(
        description="Export notebook cells to the package."
    )
    parser.add_argument(
        "--check", action="store_true", help="compare only; exit 1 on a difference"
    )
    parser.add_argument(
        "--chapters", type=chapters, help="some notebooks alone, such as 1-3"
    )
    args = parser.parse_args()
    problems = export_all(check=args.check, chosen=args.chapters)
    print("\n".join(problems) or "Every exported module matches its notebook.")
    return min(1, len(problems))


if __name__ == "__main__":
    sys.exit(main())
