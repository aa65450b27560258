"""The check of 06.rows: rows of one cache, copied into another."""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from llm_course.engine import KVCache, make_cache
from llm_course.exercises import Case, Cases, Exercise, Function, Observed
from llm_course.exercises.ch06.models import contents, held, tiny_model, token_ids
from llm_course.models import DecoderOnlyModel as Model

Pair = tuple[Model, KVCache]
OWN = "its own, a place for each row"


def seen(function: Function, model: Any, cache: KVCache, *rest: Any) -> Any:
    """What is in the new cache, and in the old one after a write to the new one."""
    old = cache.layers[0]
    # Zeros for uninitialised memory: places that nobody fills are alike in each run.
    with patch.object(torch, "empty", torch.zeros):
        new = function(model, cache, *rest)
    if not isinstance(new, KVCache):
        return new
    facts: dict[str, Any] = {
        "The number of rows": new.batch_size,
        "The memory of the new cache": memory(new, old),
        "The length": new.length,
        "The max_length": new.max_length,
        "The capacity": new.capacity,
        "The stored keys and values [L, 2, B, Hkv, length, D]": contents(new),
    }
    if facts["The memory of the new cache"] == OWN:
        for storage in new.layers:
            storage.zero_()
    facts["The number of rows of the old cache, afterwards,"] = cache.batch_size
    facts["The old cache after a write to the new one"] = contents(cache)
    return Observed("a KVCache", facts)


def memory(new: KVCache, old: Tensor) -> str:
    """Whose memory the first layer of `new` is; `old` is that of the old cache."""
    storage = new.layers[0]
    if storage.untyped_storage().data_ptr() == old.untyped_storage().data_ptr():
        return "that of the old cache: a view, not a copy"
    if storage.shape[1] > 1 and storage.stride(1) == 0:
        return "one place for all rows: an expanded view, not copies"
    return OWN


def take_rows(model: Model, cache: KVCache, rows: list[int], room: int) -> KVCache:
    n = cache.length
    new = make_cache(model, len(rows), n + room)
    for i, old in enumerate(cache.layers):  # [2, B, Hkv, capacity, D]
        new.layers[i][:, :, :, :n] = old[:, rows, :, :n]
    new.advance(n)
    return new


def cases() -> Cases:
    def filled(rows: int, length: int, capacity: int, dtype: str = "float32") -> Pair:
        model = tiny_model(dtype)
        return model, held(model, token_ids(rows, length), capacity)

    yield Case(*filled(1, 3, 3), [0], 3, name="a plain copy")
    yield Case(*filled(1, 5, 16), [0, 0, 0], 4, name="three answers")
    yield Case(*filled(3, 4, 6), [2, 0, 2, 1], 3, name="beams")
    yield Case(*filled(3, 6, 8), [1], 1, name="two rows have ended")
    yield Case(*filled(2, 4, 5, "bfloat16"), [1, 0], 2, name="a model in bfloat16")


WRONG = """
whose length stays 0: the copy looks empty to the model
    new.advance(n) -> pass
that advances the length once for each layer; it is one length for all
    old[:, rows, :, :n]
        new.advance(n) -> old[:, rows, :, :n]; new.advance(n)
with the capacity of the old cache
    n + room -> cache.capacity
that adds `room` to the capacity of the old cache; only its length counts
    n + room -> cache.capacity + room
that reserves `room` places in all; what is held needs places of its own
    n + room -> room ;; new.layers[i][:, :, :, :n] = old[:, rows, :, :n] ->
        new.update(i, *old[:, rows, :, :n])
with a max_length: past `room` the new cache could not grow
    return -> new.max_length = new.capacity; return
that copies the unused places of the old cache too
    new.layers[i][:, :, :, :n] = old[:, rows, :, :n] -> new.update(i, *old[:, rows])
that cuts the old storage to the new capacity; it may be too short for that
    [i][:, :, :, :n] = old[:, rows, :, :n] -> [i] = old[:, rows, :, : n + room]
that copies row 0 into every row
    old[:, rows -> old[:, [0] * len(rows)
that copies the rows in their old order
    old[:, rows -> old[:, [r % cache.batch_size for r in range(len(rows))]
that changes the old cache instead of making a new one
    return new -> cache.layers = new.layers; return cache
that picks the rows within the old cache, without a new one and without room
    make_cache(model, len(rows), n + room) -> cache
    [i][:, :, :, :n] = old[:, rows, :, :n] -> [i] = old[:, rows]
    new.advance(n) -> pass
that copies the keys and leaves the values
    [:, :, :, :n] = old[:, rows -> [0, :, :, :n] = old[0, rows
that picks along dimension 0, keys and values; the rows are dimension 1 of [2, B, Hkv,
capacity, D]
    old[:, rows, :, :n] -> old[rows, :, :, :n]
whose rows are views of the old cache's memory
    [i][:, :, :, :n] = old[:, rows, :, :n] ->
        [i] = old[:, rows[0] : rows[0] + 1].expand(-1, len(rows), -1, -1, -1)
that stores float32, whatever the model's dtype
    make_cache(model, -> KVCache(model.config,
that fills the first layer only
    (cache.layers) -> (cache.layers[:1])
"""

CHECK = Exercise("06.rows", take_rows, cases, WRONG, call=seen)
