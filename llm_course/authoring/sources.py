"""Source text for the exporter: reading notebooks, taking cells apart, formatting a
module."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_course.authoring.processes import run_python


class ExportError(ValueError):
    """A notebook that cannot be read or exported, with the reason in one sentence."""


@dataclass(frozen=True)
class Part:
    """One export cell: its docstring, its leading imports and the rest."""

    doc: str | None
    imports: list[str]
    body: str
    tree: ast.Module


def read_notebook(path: Path) -> Any:
    """The notebook in a file, each cell's source one string with `\\n` between lines.

    Raises ExportError for whatever is not a notebook of format 4.
    """
    try:
        nb = json.loads(path.read_text(encoding="utf-8"))
        for cell in nb["cells"]:
            lines = cell["source"]
            text = lines if isinstance(lines, str) else "".join([*lines])
            if not isinstance(lines, str | list) or not isinstance(
                cell["cell_type"], str
            ):
                raise TypeError("a cell without text")
            cell["source"] = re.sub(r"\r\n?", "\n", text)
        return nb
    except KeyError as error:
        reason = f"it has no {error}"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except (TypeError, AttributeError):
        reason = "its JSON is not that of cells"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise ExportError(f"{path.name} is not a notebook: {reason}")


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells, from the file on disk."""
    cells = read_notebook(path)["cells"]
    return [cell["source"] for cell in cells if cell["cell_type"] == "code"]


def parsed(source: str) -> ast.Module:
    """The tree of a cell. Raises ExportError with the reason and the line."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ExportError(f"{error.msg} in an export cell, at {line!r}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExportError(f"an export cell cannot be parsed: {error}") from None


def take_apart(source: str, notebook: str) -> Part:
    """Split one export cell. Comments between its imports stay with the import they
    precede."""
    try:
        tree = parsed(source)
    except ExportError as error:
        raise ExportError(f"{notebook}: {error}") from None
    # Only what Python takes for the end of a line: `splitlines` knows more
    lines, head, doc, imports = source.split("\n"), 0, None, []
    for i, node in enumerate(tree.body):
        if node.lineno <= head:
            raise ExportError(f"{notebook}: two statements in {lines[head - 1]!r}")
        text = "\n".join(lines[head : node.end_lineno]).strip("\n")
        if i == 0 and ast.get_docstring(tree) is not None:
            doc = text
        elif isinstance(node, ast.Import | ast.ImportFrom):
            if getattr(node, "module", None) != "__future__":
                imports.append(text)
        else:
            break
        head = node.end_lineno or head
    return Part(doc, imports, "\n".join(lines[head:]).strip("\n"), tree)


def defined_names(tree: ast.Module) -> list[str]:
    """Top-level classes, functions and assigned names, in order of definition."""
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def ruff_clean(code: str, root: Path, file: str) -> str:
    """Sort the imports, format, and refuse what `ruff check` objects to (undefined
    names, say)."""
    for options in (["check", "--select", "I", "--fix-only"], ["format"], ["check"]):
        run = run_python(
            *["-m", "ruff", *options, "-q", "--stdin-filename", file, "-"],
            cwd=root,
            text=code,
        )
        if run.returncode:
            raise ExportError((run.stdout + run.stderr).strip())
        code = code if options == ["check"] else run.stdout
    return code
