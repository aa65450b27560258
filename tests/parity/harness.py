"""One comparison: a test with random cases, and a row of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from torch import Tensor

# Largest difference, relative to the largest magnitude of what `transformers` gives.
TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2}
EQUAL = 0.0  # not one element may differ

Measure = Callable[[Any, str], float]


@dataclass(frozen=True)
class Row:
    """What is compared, on what, in which dtype, and how far off it may be."""

    what: str
    on: str
    dtype: str
    tolerance: float
    cases: int
    strategy: SearchStrategy
    measure: Measure

    def run(self) -> tuple[int, float]:
        """Draw the cases, the same each time; return their number and the worst error.

        Raises AssertionError, with a small example, for an error above the tolerance.
        """
        errors: list[float] = []

        @settings(
            max_examples=self.cases,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(case=self.strategy)
        def compare(case: Any) -> None:
            error = self.measure(case, self.dtype)
            errors.append(error)
            assert error <= self.tolerance, (
                f"{self.what}: {error:.1e} is above {self.tolerance:g}"
            )

        compare()
        return len(errors), max(errors)


ROWS: list[Row] = []


def compared(
    what: str,
    on: str,
    strategy: SearchStrategy,
    tolerances: dict[str, float] = TOLERANCES,
    cases: int = 50,
) -> Callable[[Measure], Callable[[Row], None]]:
    """Turn `measure(case, dtype) -> error` into a test of one row for each dtype."""

    def register(measure: Measure) -> Callable[[Row], None]:
        rows = [
            Row(what, on, dtype, tolerance, cases, strategy, measure)
            for dtype, tolerance in tolerances.items()
        ]
        ROWS.extend(rows)

        @pytest.mark.parametrize("row", rows, ids=[row.dtype for row in rows])
        def test(row: Row) -> None:
            row.run()

        test.__name__, test.__doc__ = measure.__name__, measure.__doc__
        return test

    return register


def relative_error(ours: Tensor, theirs: Tensor, dtype: str) -> float:
    """The largest difference, relative to the largest magnitude of `theirs`.

    Another shape, or a result of ours in another dtype, is an error outright; a NaN
    gives NaN, which no tolerance admits.
    """
    assert ours.shape == theirs.shape, (
        f"{list(ours.shape)} against {list(theirs.shape)}"
    )
    assert ours.dtype == getattr(torch, dtype), f"{ours.dtype}, not {dtype}"
    difference = (ours.double() - theirs.double()).abs().max()
    return float(difference / theirs.double().abs().max())


def unequal(ours: Tensor, theirs: Tensor) -> float:
    """The number of elements that are not equal; two -inf are."""
    assert ours.shape == theirs.shape, (
        f"{list(ours.shape)} against {list(theirs.shape)}"
    )
    return float((ours != theirs).sum())
