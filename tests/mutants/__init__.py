"""Small wrong changes to the package, each a trap sprung, and the tests that must
notice it.

They are data; tests/test_mutations.py runs them. The files follow the package: parts
and network (both of models), engine (the loop), cache, native, guessing and
batching, checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`search` stands exactly once in `module` (relative to llm_course); `what` says
    what is then wrong.

    Every test in `kills` (relative to tests/) must fail once `search` is replaced.
    """

    what: str
    module: str
    search: str
    replace: str
    kills: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.module}: {self.what}"


def mutants_of(module: str, *changes: tuple[str, ...]) -> tuple[Mutant, ...]:
    """Each change is (what, search, replace, test, further tests…)."""
    return tuple(
        Mutant(what, module, search, replace, tuple(kills))
        for what, search, replace, *kills in changes
    )
