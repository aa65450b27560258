"""Putting exported modules in their places: all of them or none."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from llm_course.authoring import trial
from llm_course.authoring.processes import run_python
from llm_course.authoring.sources import ExportError, defined_names

PATIENCE = 300  # seconds for importing what an export touches


def install(texts: Mapping[str, str], root: Path) -> None:
    """Write each text in place of its module, once the package imports with all of
    them.

    `texts` maps a module ("models.layers") to its source. Raises ExportError, and
    leaves everything as it was, when a module does not import in a new process, or
    something that imports one of them no longer does.
    """
    files = {name: root / f"llm_course/{name.replace('.', '/')}.py" for name in texts}
    fresh = {
        name: file.with_name(f".{file.stem}.{os.getpid()}.new")
        for name, file in files.items()
    }
    try:
        for name, text in texts.items():
            fresh[name].write_text(text, encoding="utf-8", newline="\n")
        _refuse_broken(texts, files, fresh, root)
        for name, file in files.items():
            os.replace(fresh[name], file)
    except FileNotFoundError as error:
        raise ExportError(
            f"{error.filename} is gone: does another export run?"
        ) from None
    finally:
        for file in fresh.values():
            file.unlink(missing_ok=True)


def remove_leftovers(root: Path) -> None:
    """Delete the temporary files of exports and refreshes that were killed."""
    modules = (root / "llm_course").glob("*/.*.[0-9]*.new")
    for file in [*modules, *(root / "notebooks").glob(".*.ipynb.new")]:
        file.unlink(missing_ok=True)


def _refuse_broken(
    texts: Mapping[str, str],
    files: Mapping[str, Path],
    fresh: Mapping[str, Path],
    root: Path,
) -> None:
    names = {
        f"llm_course.{name}": sorted({*_names_in(text), *_names_in(_old(files[name]))})
        for name, text in texts.items()
    }
    new = {f"llm_course.{name}": str(file) for name, file in fresh.items()}
    broken = _tried(root, new, names)
    before = _tried(root, {}, names) if broken.keys() - new.keys() else {}
    for name, reason in broken.items():
        if name in new:
            raise ExportError(f"{name} does not import: {reason}")
        if name not in before:  # it worked until now
            raise ExportError(f"then {name} would no longer import: {reason}")


def _tried(
    root: Path, files: Mapping[str, str], names: Mapping[str, list[str]]
) -> dict[str, str]:
    request = json.dumps({"files": dict(files), "names": dict(names)})
    try:
        run = run_python(
            "-B", trial.__file__, root, cwd=root, text=request, timeout=PATIENCE
        )
        return json.loads(run.stdout.split("\n")[-2])
    except subprocess.TimeoutExpired:
        raise ExportError(f"importing it takes more than {PATIENCE} s") from None
    except (IndexError, ValueError):
        lines = run.stderr.strip().splitlines()
        reason = lines[-1] if lines else "it ends the process"
        raise ExportError(f"it does not import: {reason}") from None


def _old(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def _names_in(text: str) -> list[str]:
    try:
        return defined_names(ast.parse(text))
    except (SyntaxError, ValueError):
        return []  # an old module that was edited by hand
