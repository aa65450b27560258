"""The check of exercise 06.rows: rows of one cache, copied into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from llm_course.engine import KVCache, make_cache
from llm_course.exercises.ch06.models import contents, held, random_ids, tiny_model
from llm_course.exercises.compare import Observed
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models import DecoderOnlyModel

TakeRows = Callable[[DecoderOnlyModel, KVCache, list[int], int], KVCache]


def seen(
    function: TakeRows,
    model: DecoderOnlyModel,
    cache: KVCache,
    rows: list[int],
    room: int,
) -> Any:
    """What is in the new cache, and in the old one after a write to the new one."""
    before = cache.layers[:1]
    with patch("llm_course.engine.kv_cache._reserve", zeros):
        new = function(model, cache, rows, room)
    if not isinstance(new, KVCache):
        return new
    facts: dict[str, Any] = {
        "The number of rows": new.batch_size,
        "The memory of the new cache": memory(new, before[0]),
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


OWN = "its own, a place for each row"


def zeros(
    shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    """In place of uninitialised memory: places that nobody fills look alike in each
    run."""
    with torch.inference_mode(False):
        return torch.zeros(shape, device=device, dtype=dtype)


def memory(new: KVCache, old: Tensor) -> str:
    """Whose memory the first layer of `new` is; `old` is that of the old cache."""
    storage = new.layers[0]
    if storage.untyped_storage().data_ptr() == old.untyped_storage().data_ptr():
        return "that of the old cache: a view, not a copy"
    if storage.shape[1] > 1 and storage.stride(1) == 0:
        return "one place for all rows: an expanded view, not copies"
    return OWN


def copied(
    model: DecoderOnlyModel,
    cache: KVCache,
    rows: list[int],
    capacity: int,
    layers: int = 99,
) -> KVCache:
    """A cache of `capacity` with the rows, in the first `layers` layers, whose length
    is still 0."""
    new = make_cache(model, len(rows), capacity)
    for storage, old in zip(new.layers[:layers], cache.layers, strict=False):
        count = min(cache.length, capacity)
        storage[:, :, :, :count] = old[:, rows, :, :count]
    return new


def take_rows(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = copied(model, cache, rows, cache.length + room)
    new.advance(cache.length)
    return new


def never_advanced(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    return copied(model, cache, rows, cache.length + room)


def advanced_by_layer(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = copied(model, cache, rows, cache.length + room)
    for _ in new.layers:
        new.advance(cache.length)
    return new


def old_capacity(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = copied(model, cache, rows, cache.capacity)
    new.advance(cache.length)
    return new


def added_capacity(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = copied(model, cache, rows, cache.capacity + room)
    new.advance(cache.length)
    return new


def limited(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = take_rows(model, cache, rows, room)
    new.max_length = new.capacity
    return new


def room_in_all(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    """By `update`, which grows a cache that is too small."""
    new = make_cache(model, len(rows), room)
    for i, old in enumerate(cache.layers):
        new.update(i, *old[:, rows, :, : cache.length])
    new.advance(cache.length)
    return new


def unused_too(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = make_cache(model, len(rows), cache.length + room)
    for i, old in enumerate(cache.layers):
        new.update(i, *old[:, rows])
    new.advance(cache.length)
    return new


def cut_off(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = make_cache(model, len(rows), cache.length + room)
    new.layers = [old[:, rows, :, : cache.length + room] for old in cache.layers]
    new.advance(cache.length)
    return new


def first_row(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    return take_rows(model, cache, [0] * len(rows), room)


def in_order(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    return take_rows(
        model, cache, [i % cache.batch_size for i in range(len(rows))], room
    )


def in_place(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = take_rows(model, cache, rows, room)
    cache.layers = new.layers
    return cache


def in_place_by_index(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    """Without room."""
    cache.layers = [old[:, rows] for old in cache.layers]
    return cache


def keys_alone(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = make_cache(model, len(rows), cache.length + room)
    for storage, old in zip(new.layers, cache.layers, strict=True):
        storage[0, :, :, : cache.length] = old[0, rows, :, : cache.length]
    new.advance(cache.length)
    return new


def first_dimension(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    """Picks keys or values, not rows."""
    new = make_cache(model, len(rows), cache.length + room)
    for storage, old in zip(new.layers, cache.layers, strict=True):
        storage[:, :, :, : cache.length] = old[rows, :, :, : cache.length]
    new.advance(cache.length)
    return new


def views(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = make_cache(model, len(rows), cache.length + room)
    new.layers = [old[:, rows[0] : rows[0] + 1] for old in cache.layers]
    new.layers = [old.expand(-1, len(rows), -1, -1, -1) for old in new.layers]
    new.advance(cache.length)
    return new


def default_dtype(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = KVCache(model.config, len(rows), cache.length + room)
    for storage, old in zip(new.layers, cache.layers, strict=True):
        storage[:, :, :, : cache.length] = old[:, rows, :, : cache.length]
    new.advance(cache.length)
    return new


def first_layer(
    model: DecoderOnlyModel, cache: KVCache, rows: list[int], room: int
) -> KVCache:
    new = copied(model, cache, rows, cache.length + room, layers=1)
    new.advance(cache.length)
    return new


def rows_cases() -> Iterator[Case]:
    model = tiny_model()
    yield case(model, held(model, random_ids(1, 3), 3), [0], 2, name="a plain copy")
    yield case(
        model, held(model, random_ids(1, 5), 16), [0, 0, 0], 4, name="three answers"
    )
    yield case(model, held(model, random_ids(3, 4), 6), [2, 0, 2, 1], 3, name="beams")
    yield case(
        model, held(model, random_ids(3, 6), 8), [1], 1, name="two rows have ended"
    )
    half = tiny_model("bfloat16")
    yield case(
        half, held(half, random_ids(2, 4), 5), [1, 0], 2, name="a model in bfloat16"
    )


ROWS = Exercise(
    "06.rows",
    reference=take_rows,
    cases=rows_cases,
    call=seen,
    wrong={
        "whose length stays 0: the copy looks empty to the model": never_advanced,
        "that advances the length once for each layer; it is one length for all": (
            advanced_by_layer
        ),
        "with the capacity of the old cache": old_capacity,
        "that adds `room` to the capacity of the old cache; only its length counts": (
            added_capacity
        ),
        "that reserves `room` places in all; what is held needs places of its own": (
            room_in_all
        ),
        "with a max_length: past `room` the new cache could not grow": limited,
        "that copies the unused places of the old cache too": unused_too,
        "that cuts the old storage to the new capacity; it may be too short for that": (
            cut_off
        ),
        "that copies row 0 into every row": first_row,
        "that copies the rows in their old order": in_order,
        "that changes the old cache instead of making a new one": in_place,
        "that picks the rows within the old cache, without a new one and without room": (
            in_place_by_index
        ),
        "that copies the keys and leaves the values": keys_alone,
        "that picks along dimension 0, keys and values; the rows are dimension 1 of [2, B, Hkv, capacity, D]": (
            first_dimension
        ),
        "whose rows are views of the old cache's memory": views,
        "that stores float32, whatever the model's dtype": default_dtype,
        "that fills the first layer only": first_layer,
    },
)
