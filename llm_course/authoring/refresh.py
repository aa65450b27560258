"""Re-execute notebooks and write them in normal form. The only writer of stored
notebooks.

    python -m llm_course.authoring.refresh            all notebooks
    python -m llm_course.authoring.refresh FILES      some
    python -m llm_course.authoring.refresh --timing   store fresh measurements too
    python -m llm_course.authoring.refresh --check    exit 1 if one is not normal

This one command goes in order: `ruff format`, export, execute, write. Before a commit,
check with

    python -m llm_course.authoring.export --check
    python -m pytest --nbval notebooks/ tests/

A second run changes nothing: measured numbers stay as they are stored until `--timing`
asks for new ones. When a cell fails, its notebook is left as it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from traitlets import default

from llm_course.authoring.export import export_all
from llm_course.authoring.location import ROOT, SESSION, VERIFY
from llm_course.authoring.normal_form import normal_form
from llm_course.authoring.processes import print_anything, run_python
from llm_course.authoring.sources import ExportError, read_notebook


class ThisEnvironment(KernelSpecManager):
    """Kernels of the Python that runs this command, whatever kernels the user has
    installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the specification of this environment's kernel under any name."""
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class OwnKernel(AsyncKernelManager):
    """Starts kernels of `ThisEnvironment`."""

    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return ThisEnvironment()


def execute(nb: Any, folder: Path) -> None:
    """Run all cells of `nb` in a new kernel; the notebook object takes the outputs."""
    os.environ[VERIFY] = "1"  # the kernel inherits it
    os.environ.pop(SESSION, None)  # of the notebook that runs this, if one does
    client = NotebookClient(
        nb,
        kernel_manager_class=OwnKernel,
        timeout=300,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    client.execute()


def failed_cell(nb: Any) -> str:
    """Name the code cell that holds an error, counted from 1 as the counts in brackets
    are."""
    cells = [
        cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()
    ]
    for number, cell in enumerate(cells, 1):
        if any(out.output_type == "error" for out in cell.outputs):
            return f"code cell [{number}]"
    return "a cell"


def refresh(path: Path, check: bool = False, timing: bool = False) -> str | None:
    """Bring one notebook up to date. Returns what is wrong with it, or None."""
    try:
        old = path.read_text(encoding="utf-8")
        read_notebook(path)
        nb, start = nbformat.reads(old, 4), time.monotonic()
    except ExportError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"{path.name} is not a notebook: {error}"
    if check:
        same = normal_form(nb, path.stem) == old
        return None if same else f"{path.name} is not in normal form: run refresh on it"
    try:
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        execute(nb, path.resolve().parent)
    except Exception as error:  # a cell that raised or ran too long, a kernel that died
        return f"{path.name}: {failed_cell(nb)} failed; the file is unchanged.\n{error}"
    new = normal_form(nb, path.stem, before=nbformat.reads(old, 4), timing=timing)
    if new != old:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(new, encoding="utf-8", newline="\n")
        os.replace(fresh, path)
    word = "same" if new == old else "changed"
    print(f"{word}: {path.name} ({time.monotonic() - start:.0f} s)", flush=True)
    return None


def main() -> int:
    """The command line. Exit status 1 when a notebook failed or is not in normal
    form."""
    print_anything()
    parser = argparse.ArgumentParser(
        description="Re-execute notebooks and normalise them."
    )
    parser.add_argument(
        "files", nargs="*", type=Path, help="notebooks; all of them by default"
    )
    parser.add_argument(
        "--check", action="store_true", help="only say which are not normal"
    )
    parser.add_argument(
        "--timing", action="store_true", help="store new measurements too"
    )
    args = parser.parse_args()
    files = [file.resolve() for file in args.files] or sorted(
        (ROOT / "notebooks").glob("*.ipynb")
    )
    problems: list[str] = []
    if not args.check:
        run_python("-m", "ruff", "format", "-q", *files, cwd=ROOT)
        problems = export_all()
    if not problems:
        found = [refresh(path, args.check, args.timing) for path in files]
        problems = [problem for problem in found if problem]
    print("\n".join(problems) or f"{len(files)} notebooks are in normal form.")
    return min(1, len(problems))


if __name__ == "__main__":
    sys.exit(main())
