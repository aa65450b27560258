"""The check of 04.prune: which layers can be left out."""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function
from llm_course.exercises.ch04.models import LOSS, model_kept, small_model, token_ids
from llm_course.models.transformer import DecoderOnlyModel


def prune(model: DecoderOnlyModel, ids: Tensor, count: int) -> list[tuple[int, float]]:
    def loss_with(numbers: Collection[int]) -> float:
        x = model.embed_tokens(ids)  # [B, S, hidden]
        for n, layer in enumerate(model.layers):
            if n in numbers:
                x = layer(x)
        logits = model.lm_head(model.norm(x))
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        return float(loss)

    every = range(len(model.layers))
    kept, dropped = list(every), []
    for _ in range(count):
        losses = {n: loss_with([m for m in kept if m != n]) for n in kept}
        best = min(losses, key=losses.__getitem__)
        dropped.append((best, losses[best]))
        kept.remove(best)
    return dropped


def cases() -> Cases:
    yield Case(small_model(num_layers=2), token_ids(1, 5), 1, name="two layers")
    yield Case(small_model(7, num_layers=5), token_ids(1, 12), 3, name="five layers")
    two = token_ids(2, 8, seed=1)
    yield Case(small_model(3, num_layers=5), two, 3, name="two texts")


def leaves_it(function: Function) -> Complaints:
    """Flags, modules and hooks do not show in the weights."""
    return model_kept(torch.no_grad()(function), 1)


WRONG = f"""
that drops the layer without which the loss is highest
    min( -> max(
that measures once, with all other layers there, and drops by that ranking
    kept, dropped = -> first, kept, dropped = {{}},
    best = min(losses, key=losses -> first = first or losses; best = min(kept, key=first
that puts each layer back before the next is dropped
    m in kept -> m in every
that numbers the layers anew after each drop
    ((best -> ((kept.index(best)
that returns the layers by number, not in the order of dropping
    return dropped -> return sorted(dropped)
that takes away attention alone; the MLP of the layer is still there
    x = layer(x) -> x = layer(x)
                else: x = x + layer.mlp(layer.post_attention_layernorm(x))
{LOSS}
that measures the last token alone
    logits[:, :-1] -> logits[:, -2:-1] ;; ids[:, 1:] -> ids[:, -1:]
that returns how much the loss rises, not the loss
    return dropped -> return [(n, x - loss_with(every)) for n, x in dropped]
that measures the first text of the batch alone
    every = -> ids = ids[:1]; every =
"""

CHECK = Exercise("04.prune", prune, cases, WRONG, rule=leaves_it)
