"""Source text for the exporter: taking cells apart, formatting a module, installing it
safely."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Loads a new file under the module's own name, in a process of its own.
TRIAL = """
import importlib, importlib.util, sys
from importlib.machinery import SourceFileLoader
root, name, path = sys.argv[1:]
sys.path.insert(0, root)
importlib.import_module(name.rpartition(".")[0])
spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path))
sys.modules[name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


class ExportError(ValueError):
    """A notebook that cannot be exported, with the reason."""


@dataclass(frozen=True)
class Part:
    """One export cell: its docstring, its leading imports and the rest."""

    doc: str | None
    imports: list[str]
    body: str
    tree: ast.Module


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells, from the file on disk."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (json.JSONDecodeError, KeyError) as error:
        raise ExportError(f"{path.name} is not a notebook: {error}") from None
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def take_apart(source: str, notebook: str) -> Part:
    """Split one export cell. Comments between its imports stay with the import they
    precede."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ExportError(
            f"{notebook}: {error.msg} in an export cell, at {line!r}"
        ) from None
    lines, head, doc, imports = source.splitlines(), 0, None, []
    for i, node in enumerate(tree.body):
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
        command = [
            sys.executable,
            "-m",
            "ruff",
            *options,
            "-q",
            "--stdin-filename",
            file,
            "-",
        ]
        run = subprocess.run(
            command, input=code, capture_output=True, text=True, cwd=root
        )
        if run.returncode:
            raise ExportError((run.stdout + run.stderr).strip())
        code = code if options == ["check"] else run.stdout
    return code


def install(text: str, root: Path, file: str) -> None:
    """Put `text` in the module's place, whole or not at all, once it imports in a new
    process."""
    path = root / file
    fresh = path.with_name(f".{path.stem}.{os.getpid()}.new")
    name = file.removesuffix(".py").replace("/", ".")
    try:
        fresh.write_text(text, encoding="utf-8")
        command = [sys.executable, "-B", "-c", TRIAL, str(root), name, str(fresh)]
        run = subprocess.run(command, capture_output=True, text=True, cwd=root)
        if run.returncode:
            reason = (run.stderr.strip().splitlines() or ["the process died"])[-1]
            raise ExportError(f"it does not import: {reason}")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
