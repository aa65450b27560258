"""The roofline of notebook 07 as sliders: rows, bits, the two limits of a machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets as t
from matplotlib.figure import Figure

from llm_course.viz.speed import roofline
from llm_course.widgets.base import LabWidget, page_part

KINDS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.5, "q4_1": 5.0}  # bits a weight
SHOWN = (1, 16, 64)  # rows in the still picture


class Roofline(LabWidget):
    """How long a step over all weights takes at least: to read them, or to compute.

    Bandwidth is in GB/s, peak in GFLOP/s. A step has `rows` tokens, and each of
    `weights` weights takes part in one multiplication and one addition for each.
    """

    _esm = page_part("roofline")
    _css = page_part("roofline", kind=".css")
    chart = t.Dict().tag(sync=True)

    def __init__(
        self, weights: int, bandwidth: float = 40.0, peak: float = 200.0
    ) -> None:
        self.weights = weights
        settings = {"rows": 1, "bits": 8.5, "bandwidth": bandwidth, "peak": peak}
        super().__init__(name="Roofline", settings=settings)
        self.do_show(settings)

    def figure(self) -> Figure:
        """The roof, with the bounds of all kinds for a few numbers of rows."""
        points = {}
        for kind, bits in KINDS.items():
            bounds = {n: bound(self.settings, n, bits, self.weights) for n in SHOWN}
            points[kind] = {n: (b["work"], b["gflops"]) for n, b in bounds.items()}
        return roofline(self.settings["bandwidth"], self.settings["peak"], points)

    def do_show(self, settings: dict[str, Any]) -> None:
        """Compute the bounds of these settings."""
        rows, bits = settings["rows"], settings["bits"]
        bandwidth, peak = settings["bandwidth"], settings["peak"]
        work = np.geomspace(0.25, 2048, 60)
        self.chart = {
            "roof": np.stack([work, np.minimum(bandwidth * work, peak)], 1).tolist(),
            "chosen": bound(settings, rows, bits, self.weights),
            "kinds": [
                {"name": name, **bound(settings, rows, own, self.weights)}
                for name, own in KINDS.items()
            ],
            # from here on arithmetic is the limit
            "turn": peak / bandwidth * bits / 16,
        }


def bound(
    settings: dict[str, Any], rows: int, bits: float, weights: int
) -> dict[str, Any]:
    """What a machine allows a step of `rows` tokens over weights of `bits` bits."""
    read = weights * bits / 8 / (settings["bandwidth"] * 1e9)  # seconds
    compute = 2 * rows * weights / (settings["peak"] * 1e9)
    seconds = max(read, compute)
    return {
        "bits": bits,
        "work": 2 * rows / (bits / 8),  # FLOPs for each byte
        "gflops": 2 * rows * weights / seconds / 1e9,
        "ms": 1e3 * seconds,
        "tokens": rows / seconds,
        "limit": "memory" if read >= compute else "arithmetic",
    }
