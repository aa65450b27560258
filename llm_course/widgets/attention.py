"""The attention explorer of notebook 03: every head's map of a sentence, one of them
large, and the next token without some of the heads."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import torch
import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor, nn

from llm_course.config import ModelConfig
from llm_course.text import Tokenizer
from llm_course.viz.attention import attention_map
from llm_course.widgets.base import LabWidget, ids_to_draw, page_part
from llm_course.widgets.heads import Head, Look, habits, look, ranked, repeated_ids

LEAST = 3  # of fewer tokens a ranking says nothing
MAX_TOKENS = 64  # beyond that a square of the map is too small to point at
RANKED, WORDS = 9, 5  # rows of the two tables


class AttentionExplorer(LabWidget):
    """A sentence, the maps of all heads, and one head's scores and weights in numbers.

    `settings["out"]` lists the heads that are knocked out, [layer, head] each; all
    that is shown is the model's without them.
    """

    _esm = page_part("attention_maps", "attention")
    _css = page_part("attention", kind=".css")
    maps = t.Bytes().tag(sync=True)  # weights [L, H, S, S], 255 for 1
    large = t.Bytes().tag(sync=True)  # float32 [2, S, S]: scores, weights of one head
    chart = t.Dict().tag(sync=True)  # everything else; set last

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        sentence: str,
        layer: int = 0,
        head: int = 0,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._look = lru_cache(maxsize=6)(lambda ids, out: look(model, ids, out))
        settings = {"sentence": sentence, "layer": layer, "head": head}
        settings |= {"stage": "weights", "rank": "token before", "out": []}
        super().__init__(name="Attention explorer", settings=settings)
        self.do_show(settings)

    @property
    def config(self) -> ModelConfig:
        return cast(ModelConfig, self.model.config)

    def figure(self) -> Figure:
        """Draw the map for the present sentence, layer and head."""
        layer, head = self.settings["layer"], self.settings["head"]
        kv_head = head // self.config.num_query_groups
        title = f"layer {layer}, query head {head} (K/V head {kv_head})"
        weights = self.look(self.settings).weights[layer, head]
        return attention_map(weights, self.tokens(self.settings), title)

    def look(self, settings: dict[str, Any]) -> Look:
        """What the heads of the model see in the sentence of these settings."""
        return self._look(self._ids(settings), _heads(settings))

    def tokens(self, settings: dict[str, Any]) -> list[str]:
        return self.tokenizer.tokens(list(self._ids(settings)))

    def do_show(self, settings: dict[str, Any]) -> None:
        """Draw everything for these settings."""
        try:
            seen = self.look(settings)
        except Exception:
            self.chart = {}  # no map of something else stays
            raise
        layer, head = settings["layer"], settings["head"]
        self.maps = (seen.weights * 255).round().byte().numpy().tobytes()
        pair = torch.stack([seen.scores[layer, head], seen.weights[layer, head]])
        self.large = pair.numpy().tobytes()
        self.chart = {
            "tokens": self.tokens(settings),
            "layers": self.config.num_layers,
            "heads": self.config.num_heads,
            "group": self.config.num_query_groups,
            "head": [layer, head],
            "out": settings["out"],
            "ranked": self._ranked(settings),
            "words": self._words(settings),
        }

    def _ranked(self, settings: dict[str, Any]) -> list[tuple[int, int, float]]:
        twice = tuple(repeated_ids(self.tokenizer.vocab_size))
        repeated = self._look(twice, _heads(settings)).weights
        found = habits(self.look(settings).weights, repeated)
        return ranked(found[settings["rank"]], RANKED)

    def _words(self, settings: dict[str, Any]) -> list[tuple[str, float, float]]:
        """The likeliest next tokens with these heads: token, probability in the whole
        model, probability now."""
        ids = self._ids(settings)
        whole, now = (
            self._known(self._look(ids, out).logits).softmax(-1)
            for out in ((), _heads(settings))
        )
        best = now.topk(WORDS).indices.tolist()
        names = self.tokenizer.tokens(best)
        return list(zip(names, whole[best].tolist(), now[best].tolist(), strict=True))

    def _known(self, logits: Tensor) -> Tensor:
        return logits[: self.tokenizer.vocab_size]  # an embedding may be longer

    def _ids(self, settings: dict[str, Any]) -> tuple[int, ...]:
        """The ids of the sentence. ValueError: it cannot be drawn."""
        text = settings["sentence"]
        return ids_to_draw(self.tokenizer, text, LEAST, MAX_TOKENS, "sentence", "map")


def _heads(settings: dict[str, Any]) -> tuple[Head, ...]:
    """The heads knocked out, as a key of the cache."""
    return tuple(sorted((layer, head) for layer, head in settings["out"]))
