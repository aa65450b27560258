"""An explorer of attention maps: type a sentence, choose a layer and a head of the real
model."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import ipywidgets as w
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from llm_course.config import ModelConfig
from llm_course.models.attention import capture_attention
from llm_course.text import Tokenizer
from llm_course.viz.attention import attention_map
from llm_course.widgets.figures import png

MAX_TOKENS = 32  # beyond that the labels of the map are too small to read


class AttentionExplorer(w.VBox):
    """A text box for the sentence, a slider for the layer, one for the head, and the
    map.

    `figure()` is the map as it stands now, the same that the explorer shows.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        sentence: str,
        layer: int = 0,
        head: int = 0,
    ) -> None:
        config = cast(ModelConfig, model.config)
        self._group = config.num_query_groups
        self._maps_of = _maps_by_sentence(model, tokenizer)
        wide, late = w.Layout(width="95%"), {"continuous_update": False}
        # its own size, not stretched
        small = w.Layout(max_width="95%", align_self="flex-start")
        self.sentence = w.Text(sentence, description="sentence", layout=wide, **late)
        self.layer = w.IntSlider(
            layer, 0, config.num_layers - 1, description="layer", **late
        )
        self.head = w.IntSlider(
            head, 0, config.num_heads - 1, description="query head", **late
        )
        self.message, self.image = w.HTML(), w.Image(format="png", layout=small)
        for control in (self.sentence, self.layer, self.head):
            control.observe(self._update, names="value")
        super().__init__(
            [self.sentence, w.HBox([self.layer, self.head]), self.message, self.image]
        )
        self._update()

    def figure(self) -> Figure:
        """Draw the map for the present sentence, layer and head. ValueError: it cannot
        be drawn."""
        maps, tokens = self._maps_of(self.sentence.value)
        layer, head = self.layer.value, self.head.value
        title = f"layer {layer}, query head {head} (K/V head {head // self._group})"
        return attention_map(maps[layer, head], tokens, title)

    def _update(self, _change: object = None) -> None:
        # Into the image's value: a figure that is printed would pile up below the cell.
        try:
            fig = self.figure()
        except ValueError as error:
            self.message.value = f"<b>{html.escape(str(error))}</b>"
            return
        self.message.value, self.image.value = "", png(fig)


def _maps_by_sentence(
    model: nn.Module, tokenizer: Tokenizer
) -> Callable[[str], tuple[Tensor, list[str]]]:
    """sentence -> (maps [L, H, S, S], labels). Sliders move fast: a sentence runs
    through once."""

    @lru_cache(maxsize=4)
    def maps_of(sentence: str) -> tuple[Tensor, list[str]]:
        ids = tokenizer.encode(sentence)
        if not 1 <= len(ids) <= MAX_TOKENS:
            raise ValueError(
                f"The sentence has {len(ids)} tokens; the map takes 1 to {MAX_TOKENS}."
            )
        with torch.inference_mode(), capture_attention(model) as maps:
            model(torch.tensor([ids]), last_only=True)
        return torch.cat([maps[layer] for layer in sorted(maps)]), tokenizer.tokens(ids)

    return maps_of
