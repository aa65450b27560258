"""The check of 06.window: the first tokens and the newest, in a cache of fixed size."""

from unittest.mock import patch

import torch
from torch import Tensor

from llm_course.engine import KVCache, make_cache
from llm_course.exercises import Case, Cases, Complaints, Exercise, Function
from llm_course.exercises.ch06.models import tiny_model, token_ids
from llm_course.models import DecoderOnlyModel, SelfAttention


def banded(model: DecoderOnlyModel, ids: Tensor, first: int, last: int) -> Tensor:
    """All at once, with a mask for what each token may see: [S, V]."""
    places = torch.arange(ids.shape[1])
    age = places[:, None] - places  # [S, S]
    mask = (age >= 0) & ((age < last) | (places < first))
    x = model.embed_tokens(ids)  # [1, S, hidden]
    for layer in model.layers:
        x = layer(x, mask[None, None], places[None])
    return model.lm_head(model.norm(x))[0]


def stepwise(model: DecoderOnlyModel, ids: Tensor, first: int, last: int) -> Tensor:
    """The same one token at a time, in a cache of fixed size."""
    size, logits = first + last, []
    cache = make_cache(model, capacity=size)
    for t in range(ids.shape[1]):
        if cache.length == size:
            for kv in cache.layers:  # [2, B, Hkv, capacity, D]
                kv[:, :, :, first : size - 1] = kv[:, :, :, first + 1 : size].clone()
            cache.truncate(size - 1)
        where = torch.tensor([[t]])
        step = model(ids[:, t : t + 1], position_ids=where, kv_cache=cache)
        logits.append(step[0, -1])
    return torch.stack(logits)


def fed_anew(model: DecoderOnlyModel, ids: Tensor, first: int, last: int) -> Tensor:
    """No cache: what is in sight goes through the model at every step."""
    logits = []
    for t in range(ids.shape[1]):
        places = torch.arange(t + 1)
        places = places[(places < first) | (places > t - last)]
        logits.append(model(ids[:, places], position_ids=places[None])[0, -1])
    return torch.stack(logits)


def cases() -> Cases:
    yield Case(tiny_model(), token_ids(1, 4), 1, 3, name="all fits")
    yield Case(tiny_model(), token_ids(1, 8), 0, 3, name="no first tokens")
    yield Case(tiny_model(), token_ids(1, 12), 2, 4)
    deep = tiny_model(num_layers=3)
    yield Case(deep, token_ids(1, 12), 1, 1, name="itself and the first token")


def keys_read(function: Function) -> Complaints:
    """Counts queries and keys of the passes, and the places of the cache."""
    attend, update = SelfAttention.attend, KVCache.update
    queries, keys, reserved = [0], [0], [0]

    def counting(layer: SelfAttention, q: Tensor, k: Tensor, *rest: Tensor) -> Tensor:
        if layer.layer_idx == 0:
            queries.append(q.shape[2])
            keys.append(k.shape[2])
        return attend(layer, q, k, *rest)

    def watching(cache: KVCache, layer_idx: int, *kv: Tensor) -> tuple[Tensor, Tensor]:
        found = update(cache, layer_idx, *kv)
        reserved.append(cache.layers[layer_idx].shape[3])
        return found

    with (
        patch.object(SelfAttention, "attend", counting),
        patch.object(KVCache, "update", watching),
    ):
        function(tiny_model(), token_ids(1, 12), 2, 3)
    if (most := max(keys)) > 5:
        yield (
            f"with first = 2 and last = 3 a pass reads {most} keys; the cache holds 5"
            " at most. To hide a token behind a mask gives no memory back."
        )
    if (n := sum(queries)) > 12:
        yield f"{n} positions go through the model for 12 tokens; each has to go once."
    if max(reserved) > 5:
        yield (
            f"with first = 2 and last = 3 the cache reserves {max(reserved)} places; 5"
            " are enough. `make_cache` takes a capacity."
        )


WRONG = """
that takes cache.length for the position; it stops growing when tokens are forgotten
    [[t]] -> [[cache.length]]
that forgets the first tokens too
    banded ;; (age < last) | (places < first) -> age < first + last
with one token more in the window: make room before the pass
    banded ;; age < last -> age <= last
with one token less in the window: a token sees itself and last - 1 before it
    banded ;; age < last -> age < last - 1
that forgets the newest token; the oldest after the first ones has to go
    kv[:, :, :, first : size - 1] = kv[:, :, :, first + 1 : size].clone() -> pass
that moves the newest token to the place of the oldest: at the next step the place after
the first ones no longer holds the oldest
    first : size - 1] = -> first] = ;; first + 1 : size].clone() -> size - 1]
that moves the keys and leaves the values
    kv[:, :, :, first : -> kv[0, :, :, first : ;; = kv[:, -> = kv[0,
that moves the tokens of the first layer only
    .layers -> .layers[:1]
that moves the tokens and leaves the length: the newest is in the cache twice
    cache.truncate(size - 1) -> pass
that empties the window when it is full
    truncate(size - 1) -> truncate(first)
that forgets nothing: each token sees all before it
    banded ;; & ((age < last) | (places < first)) ->
whose positions fall one behind as soon as a token is forgotten
    [[t]] -> [[t - (t > cache.length)]]
whose positions run one ahead as soon as a token is forgotten
    [[t]] -> [[t + (t > cache.length)]]
that feeds the window anew at each step, so that its tokens forget what they had seen
themselves
    fed_anew
that feeds the window anew at each step, without positions: its tokens forget what they
had seen, and stand at other places than in the text
    fed_anew ;; , position_ids=places[None] ->
"""

CHECK = Exercise(
    "06.window", banded, cases, WRONG, stepwise, rtol=1e-3, atol=1e-3, rule=keys_read
)
