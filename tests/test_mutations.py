"""Each trap, sprung in the code, is noticed by the tests that say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import Mutant
from tests.mutation_runner import BASELINE, MUTANTS, ROOT, mutated
from tests.notebook_tools import clean_env
from tests.traps import TRAPS

by_name = pytest.mark.parametrize(
    "mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS]
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each mutant's tests found; one process for all."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork, which this system has not")
    report = tmp_path_factory.mktemp("mutants") / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation_runner", str(report)],
        cwd=ROOT,
        env=clean_env(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false"),
        capture_output=True,
        encoding="utf-8",
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(Path(report).read_text("utf-8"))


def test_there_are_enough_mutants_of_every_part() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    packages = Counter(mutant.module.partition(".")[0] for mutant in MUTANTS)
    assert min(packages[part] for part in ("models", "engine", "checkpoints")) >= 10


def test_every_trap_in_the_code_is_sprung_by_a_mutant() -> None:
    """The rest is about words, tolerances and notebooks; these have tests with
    corrupted notebooks."""
    killers = {f"tests/{test}" for mutant in MUTANTS for test in mutant.kills}
    unsprung = [
        row
        for section, rows in TRAPS.items()
        for row, tests in rows.items()
        if section != "Notebooks" and not killers.intersection(tests)
    ]
    assert unsprung == [
        "one word for both layouts",
        "float32 parity asserted in bfloat16",
    ]


@by_name
def test_the_place_of_a_mutant_is_there_once(mutant: Mutant) -> None:
    compile(mutated(mutant), mutant.module, "exec")


@pytest.mark.slow
@pytest.mark.mutants
def test_without_a_mutant_the_tests_pass(outcomes: dict[str, dict[str, Any]]) -> None:
    found = outcomes[BASELINE]
    assert found["code"] == 0, found["output"]


@pytest.mark.slow
@pytest.mark.mutants
@by_name
def test_a_mutant_is_killed(
    outcomes: dict[str, dict[str, Any]], mutant: Mutant
) -> None:
    found = outcomes[mutant.name]
    assert found["code"] == 1, f"the tests did not run to their end:\n{found['output']}"
    failed = {test.partition("[")[0] for test in found["failed"]}
    assert {f"tests/{test}" for test in mutant.kills} - failed == set(), found["output"]
