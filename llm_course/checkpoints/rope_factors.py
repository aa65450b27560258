"""Llama 3's scaling of RoPE as GGUF files hold it: a factor for each frequency.

A config.json has four numbers instead. They are found again here, so that one kind of
model comes from both formats.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT = 8192  # of Llama 3, before it was extended
CLOSE = 5e-6  # the factors were computed in float32, and their inverses are below 1


def scaling_of_factors(
    factors: NDArray, rope_theta: float, context: int = CONTEXT
) -> dict[str, Any] | None:
    """Return the `rope_scaling` that divides frequency i of D/2 by `factors[i]`.

    Raises ValueError for factors that are neither equal nor Llama 3's: those keep the
    quick channels, divide the slow ones by the largest factor, and between two
    frequencies go over from one to the other along a line.
    """
    factors = np.asarray(factors, np.float64)
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise ValueError("a factor is not a positive number")
    factor = float(str(np.float32(factors.max())))  # 1.1, not 1.10000002384
    if np.ptp(factors) < 1e-6 * factor:
        same = {"rope_type": "linear", "factor": factor}
        return None if factor == 1 else same
    if factor <= 1:
        raise ValueError("its factors make channels quicker")
    inv_freq = rope_theta ** -(np.arange(len(factors)) / len(factors))  # [D/2]
    # [D/2]: 1 keeps the speed, 0 divides it by the largest factor
    keep = (1 / factors - 1 / factor) / (1 - 1 / factor)
    slope, zero = _line(inv_freq, keep)
    # turns within the context -> keep; only the ratio to the context can be known
    width = context / (2 * np.pi * slope)
    low = context / (2 * np.pi) * zero
    for digits in range(4, 10):  # as round as they can be: those of Llama 3 are
        scaling = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": float(f"{low:.{digits}g}"),
            "high_freq_factor": float(f"{low + width:.{digits}g}"),
            "original_max_position_embeddings": context,
        }
        if np.abs(_keep(inv_freq, scaling) - keep).max() < CLOSE:
            return scaling
    raise ValueError("its factors are not those of llama3 scaling")


def _line(x: NDArray, keep: NDArray) -> tuple[float, float]:
    """Slope of the line through the values between 0 and 1, and where it meets 0.

    Of two points on it the two outermost are taken. Otherwise any line will do that
    goes over between the last 1 and the first 0: the steepest between neighbours.
    """
    inside = [i for i in range(len(x)) if CLOSE < keep[i] < 1 - CLOSE]
    ones = [i for i in range(len(x)) if keep[i] >= 1 - CLOSE]
    zeros = [i for i in range(len(x)) if keep[i] <= CLOSE]
    points = [*ones[-1:], *inside, *zeros[:1]]
    pairs = pairwise(points) if len(inside) < 2 else [(inside[0], inside[-1])]
    slope, at = max(((keep[a] - keep[b]) / (x[a] - x[b]), b) for a, b in pairs)
    if slope <= 0:
        raise ValueError("its factors shrink towards the slow channels")
    return slope, x[at] - keep[at] / slope


def _keep(inv_freq: NDArray, scaling: dict[str, Any]) -> NDArray:
    turns = scaling["original_max_position_embeddings"] * inv_freq / (2 * np.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    if not 0 < low < high:
        raise ValueError("its factors are not those of llama3 scaling")
    return np.clip((turns - low) / (high - low), 0.0, 1.0)
