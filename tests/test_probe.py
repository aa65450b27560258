"""What `allocated` counts, and what it leaves alone."""

from __future__ import annotations

import sys

import pytest
import torch

from llm_course.viz.probe import allocated


def test_allocated_adds_up_what_is_made_even_when_it_is_freed_again() -> None:
    x = torch.zeros(1000)
    assert allocated(lambda: x.view(10, 100)) == 0
    assert allocated(lambda: x + x) == 4000
    assert allocated(lambda: (x + x) * x) == 8000


def test_allocated_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    allocated(lambda: torch.ones(3))
    with pytest.raises(ZeroDivisionError):
        allocated(fails)
    assert capfd.readouterr().err == ""
    print("heard", file=sys.stderr, flush=True)
    assert capfd.readouterr().err == "heard\n"
