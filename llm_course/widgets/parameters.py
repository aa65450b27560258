"""A configurator: what a model's shape costs in parameters, part by part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import traitlets as t
from matplotlib.figure import Figure

from llm_course.config import ModelConfig
from llm_course.models import DecoderOnlyModel
from llm_course.viz.decoder import parameter_bars
from llm_course.widgets.base import LabWidget, page_part

Shape = dict[str, Any]


def _shape(
    layers: int, hidden: int, inner: int, kv: int, group: int, width: int, vocab: int
) -> Shape:
    """The settings of a known model; its embedding and head are two matrices."""
    sizes = {"layers": layers, "hidden": hidden, "inner": inner, "kv_heads": kv}
    texts = {"group": str(group), "head_dim": str(width), "vocab": str(vocab)}
    return {**sizes, **texts, "tied": False}


SHAPES: dict[str, Shape] = {
    "SmolLM2 135M": {**_shape(30, 576, 1536, 3, 3, 64, 49152), "tied": True},
    "tiny": _shape(4, 256, 512, 4, 1, 64, 32000),
    "Llama 2 7B": _shape(32, 4096, 11008, 32, 1, 128, 32000),
    "Llama 3 8B": _shape(32, 4096, 14336, 8, 4, 128, 128256),
    "Llama 3 70B": _shape(80, 8192, 28672, 8, 8, 128, 128256),
}


def config_of(settings: Shape) -> ModelConfig:
    """The configuration that these settings describe."""
    return ModelConfig(
        vocab_size=int(settings["vocab"]),
        hidden_dim=settings["hidden"],
        intermediate_dim=settings["inner"],
        num_layers=settings["layers"],
        num_heads=settings["kv_heads"] * int(settings["group"]),
        num_kv_heads=settings["kv_heads"],
        head_dim=int(settings["head_dim"]),
        max_position_embeddings=1,  # no parameter depends on it
        tie_word_embeddings=settings["tied"],
    )


def count(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, counted in a model of one such layer that has no storage."""
    with torch.device("meta"):
        model = DecoderOnlyModel(replace(config, num_layers=1))
    numbers = {name: p.numel() for name, p in model.named_parameters()}

    def of(*words: str) -> int:
        return sum(n for name, n in numbers.items() if any(w in name for w in words))

    norms = of("layernorm")
    return {
        "embedding": of("embed_tokens"),
        "attention": config.num_layers * of("self_attn"),
        "MLP": config.num_layers * of("mlp"),
        "norms": config.num_layers * norms + numbers["norm.weight"],
        "output head": of("lm_head"),  # 0 when tied: then it is the embedding
    }


class ParameterLab(LabWidget):
    """Sliders for a model's shape, and its parameters by part."""

    _esm = page_part("parameters")
    _css = page_part("parameters", kind=".css")
    shapes = t.Dict(SHAPES).tag(sync=True)
    parts = t.Dict().tag(sync=True)
    total = t.Int().tag(sync=True)

    def __init__(self) -> None:
        settings = SHAPES["SmolLM2 135M"]
        super().__init__(name="Parameters by part", settings=settings)
        self.do_show(settings)

    def figure(self) -> Figure:
        """All known shapes, part by part."""
        return parameter_bars({name: count(config_of(s)) for name, s in SHAPES.items()})

    def do_show(self, settings: Shape) -> None:
        """Count the parameters of these settings."""
        parts = count(config_of(settings))
        self.total = sum(parts.values())
        self.parts = parts
