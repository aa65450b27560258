"""Sliders for the size of a key/value cache."""

from __future__ import annotations

from dataclasses import replace

import ipywidgets as w
import torch
from matplotlib.figure import Figure

from llm_course.config import ModelConfig
from llm_course.engine.kv_cache import cache_bytes
from llm_course.viz.cache import cache_bar
from llm_course.widgets.figures import png

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "8 bits": torch.int8}


class CacheMemory(w.VBox):
    """Sliders for context length, rows and K/V heads of a model's shape, and the bytes
    they cost.

    `bytes` is the size for the present values, `figure()` the picture that the widget
    shows.
    """

    def __init__(
        self, config: ModelConfig, num_parameters: int, context: int = 2048
    ) -> None:
        self._config, self._num_parameters = config, num_parameters
        heads = [n for n in range(1, config.num_heads + 1) if config.num_heads % n == 0]
        late = {"continuous_update": False, "style": {"description_width": "6em"}}
        self.context = w.SelectionSlider(
            options=[2**n for n in range(6, 18)],
            value=context,
            description="context",
            **late,
        )
        self.rows = w.IntSlider(1, 1, 64, description="rows", **late)
        self.kv_heads = w.SelectionSlider(
            options=heads, value=config.num_kv_heads, description="K/V heads", **late
        )
        self.dtype = w.Dropdown(
            options=list(DTYPES), description="numbers", style=late["style"]
        )
        self.text, self.image = (
            w.HTML(),
            w.Image(format="png", layout=w.Layout(max_width="95%")),
        )
        controls = [self.context, self.rows, self.kv_heads, self.dtype]
        for control in controls:
            control.observe(self._update, names="value")
        super().__init__([*controls, self.text, self.image])
        self._update()

    @property
    def bytes(self) -> int:
        """Bytes of the cache."""
        shape = replace(self._config, num_kv_heads=self.kv_heads.value)
        return cache_bytes(
            shape, self.context.value, self.rows.value, DTYPES[self.dtype.value]
        )

    def figure(self) -> Figure:
        """The cache beside the model's weights, both in the chosen type."""
        numbers = self._num_parameters * DTYPES[self.dtype.value].itemsize
        title = (
            f"{self.rows.value} x {self.context.value:,} tokens, {self.kv_heads.value}"
            " K/V heads"
        )
        return cache_bar(
            self.bytes / 1e9, numbers / 1e9, f"{title}, {self.dtype.value}"
        )

    def _update(self, _change: object = None) -> None:
        per_token = self.bytes // (self.context.value * self.rows.value)
        self.text.value = (
            f"{self.bytes:,} bytes, {per_token:,} for each token of each row"
        )
        self.image.value = png(self.figure())
