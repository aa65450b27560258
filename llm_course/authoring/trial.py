"""Import new modules, and all that uses them, before they take the old ones' place.

A program: `trial.py ROOT`, with a request in JSON as its input, prints what failed.
`files` are the new modules' temporary files; `names` says for every new module which
names it or its forerunner defines.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any


class Fresh:
    """Finds the new modules in their temporary files."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """As the import system asks for it."""
        if file := self.files.get(name):
            return spec_from_loader(name, SourceFileLoader(name, file))
        return None


def complaint(action: Callable[..., Any], *given: Any) -> str | None:
    """What `action(*given)` raises, in one line; `sys.exit` counts."""
    try:
        action(*given)
    except BaseException as error:
        reason = (str(error).splitlines() or [""])[0]
        reason = re.sub(r" \([^()]*\.new\)", "", reason)
        return f"{type(error).__name__}: {reason}"
    return None


def uses(source: str, names: dict[str, list[str]]) -> Iterator[str]:
    """The import statements, at any depth, that need one of the new modules."""
    offered: dict[str, set[str]] = {}
    for module, defined in names.items():
        package, _, last = module.rpartition(".")
        offered.setdefault(package, set()).update([last, *defined])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            wanted = {alias.name for alias in node.names}
            if node.module in names or wanted & offered.get(node.module or "", set()):
                yield ast.unparse(node)
        elif isinstance(node, ast.Import) and names.keys() & {
            alias.name for alias in node.names
        }:
            yield ast.unparse(node)


def failures(root: Path, names: dict[str, list[str]]) -> dict[str, str]:
    """By module or statement, what no longer imports."""
    found = {name: complaint(import_module, name) for name in names}
    for module, defined in names.items():
        package = import_module(module.rpartition(".")[0])
        for name in {*package.__all__} & {*defined}:
            statement = f"from {package.__name__} import {name}"
            found[statement] = complaint(exec, statement, {})
    for path in sorted((root / "llm_course").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        statements = list(uses(path.read_text(encoding="utf-8"), names))
        if not statements or name in names:
            continue
        if path.stem != "__main__":
            found[name] = complaint(import_module, name)
        for text in statements:
            if not found.get(name):
                found[f"{name}: {text}"] = complaint(exec, text, {})
    return {name: reason for name, reason in found.items() if reason}


def main() -> None:
    """Print one line of JSON, and end at once, whatever the modules have started."""
    root, asked = Path(sys.argv[1]), json.load(sys.stdin)
    sys.path[0] = str(root)
    sys.meta_path.insert(0, Fresh(asked["files"]))  # type: ignore[arg-type]
    print("\n" + json.dumps(failures(root, asked["names"])), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
