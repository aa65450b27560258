"""Run every mutant's tests, without starting Python and PyTorch anew for each.

    python -m tests.mutation_runner report.json

This process imports the slow libraries and nothing of the course, then forks: a child
replaces the source of one module while it is imported, and runs the tests named by the
mutant. The child named BASELINE changes nothing and runs them all. Nothing is written
into the package.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from tests.mutants import Mutant
from tests.mutants.batching import BATCHING
from tests.mutants.cache import CACHE
from tests.mutants.checkpoints import CHECKPOINTS
from tests.mutants.engine import ENGINE
from tests.mutants.guessing import GUESSING
from tests.mutants.native import NATIVE
from tests.mutants.network import NETWORK
from tests.mutants.parts import PARTS

ROOT = Path(__file__).parents[1]
MUTANTS = (
    *PARTS,
    *NETWORK,
    *ENGINE,
    *CACHE,
    *NATIVE,
    *GUESSING,
    *BATCHING,
    *CHECKPOINTS,
)
BASELINE = "baseline"
COMPILED = [
    f"engine.{name}" for name in ("kernels", "rows", "native_attention", "step")
]
SECONDS = 120  # a child that takes longer hangs


def source_of(mutant: Mutant) -> Path:
    return ROOT / "llm_course" / Path(*mutant.module.split(".")).with_suffix(".py")


def mutated(mutant: Mutant) -> str:
    """The module's source with the change made. Raises ValueError unless there is one
    place for it."""
    source = source_of(mutant).read_text("utf-8")
    if (found := source.count(mutant.search)) != 1:
        raise ValueError(
            f"{mutant.search!r} stands {found} times in {mutant.module}, not once"
        )
    return source.replace(mutant.search, mutant.replace)


class MutatedModule(SourceFileLoader):
    """Finds and loads one module from another source than its file's."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(f"llm_course.{mutant.module}", str(source_of(mutant)))
        self.source = mutated(mutant)

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:  # never the cached bytecode
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Failures:
    """A pytest plugin that keeps the ids of the tests whose own code failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and report.when == "call":
            self.failed.append(report.nodeid)


def compile_anew() -> None:
    """Neither read nor write the kernels that are kept on disk: they are found by the
    files' sources, which a mutant does not change. Compile without optimising, in half
    the time."""
    import numba

    os.environ["NUMBA_OPT"] = "0"
    numba.config.reload_config()
    njit = numba.njit
    numba.njit = lambda *args, cache=False, **options: njit(*args, **options)


def run_tests(mutant: Mutant | None, result: Path) -> None:
    """In a child: run the tests and write the exit code and the failed ones to
    `result`."""
    import pytest

    kills = mutant.kills if mutant else {test for m in MUTANTS for test in m.kills}
    if mutant:
        sys.meta_path.insert(0, MutatedModule(mutant))
        if mutant.module in COMPILED:
            compile_anew()
    options = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    options.append(f"--basetemp={result.parent / 'tmp'}")  # goes with the folder
    plugin = Failures()
    code = pytest.main(
        [*options, *(f"tests/{test}" for test in sorted(kills))], plugins=[plugin]
    )
    result.write_text(json.dumps({"code": int(code), "failed": plugin.failed}), "utf-8")


def fork(mutant: Mutant | None, folder: Path) -> int:
    """Start a child; its output and its result go to files in `folder`."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    try:
        out = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        run_tests(mutant, folder / "result")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def finished(folder: Path) -> dict[str, Any]:
    result = folder / "result"
    if result.exists():
        values = json.loads(result.read_text("utf-8"))
    else:
        values = {"code": None, "failed": []}
    return values | {
        "output": (folder / "output").read_text("utf-8", errors="replace")[-2000:]
    }


def run_all(workers: int) -> dict[str, dict[str, Any]]:
    """Run all mutants and the baseline, `workers` at a time; return what each child
    found, by name."""
    waiting: list[tuple[str, Mutant | None]] = [(BASELINE, None)]
    waiting += [(mutant.name, mutant) for mutant in MUTANTS]
    running: dict[int, tuple[str, Path, float]] = {}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        while waiting or running:
            while waiting and len(running) < workers:
                name, mutant = waiting.pop(0)
                folder = Path(work) / str(len(waiting))
                folder.mkdir()
                running[fork(mutant, folder)] = (name, folder, time.monotonic())
            for child, (name, folder, start) in list(running.items()):
                if time.monotonic() - start > SECONDS:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                elif os.waitpid(child, os.WNOHANG)[0] == 0:
                    continue
                found[name] = finished(folder)
                del running[child]
            time.sleep(0.02)
    return found


def import_slow_libraries() -> None:
    """What the tests import beside the course. PyTorch computes nothing here: its
    threads do not fork."""
    import gguf  # noqa: F401
    import hypothesis.strategies  # noqa: F401
    import jinja2.sandbox  # noqa: F401
    import numba.extending  # noqa: F401
    import pytest  # noqa: F401
    import safetensors.torch  # noqa: F401
    import tokenizers  # noqa: F401
    import torch
    import transformers.generation.logits_process
    import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    import_slow_libraries()
    assert not any(name.partition(".")[0] == "llm_course" for name in sys.modules)
    found = run_all(workers=min(2, os.cpu_count() or 1))
    Path(sys.argv[1]).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
