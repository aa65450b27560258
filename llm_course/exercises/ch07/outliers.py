"""The check of 07.outliers: what int8 costs, by the weights that share a scale."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal


def errors(weight: NDArray, group: int) -> dict[str, float]:
    def error(w: NDArray, axis: int | None) -> float:
        largest = np.abs(w).max(axis=axis, keepdims=True)
        step = np.where(largest == 0, 1, largest / 127)
        rounded = step * np.rint(w / step)
        return float(np.linalg.norm(rounded - w) / np.linalg.norm(w))

    wide = weight.astype(np.float64)
    groups = wide.reshape(len(weight), -1, group)
    return {
        "matrix": error(wide, None),
        "row": error(wide, 1),
        "column": error(wide, 0),
        "group": error(groups, 2),
    }


def scaled(weight: Tensor, rows: slice, columns: slice, factor: float) -> NDArray:
    """The same with a part of it multiplied."""
    weight[rows, columns] *= factor
    return weight.numpy()


def cases() -> Cases:
    every = slice(None)
    small = [[120.0, 1.3, -0.4, 0.6], [-95.0, 0.7, 0.9, -1.1]]
    yield Case(np.array(small, np.float32), 2, name="column 0 is large")
    # the rows are whole groups too: groups that run down the columns then fit in
    rows = scaled(normal(32, 96), slice(3, 5), every, 40.0)
    yield Case(rows, 32, name="two large rows")
    columns = scaled(normal(32, 96, seed=1), every, slice(9, 12), 40.0)
    yield Case(columns, 32, name="three large columns")
    empty = scaled(normal(32, 96, seed=2), every, slice(32, 64), 0.0)
    yield Case(empty, 32, name="columns of zeros")
    yield Case(normal(64, 128, seed=3).numpy(), 32, name="nothing stands out")


RESULT = "np.linalg.norm(rounded - w) / np.linalg.norm(w)"
IN_ROWS = "len(weight), -1, group)"
WRONG = f"""
with rows and columns exchanged: row i makes output i, column j reads input j
    "row": error(wide, 1) -> "row": error(wide, 0)
    "column": error(wide, 0) -> "column": error(wide, 1)
whose steps come from the largest weight; a negative one may be farther from 0
    np.abs(w).max -> w.max
that cuts the digits after the point off
    np.rint -> np.trunc
that rounds down
    np.rint -> np.floor
that divides by 128, which int8 does not have
    / 127 -> / 128
that divides by 255, the steps from -127.5 to 127.5: it needs nine bits
    / 127 -> / 255
that divides by 7, as for four bits
    / 127 -> / 7
in which zeros that share a scale become NaN: 0 / 0
    largest == 0, 1 -> largest == 0, np.nan
that returns the norm of the error, not divided by the norm of the weights
    {RESULT} -> np.linalg.norm(rounded - w)
that returns the square of the relative error: a root is missing
    {RESULT} -> ({RESULT}) ** 2
that adds up magnitudes; the Frobenius norm adds up squares
    {RESULT} -> np.abs(rounded - w).sum() / np.abs(w).sum()
that compares the largest error with the largest weight
    {RESULT} -> np.abs(rounded - w).max() / np.abs(w).max()
with the largest singular value (ord=2) for the Frobenius norm
    {RESULT} -> (np.linalg.norm((rounded - w).reshape(weight.shape), 2)
        / np.linalg.norm(weight.astype(np.float64), 2))
that divides by the norm of the rounded weights
    / np.linalg.norm(w) -> / np.linalg.norm(rounded)
whose groups run down the columns: they are neighbours in a row
    wide.reshape({IN_ROWS} -> wide.T.reshape(weight.shape[1], -1, group)
with `group` groups in a row; it is how many weights a group has
    {IN_ROWS} -> len(weight), group, -1)
whose groups take weights from all over the row; they are neighbours
    {IN_ROWS} -> len(weight), group, -1) ;; error(groups, 2) -> error(groups, 1)
"""

CHECK = Exercise("07.outliers", errors, cases, WRONG, rtol=1e-3, atol=1e-7)
