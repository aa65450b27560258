"""All attention heads of one forward pass: scores, weights, habits, and the model
without some of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llm_course.models.attention import SelfAttention, attention_weights

Head = tuple[int, int]  # layer, query head
REPEATED = 24  # random tokens, said twice: what comes next stands in the text


@dataclass(frozen=True)
class Look:
    """One text: scores q·k / √D before the mask and weights, each [L, H, S, S], and the
    logits [V] after it."""

    scores: Tensor
    weights: Tensor
    logits: Tensor


@contextmanager
def _watched(model: nn.Module, out: Iterable[Head]) -> Iterator[list[tuple]]:
    """Record (scores, weights) of each layer, and let the heads `out` add nothing."""
    seen: list[tuple[Tensor, Tensor]] = []
    layers = [m for m in model.modules() if isinstance(m, SelfAttention)]

    def recorder(layer: SelfAttention) -> Callable[..., Tensor]:
        silent = [head for at, head in out if at == layer.layer_idx]

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            keys = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
            scores = q @ keys.transpose(-2, -1) / math.sqrt(q.shape[-1])
            seen.append((scores[0], attention_weights(q, k, mask)[0]))
            mixed = type(layer).attend(layer, q, k, v, mask).clone()  # [B, H, S, D]
            mixed[:, silent] = 0
            return mixed

        return attend

    for layer in layers:
        layer.attend = recorder(layer)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for layer in layers:
            del layer.attend


def look(model: nn.Module, ids: Iterable[int], out: Iterable[Head] = ()) -> Look:
    """Run a text, with the heads `out` knocked out: what they give is 0."""
    with torch.inference_mode(), _watched(model, tuple(out)) as seen:
        logits = model(torch.tensor([list(ids)]), last_only=True)[0, -1]
    scores, weights = (
        torch.stack(parts).float().cpu() for parts in zip(*seen, strict=True)
    )
    return Look(scores, weights, logits.float().cpu())


def repeated_ids(vocab_size: int) -> list[int]:
    """Random tokens, twice in a row."""
    fixed = torch.Generator().manual_seed(0)
    once = torch.randint(vocab_size, (REPEATED,), generator=fixed).tolist()
    return once + once


def habits(weights: Tensor, repeated: Tensor) -> dict[str, Tensor]:
    """How much of each head's weight goes where, on average over the queries: [L, H].

    weights [L, H, S, S] of a text, and `repeated` those of `repeated_ids`. Queries
    count from the third token on, where itself, the one before and the first differ.
    """
    size = weights.shape[-1]
    queries = torch.arange(min(2, size - 1), size)
    later = torch.arange(REPEATED, 2 * REPEATED)
    surprise = torch.where(weights > 0, -weights.log2(), 0.0)
    return {
        "token before": weights[:, :, queries, (queries - 1).clamp(min=0)].mean(-1),
        "first token": weights[:, :, queries, 0].mean(-1),
        "itself": weights[:, :, queries, queries].mean(-1),
        # the token that came after this one, the first time
        "induction": repeated[:, :, later, later - REPEATED + 1].mean(-1),
        "entropy": (weights * surprise).sum(-1)[:, :, queries].mean(-1),
    }


def ranked(habit: Tensor, count: int) -> list[tuple[int, int, float]]:
    """The `count` heads with the most of a habit [L, H]: layer, head, how much."""
    best = habit.flatten().topk(min(count, habit.numel()))
    heads = habit.shape[1]
    return [
        (i // heads, i % heads, value)
        for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
