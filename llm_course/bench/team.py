"""The processes of a run, seen from the one that asks them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from llm_course.bench.child import SUM
from llm_course.types import TokenIds


class Child:
    """One process, which is asked and answers; idle, it waits for a line."""

    def __init__(self, name: str, model: str, threads: int) -> None:
        command = [sys.executable, "-m", "llm_course.bench.child"]
        self.name = name
        self.process = subprocess.Popen(
            [*command, name, model, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self.first = self.answer()  # which comes when everything is loaded

    def ask(self, **request: Any) -> dict[str, Any]:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name!r} ended; it says why above")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Team:
    """A process for each contestant, and one for the plain sum.

    A pool of threads disturbs another in the same process. The processes start one
    after the other; leaving the `with` block ends them.
    """

    def __init__(self, names: Sequence[str], model: str, threads: int) -> None:
        self.names, self.model, self.threads = tuple(names), model, threads
        self.children: dict[str, Child] = {}

    def start(self, progress: Callable[[str], object] = lambda _: None) -> None:
        for name in (*self.names, SUM):
            progress(f"loading: {name}")
            self.children[name] = Child(name, self.model, self.threads)

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children.values():
            child.close()

    @property
    def read(self) -> dict[str, int]:
        """Contestant -> bytes of weights that a forward pass reads."""
        return {name: self.children[name].first["read"] for name in self.names}

    def generate(
        self, name: str, prompt: TokenIds, n: int
    ) -> tuple[list[float], Tensor]:
        """Seconds from the start to each of n new tokens, and the tokens [B, n]."""
        told = self.children[name].ask(prompt=prompt.tolist(), new_tokens=n)
        return told["times"], torch.tensor(told["tokens"])

    def perplexity(self, name: str, passage: list[int]) -> float:
        return self.children[name].ask(passage=passage)["perplexity"]

    def bandwidth(self) -> float:
        """Bytes a second of a plain sum with the same number of threads."""
        return self.children[SUM].ask()["bandwidth"]
