"""The check of 03.grouped: shared keys and values without a copy for each head."""

import math

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal
from llm_course.exercises.watch import watched


def grouped(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    """The heads of a group are further queries of their K/V head."""
    group, queries, keys = q.shape[1] // k.shape[1], q.shape[2], k.shape[2]
    rows = q.unflatten(1, (-1, group)).flatten(2, 3)  # [B, Hkv, group * Q, D]
    scores = rows @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    scores = cap * torch.tanh(scores / cap)
    mask = torch.ones(queries, keys).tril(keys - queries).bool().repeat(group, 1)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return (weights @ v).reshape(q.shape)


def cases() -> Cases:
    """The fourth has as many keys as a group has queries: there both masks fit."""
    ones = torch.ones(1, 2, 1, 1)
    keys, values = torch.tensor([0.0, 4.0]), torch.tensor([0.0, 1.0])
    yield Case(ones, keys.view(1, 1, 2, 1), values.view(1, 1, 2, 1), 1.0)
    for b, h, kv, q, k, d, cap in (
        (1, 4, 2, 3, 3, 4, 2.0),
        (2, 6, 2, 3, 5, 4, 1.0),
        (1, 4, 2, 3, 6, 4, 50.0),
        (1, 9, 3, 2, 10, 64, 1.5),
        (2, 3, 3, 4, 4, 8, 2.0),
        (1, 4, 1, 1, 7, 8, 2.0),
    ):
        shapes = (b, h, q, d), (b, kv, k, d), (b, kv, k, d)
        yield Case(*(2 * normal(*shape, seed=i) for i, shape in enumerate(shapes)), cap)


def memory(function: Function) -> Complaints:
    q, k = normal(1, 8, 2, 16), normal(1, 2, 32, 16, seed=1)
    v = normal(1, 2, 32, 16, seed=2)
    most, copies = watched(function, q, k, v, 50.0).largest, 8 * 32 * 16
    if most >= copies:
        yield (
            f"for q {list(q.shape)} and k {list(k.shape)} it makes a tensor of {most}"
            " numbers. That is k, copied for each of the 8 query heads. `expand` makes"
            " no copy, but `@` and `reshape` copy what they get expanded."
        )


WRONG = """
in which query head h reads K/V head h % Hkv
    q.unflatten(1, (-1, group)) -> q.unflatten(1, (group, -1)).transpose(1, 2)
    reshape(q.shape) -> unflatten(2, (group, -1)).transpose(1, 2).reshape(q.shape)
with one long triangle over the queries of all heads of a group
    mask = -> queries *= group; mask = ;; .repeat(group, 1) ->
whose mask repeats each row; the queries of a head stand side by side
    repeat(group, 1) -> repeat_interleave(group, dim=0)
that mixes heads and queries when it takes the groups apart
    (-1, group)) -> (-1, group)).transpose(2, 3)
    repeat(group, 1) -> repeat_interleave(group, dim=0)
with the triangle at the top left
    tril(keys - queries) -> tril()
without a mask
    .masked_fill(~mask, -torch.inf) ->
that caps after the mask: the cap makes -inf finite, and the future is read
    = cap * torch.tanh(scores / cap) -> = scores
    inf) -> inf).div(cap).tanh().mul(cap)
that caps before the division by sqrt(D)
    / math.sqrt(q.shape[-1]) -> ;; / cap) -> / cap) / math.sqrt(q.shape[-1])
without the cap
    cap * torch.tanh(scores / cap) -> scores
that cuts scores off at the cap
    cap * torch.tanh(scores / cap) -> scores.clamp(-cap, cap)
without 1 / sqrt(D)
    / math.sqrt(q.shape[-1]) ->
"""

CHECK = Exercise("03.grouped", grouped, cases, WRONG, rtol=1e-3, rule=memory)
