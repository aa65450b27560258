"""Llama 3's scaling of RoPE as GGUF files hold it: a factor for each frequency.

A config.json has four numbers instead. They are found again here, so that one kind of
model comes from both formats.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXT, LOW, HIGH = 8192, 1.0, 4.0  # Llama 3's own
NOISE = 3e-6  # of an inverse factor: they were computed in float32


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
    factor = float(factors.max())
    if abs(float(f"{factor:.4g}") - factor) < 3e-7 * factor:
        factor = float(f"{factor:.4g}")  # 8, not 8.000001
    if np.ptp(factors) < 1e-6 * factor:
        same = {"rope_type": "linear", "factor": factor}
        return None if factor == 1 else same
    if factor <= 1:
        raise ValueError("its factors make channels quicker")
    inv_freq = rope_theta ** -(np.arange(len(factors)) / len(factors))  # [D/2]
    turns = context * inv_freq / (2 * np.pi)  # of a channel within the context
    span = 1 - 1 / factor
    # [D/2]: 1 keeps the speed, 0 divides it by the largest factor
    keep = (1 / factors - 1 / factor) / span
    low, high = _ends(turns, keep, NOISE / span)
    # as round as they can be; only their ratio to the context can be known
    rounded = [(float(f"{low:.{n}g}"), float(f"{high:.{n}g}")) for n in range(4, 10)]
    for low, high in [(LOW, HIGH), *rounded]:
        if not 0 < low < high:
            continue
        again = np.clip((turns - low) / (high - low), 0.0, 1.0)
        if np.abs(again - keep).max() < NOISE / span:
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": context,
            }
    raise ValueError("its factors are not those of llama3 scaling")


def _ends(turns: NDArray, keep: NDArray, noise: float) -> tuple[float, float]:
    """Where the line through the values between 0 and 1 meets 0, and where 1.

    Of the points on it the two outermost are taken. With fewer than two, any line will
    do that goes over between the last 1 and the first 0: the steepest between
    neighbours.
    """
    places = range(len(turns))
    inside = [i for i in places if noise < keep[i] < 1 - noise]
    ones = [i for i in places if keep[i] >= 1 - noise]
    zeros = [i for i in places if keep[i] <= noise]
    points = [*ones[-1:], *inside, *zeros[:1]]
    pairs = pairwise(points) if len(inside) < 2 else [(inside[0], inside[-1])]
    steps = [((keep[a] - keep[b]) / (turns[a] - turns[b]), b) for a, b in pairs]
    slope, at = max(steps, default=(0.0, 0))
    if slope <= 0:
        raise ValueError("its factors do not grow towards the slow channels")
    low = turns[at] - keep[at] / slope
    return low, low + 1 / slope
