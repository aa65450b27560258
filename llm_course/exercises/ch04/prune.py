"""The check of exercise 04.prune: which layers can be left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch04.models import (
    joined_loss,
    leaves_the_model,
    next_token_loss,
    same_token_loss,
    small_model,
    token_ids,
)
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models.transformer import DecoderOnlyModel

Dropped = list[tuple[int, float]]
Loss = Callable[[DecoderOnlyModel, Iterable[int], Tensor], float]


def logits_of(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> Tensor:
    """Logits [B, S, V] of the layers `kept` alone."""
    x = model.embed_tokens(ids)  # [B, S, hidden]
    for n in kept:
        x = model.layers[n](x)
    return model.lm_head(model.norm(x))


def loss_of(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    return float(next_token_loss(logits_of(model, kept, ids), ids))


def greedy(loss: Loss, choose: Callable[..., int] = min) -> Callable[..., Dropped]:
    """Drop one layer at a time, measured by `loss`."""

    def prune(model: DecoderOnlyModel, ids: Tensor, count: int) -> Dropped:
        kept, dropped = list(range(len(model.layers))), []
        for _ in range(count):
            losses = {n: loss(model, [m for m in kept if m != n], ids) for n in kept}
            best = choose(losses, key=losses.__getitem__)
            kept.remove(best)
            dropped.append((best, losses[best]))
        return dropped

    return prune


prune = greedy(loss_of)


def unshifted(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    return float(same_token_loss(logits_of(model, kept, ids), ids))


def joined(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    return float(joined_loss(logits_of(model, kept, ids), ids))


def last_token(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    return float(next_token_loss(logits_of(model, kept, ids)[:, -2:], ids[:, -2:]))


def first_text(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    return loss_of(model, kept, ids[:1])


def without_norm(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    x = model.embed_tokens(ids)
    for n in kept:
        x = model.layers[n](x)
    return float(next_token_loss(model.lm_head(x), ids))


def attention_only(model: DecoderOnlyModel, kept: Iterable[int], ids: Tensor) -> float:
    """Of a layer left out, the MLP stays."""
    x = model.embed_tokens(ids)
    for n, layer in enumerate(model.layers):
        if n in kept:
            x = layer(x)
        else:
            x = x + layer.mlp(layer.post_attention_layernorm(x))
    return float(next_token_loss(model.lm_head(model.norm(x)), ids))


def rise(model: DecoderOnlyModel, ids: Tensor, count: int) -> Dropped:
    whole = loss_of(model, range(len(model.layers)), ids)
    return [(n, loss - whole) for n, loss in prune(model, ids, count)]


def renumbered(model: DecoderOnlyModel, ids: Tensor, count: int) -> Dropped:
    """The number is the place among the layers that are left."""
    kept, dropped = list(range(len(model.layers))), []
    for n, loss in prune(model, ids, count):
        dropped.append((kept.index(n), loss))
        kept.remove(n)
    return dropped


def ranked(model: DecoderOnlyModel, ids: Tensor) -> Dropped:
    """Each layer left out alone, the smallest loss first."""
    layers = range(len(model.layers))
    losses = [(n, loss_of(model, [m for m in layers if m != n], ids)) for n in layers]
    return sorted(losses, key=lambda pair: pair[1])


def one_ranking(model: DecoderOnlyModel, ids: Tensor, count: int) -> Dropped:
    kept, dropped = list(range(len(model.layers))), []
    for n, _ in ranked(model, ids)[:count]:
        kept.remove(n)
        dropped.append((n, loss_of(model, kept, ids)))
    return dropped


def put_back(model: DecoderOnlyModel, ids: Tensor, count: int) -> Dropped:
    return ranked(model, ids)[:count]


def best_set(model: DecoderOnlyModel, ids: Tensor, count: int) -> Dropped:
    """Sorted by number: the order in which they were dropped is lost."""
    return sorted(prune(model, ids, count))


def prune_cases() -> Iterator[Case]:
    yield case(small_model(num_layers=2), token_ids(1, 5), 1, name="two layers")
    yield case(small_model(7, num_layers=5), token_ids(1, 12), 3, name="five layers")
    yield case(
        small_model(3, num_layers=5), token_ids(2, 8, seed=1), 3, name="two texts"
    )


def leaves_it(function: Callable[..., Dropped]) -> str | None:
    """Flags, modules and hooks do not show in the weights."""
    return leaves_the_model(torch.no_grad()(function), 1)


PRUNE = Exercise(
    "04.prune",
    reference=prune,
    cases=prune_cases,
    wrong={
        "that drops the layer without which the loss is highest": greedy(loss_of, max),
        "that measures once, with all other layers there, and drops by that ranking": (
            one_ranking
        ),
        "that puts each layer back before the next is dropped": put_back,
        "that numbers the layers anew after each drop": renumbered,
        "that returns the layers by number, not in the order of dropping": best_set,
        "that takes away attention alone; the MLP of the layer is still there": greedy(
            attention_only
        ),
        "that compares each position with its own token, not with the next": greedy(
            unshifted
        ),
        "in which the end of each text predicts the beginning of the next text": greedy(
            joined
        ),
        "that measures the last token alone": greedy(last_token),
        "without the final norm in front of the head": greedy(without_norm),
        "that returns how much the loss rises, not the loss": rise,
        "that measures the first text of the batch alone": greedy(first_text),
    },
    properties=(leaves_it,),
)
