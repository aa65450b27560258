"""The memory of weights and caches, for several models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import traitlets as t
from matplotlib.figure import Figure

from llm_course.config import ModelConfig
from llm_course.engine.kv_cache import cache_bytes
from llm_course.viz.cache_lab import memory_bars
from llm_course.widgets.base import LabWidget, page_part

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "8 bits": torch.int8}
CARDS = (24, 80)  # GB


class CacheMemory(LabWidget):
    """Context, rows, type and sharing of K/V heads, and the bytes that they cost."""

    _esm = page_part("cache_memory")
    _css = page_part("cache_memory", kind=".css")
    models: t.List = t.List().tag(sync=True)

    def __init__(self, models: Mapping[str, tuple[ModelConfig, int]]) -> None:
        """`models`: name -> its shape, and how many parameters it has."""
        self.known = dict(models)
        settings = {"context": 13, "rows": 1, "dtype": "bfloat16", "sharing": "own"}
        super().__init__(name="Memory of caches", settings=settings)
        self.do_show(settings)

    def figure(self) -> Figure:
        """Weights and caches for the present settings."""
        tokens, rows = 2 ** self.settings["context"], self.settings["rows"]
        pairs = {
            row["name"]: (row["weights"] / 1e9, row["cache"] / 1e9)
            for row in self.models
        }
        title = f"{rows} x {tokens:,} tokens, {self.settings['dtype']}"
        return memory_bars(pairs, title, CARDS)

    def do_show(self, settings: dict[str, Any]) -> None:
        """Count the bytes of every model."""
        self.models = [self._row(name, settings) for name in self.known]

    def _row(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        config, parameters = self.known[name]
        dtype, rows = DTYPES[settings["dtype"]], settings["rows"]
        heads = {"own": config.num_kv_heads, "none": config.num_heads, "one": 1}
        shape = replace(config, num_kv_heads=heads[settings["sharing"]])
        weights = parameters * dtype.itemsize
        cache = cache_bytes(shape, 2 ** settings["context"], rows, dtype)
        token = cache_bytes(shape, 1, 1, dtype)
        return {
            "name": name,
            "heads": shape.num_kv_heads,
            "weights": weights,
            "cache": cache,
            "token": token,
            "fits": [weights + cache <= card * 1e9 for card in CARDS],
            # tokens of all rows together that fit beside the weights
            "room": [max(0, int((card * 1e9 - weights) // token)) for card in CARDS],
        }
