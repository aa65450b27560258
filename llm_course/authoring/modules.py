"""The modules that notebooks export, as their cells have them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path

from llm_course.authoring.chapters import notebooks_of
from llm_course.authoring.sources import (
    ExportError,
    code_cells,
    defined_names,
    ruff_clean,
    take_apart,
)

MARK = re.compile(r"\A#\|\s*export\s+((?:models|engine)\.[a-z][a-z0-9_]*)[ \t]*\n")
ANY_MARK = re.compile(r"^\s*#\s*\|\s*export\b.*$", re.MULTILINE)
NO_FILE = re.compile(r"con|prn|aux|nul|(com|lpt)\d")  # names of devices on Windows
HEADER = "# Exported from notebooks/{}.ipynb; edit there, then run its last cell."


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
            f"{HEADER.format(self.notebook)}\n{docs[0]}",
            "\n".join(dict.fromkeys(imports)),
            f"__all__ = [{public}]",
        ]
        code = "\n\n\n".join([*top, *(part.body for part in parts if part.body)]) + "\n"
        return ruff_clean(code, root, self.file)

    def is_current(self, root: Path, text: str) -> bool:
        path = root / self.file
        return path.exists() and path.read_bytes().replace(b"\r", b"") == text.encode()


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
            last = match[1].partition(".")[2]
            if iskeyword(last) or NO_FILE.fullmatch(last):
                raise ExportError(f"{path.name}: no module can be called {last!r}")
            found.append((match[1], source[match.end() :].strip("\n")))
    if not found:
        raise ExportError(f"{path.name} has no `#| export` cell")
    return found


def collect(folder: Path, chosen: Collection[int] | None = None) -> dict[str, Module]:
    """Every module that the notebooks of a folder export, in chapter order."""
    modules: dict[str, Module] = {}
    try:
        paths = notebooks_of(folder, chosen)
    except ValueError as error:
        raise ExportError(str(error)) from None
    for path in paths:
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


def stale(modules: Iterable[Module], root: Path) -> tuple[dict[str, str], list[str]]:
    """(the new text of each module that differs, a line for each that is not sound)."""
    texts, problems = {}, []
    for module in modules:
        try:
            text = module.render(root)
            if not module.is_current(root, text):
                texts[module.name] = text
        except ExportError as error:
            problems.append(f"kept {module.file} as it was: {error}")
    return texts, problems
