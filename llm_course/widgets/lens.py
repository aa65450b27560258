"""The layer lens of notebook 04: the best guess after each layer, and the model with
some of its parts left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

import torch
import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor, nn

from llm_course.models import DecoderOnlyModel
from llm_course.text import Tokenizer
from llm_course.viz.decoder import lens_grid
from llm_course.viz.probe import record
from llm_course.widgets.base import LabWidget, ids_to_draw, page_part

MAX_TOKENS, BEST = 14, 5


@contextmanager
def without(
    model: DecoderOnlyModel, layers: Iterable[int], mlps: Iterable[int]
) -> Iterator[None]:
    """Inside the block these layers hand on what they get, and these MLPs add 0."""

    def returning(value: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda _module, inputs, _output: value(inputs[0])

    with ExitStack() as hooks:
        left_out: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [
            *((model.layers[n], lambda x: x) for n in layers),
            *((model.layers[n].mlp, torch.zeros_like) for n in mlps),
        ]
        for module, value in left_out:
            handle = module.register_forward_hook(returning(value))
            hooks.callback(handle.remove)
        yield


class LayerLens(LabWidget):
    """A prompt; after each layer and at each position the tokens that the head would
    give; the next token with some layers or MLPs left out.

    `settings["layers"]` and `settings["mlps"]` list what is left out.
    """

    _esm = page_part("lens")
    _css = page_part("lens", kind=".css")
    grid = t.Dict().tag(sync=True)

    def __init__(
        self, model: DecoderOnlyModel, tokenizer: Tokenizer, prompt: str
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._read = lru_cache(maxsize=8)(self._guesses)
        settings = {"prompt": prompt, "layers": [], "mlps": []}
        super().__init__(name="Layer lens", settings=settings)
        self.do_show(settings)

    def figure(self) -> Figure:
        """The best guess after each layer, at each position."""
        ids = self._ids(self.settings)
        probs, best = self._read(ids, (), ())
        top = [self.tokenizer.tokens(row.tolist()) for row in best[..., 0]]
        return lens_grid(top, probs[..., 0], self.tokenizer.tokens(list(ids)))

    def do_show(self, settings: dict[str, Any]) -> None:
        """Draw the grid, and the next token beside the whole model's."""
        try:
            ids = self._ids(settings)
        except Exception:
            self.grid = {}  # no grid of something else stays
            raise
        out = tuple(sorted(settings["layers"])), tuple(sorted(settings["mlps"]))
        probs, best = self._read(ids, *out)  # [L + 1, S, BEST] each
        whole_probs, whole_best = (x[-1, -1] for x in self._read(ids, (), ()))
        self.grid = {
            "tokens": self.tokenizer.tokens(list(ids)),
            "cells": [
                [self._pairs(p, b) for p, b in zip(*row, strict=True)]
                for row in zip(probs, best, strict=True)
            ],
            "whole": self._pairs(whole_probs, whole_best),
            "out": [list(part) for part in out],
        }

    def _pairs(self, probs: Tensor, best: Tensor) -> list[tuple[str, float]]:
        """The best tokens of one cell: name and probability."""
        names = self.tokenizer.tokens(best.tolist())
        return list(zip(names, probs.tolist(), strict=True))

    def _guesses(
        self, ids: tuple[int, ...], layers: tuple[int, ...], mlps: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and ids of the best tokens after the embedding and after each
        layer, at each position: [L + 1, S, BEST] each."""
        model, size = self.model, self.tokenizer.vocab_size
        names = ["embed_tokens", *(f"layers.{n}" for n in range(len(model.layers)))]
        found = []
        with torch.inference_mode(), without(model, layers, mlps):
            with record(model, *names) as seen:
                model(torch.tensor([ids]))
            for name in names:  # one after the other: all logits at once are large
                logits = model.lm_head(model.norm(seen[name].output[0]))[:, :size]
                found.append(logits.float().softmax(-1).topk(BEST))
        probs, best = (torch.stack(parts).cpu() for parts in zip(*found, strict=True))
        return probs, best

    def _ids(self, settings: dict[str, Any]) -> tuple[int, ...]:
        """The ids of the prompt. ValueError: it cannot be drawn."""
        text = settings["prompt"]
        return ids_to_draw(self.tokenizer, text, 1, MAX_TOKENS, "prompt", "lens")
