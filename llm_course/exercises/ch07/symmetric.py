"""The check of 07.symmetric: four bits and one scale for each group of weights."""

import numpy as np
from numpy.typing import NDArray

from llm_course.exercises import Case, Cases, Exercise, normal


def symmetric(weight: NDArray, group: int) -> tuple[NDArray, NDArray, NDArray]:
    groups = weight.reshape(len(weight), -1, group)
    largest = np.abs(groups).max(axis=-1)
    scales = largest / 7
    step = np.where(scales == 0, 1, scales)[..., None]
    whole = np.rint(groups / step)
    rounded = whole * scales[..., None]
    numbers = whole.astype(np.int8)
    return numbers.reshape(weight.shape), scales, rounded.reshape(weight.shape)


def cases() -> Cases:
    """No weight lies halfway between two numbers."""
    yield Case(np.array([[-0.7, 0.3, 0.18, -0.02]], np.float32), 4)
    yield Case(np.array([[1.4, 0.46, 7.0, 2.4]], np.float32), 2, name="two groups")
    positive = normal(2, 64).abs().numpy()
    yield Case(positive, 32, name="all weights positive")
    empty = normal(2, 64, seed=1).numpy()
    empty[0, 32:] = 0
    yield Case(empty, 32, name="a group of zeros")
    yield Case(normal(6, 96, seed=2).numpy(), 32)


WRONG = """
whose scale is that of the largest weight; a negative one may be farther from 0
    np.abs(groups).max -> groups.max
that cuts the digits after the point off: 1.8 becomes 1, not 2
    np.rint -> np.trunc
that rounds down: 1.8 becomes 1 and -0.2 becomes -1
    np.rint -> np.floor
in which a group of zeros becomes NaN: 0 / 0
    scales == 0, 1 -> scales == 0, np.nan ;; whole.astype -> np.nan_to_num(whole).astype
that divides by 8: a positive weight as far from 0 as any would become 8
    / 7 -> / 8
that divides by 8 and stops at 7: the largest weight loses an eighth
    / 7 -> / 8 ;; / step) -> / step).clip(-8, 7)
that goes from -8 to 7, as Q4_0 does: its scale has the sign of one weight
    np.abs(groups).max(axis=-1) -> np.take_along_axis(
        groups, np.abs(groups).argmax(-1)[..., None], -1)[..., 0]
    / 7 -> / -8 ;; / step) -> / step).clip(-8, 7)
that divides by 15, the count of the numbers: 7 of them lie on one side of 0
    / 7 -> / 15
with steps for the range from minimum to maximum, and no minimum to add
    np.abs(groups).max(axis=-1) -> np.ptp(groups, axis=-1) ;; / 7 -> / 15
with one scale for all weights
    np.abs(groups).max(axis=-1) ->
        np.full(groups.shape[:2], np.abs(groups).max(), groups.dtype)
with one scale for each row, repeated for its groups
    np.abs(groups).max(axis=-1) ->
        np.abs(weight).max(axis=-1, keepdims=True).repeat(groups.shape[1], axis=1)
that returns the largest magnitudes in place of the scales
    , scales, rounded -> , largest, rounded
that returns the weights as they were, not as the numbers give them back
    rounded.reshape(weight.shape) -> weight.copy()
"""

CHECK = Exercise("07.symmetric", symmetric, cases, WRONG)
