"""Write the cells marked `#| export <module>` of notebooks/*.ipynb to the package.

    python -m llm_course.authoring.export            write what changed
    python -m llm_course.authoring.export --check    exit 1, name modules that differ

A cell whose first line is `#| export models.layers` goes to
`llm_course/models/layers.py`. The module's docstring is the string that the first such
cell starts with. Imports at the top of a cell move to the top of the module. The last
cell of each notebook calls `export_notebook`, which does the same for that notebook
alone; like the command, it reads the file on disk.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from llm_course.authoring.location import ROOT, check_copy, verifying
from llm_course.authoring.sources import (
    ExportError,
    code_cells,
    defined_names,
    install,
    ruff_clean,
    take_apart,
)

MARK = re.compile(r"\A#\|\s*export\s+((?:models|engine)\.[a-z][a-z0-9_]*)[ \t]*\n")
ANY_MARK = re.compile(r"^\s*#\s*\|\s*export\b.*$", re.MULTILINE)


@dataclass
class Module:
    """One module of the package, as its notebook has it."""

    name: str
    notebook: str
    cells: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"llm_course/{self.name.replace('.', '/')}.py"

    def render(self, root: Path) -> str:
        """The text of the module, formatted; ExportError when it is not sound
        Python."""
        parts = [take_apart(source, self.notebook) for source in self.cells]
        names = [name for part in parts for name in defined_names(part.tree)]
        header = (
            f"# Exported from notebooks/{self.notebook}.ipynb; edit there, then run its"
            " last cell."
        )
        imports = [
            "from __future__ import annotations",
            *(i for p in parts for i in p.imports),
        ]
        public = ", ".join(
            f'"{name}"' for name in dict.fromkeys(names) if name[0] != "_"
        )
        docs = [part.doc for part in parts if part.doc]
        if len(docs) != 1:
            raise ExportError(
                f"one export cell must start with a docstring, but {len(docs)} do"
            )
        top = [
            f"{header}\n{docs[0]}",
            "\n".join(dict.fromkeys(imports)),
            f"__all__ = [{public}]",
        ]
        code = "\n\n\n".join([*top, *(part.body for part in parts if part.body)]) + "\n"
        return ruff_clean(code, root, self.file)

    def is_current(self, root: Path, text: str) -> bool:
        path = root / self.file
        return path.exists() and path.read_text(encoding="utf-8") == text


def marked_cells(path: Path) -> list[tuple[str, str]]:
    """(module, source) of each export cell of one notebook."""
    found = []
    for source in code_cells(path):
        match = MARK.match(source + "\n")
        marks = ANY_MARK.findall(source)
        if len(marks) != bool(match):
            raise ExportError(
                f"{path.name}: {marks[-1].strip()!r} is not `#| export models.<name>`"
                " or `#| export engine.<name>` on the first line of its cell"
            )
        if match:
            found.append((match[1], source[match.end() :].strip("\n")))
    if not found:
        raise ExportError(f"{path.name} has no `#| export` cell")
    return found


def collect(folder: Path) -> dict[str, Module]:
    """Every module that the notebooks of a folder export, in chapter order."""
    modules: dict[str, Module] = {}
    for path in sorted(folder.glob("*.ipynb")):
        for name, source in marked_cells(path):
            module = modules.setdefault(name, Module(name, path.stem))
            if module.notebook != path.stem:
                raise ExportError(
                    f"{module.notebook} and {path.stem} both export {name}"
                )
            module.cells.append(source)
    if not modules:
        raise ExportError(f"no notebooks in {folder}")
    return modules


def in_import_order(modules: Iterable[Module]) -> list[Module]:
    """The modules, each after those it imports: a new one is tried beside what is
    written by then."""
    named = {module.name: module for module in modules}
    imports = {
        name: [
            other
            for other in named
            if other != name
            and re.search(rf"^from llm_course\.{other} ", "\n".join(module.cells), re.M)
        ]
        for name, module in named.items()
    }
    try:
        return [named[name] for name in TopologicalSorter(imports).static_order()]
    except CycleError:
        return list(named.values())  # the trial import says what is wrong with it


def export_all(root: Path = ROOT, check: bool = False) -> list[str]:
    """Write the modules that changed, or only compare. Returns one line for each
    problem."""
    try:
        modules = collect(root / "notebooks")
    except ExportError as error:
        return [str(error)]
    problems = []
    for module in in_import_order(modules.values()):
        try:
            text = module.render(root)
            if module.is_current(root, text):
                continue
            if check:
                problems.append(
                    f"stale: {module.file} differs from {module.notebook}.ipynb"
                )
            else:
                install(text, root, module.file)
                print(f"wrote {module.file}")
        except ExportError as error:
            problems.append(f"kept {module.file} as it was: {error}")
    known = {module.file for module in modules.values()} | {
        "llm_course/models/__init__.py",
        "llm_course/engine/__init__.py",
    }
    for package in ("models", "engine"):
        for path in sorted((root / "llm_course" / package).rglob("*.py")):
            if (name := path.relative_to(root).as_posix()) not in known:
                problems.append(f"stray: {name} is exported by no notebook")
    return problems


def unsaved_cells(path: Path, history: list[str]) -> list[str]:
    """Names whose export cell was last run in a version that the saved notebook does
    not hold."""
    saved = {source.strip() for source in code_cells(path)}
    last: dict[tuple[str, str], str] = {}
    for source in history:
        if match := MARK.match(source):
            try:
                names = defined_names(ast.parse(source))
            except SyntaxError:
                continue
            last.update({(match[1], name): source.strip() for name in names})
    return [name for (_, name), source in last.items() if source not in saved]


def export_notebook(name: str) -> None:
    """Export the notebook `name` ("01_rmsnorm") from inside it; its last cell calls
    this.

    The `[export]` lines are dropped when outputs are compared: an export that wrote and
    one that found nothing to do then leave the same stored output.
    """
    here = Path.cwd() / f"{name}.ipynb"
    if not check_copy():
        print("Nothing was exported.")
        return
    path = here if here.exists() else ROOT / "notebooks" / here.name
    if not verifying() and (names := unsaved_cells(path, _history())):
        print(
            f"Not saved yet: {', '.join(names)}. Save the notebook, then run this cell"
            " again."
        )
        return
    try:
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
    for module in in_import_order(modules):
        text = module.render(ROOT)
        if not module.is_current(ROOT, text):
            if verifying():
                raise ExportError(
                    f"{module.file} differs from this notebook; export it first"
                )
            _refuse_second_home(module)
            install(text, ROOT, module.file)
            print(f"[export] {module.file} was written just now.")
            if f"llm_course.{module.name}" in sys.modules:
                print(
                    "[export] Restart the kernel: it still holds the old"
                    f" llm_course.{module.name}."
                )
        count = "1 cell" if len(module.cells) == 1 else f"{len(module.cells)} cells"
        print(f"{module.file} matches this notebook ({count}).")


def _refuse_second_home(module: Module) -> None:
    for other in sorted((ROOT / "notebooks").glob("*.ipynb")):
        try:
            targets = {target for target, _ in marked_cells(other)}
        except ExportError:
            continue  # a notebook that exports nothing does not stand in the way
        if module.name in targets and other.stem != module.notebook:
            raise ExportError(f"{other.name} exports {module.name} too")


def _history() -> list[str]:
    from IPython import get_ipython

    shell = get_ipython()
    return list(shell.user_ns.get("_ih", [])) if shell else []


def main() -> int:
    """The command line. Exit status 1 when a module is stale, stray or refused."""
    parser = argparse.ArgumentParser(
        description="Export notebook cells to the package."
    )
    parser.add_argument(
        "--check", action="store_true", help="compare only; exit 1 on a difference"
    )
    problems = export_all(check=parser.parse_args().check)
    print("\n".join(problems) or "Every exported module matches its notebook.")
    return min(1, len(problems))


if __name__ == "__main__":
    sys.exit(main())
