"""The bug hunt of 06_kv_cache: a cache in which each layer counts its own tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llm_course.config import ModelConfig
from llm_course.engine import KVCache
from llm_course.exercises.ch06.models import tiny_config
from llm_course.exercises.hunts import BugHunt


class Course(KVCache):
    """The course's own, with the arguments of the suspect."""

    def __init__(self, config: ModelConfig, batch_size: int, capacity: int) -> None:
        super().__init__(config, batch_size, capacity)


class OneLayer:
    """Keys and values of one layer, which counts for itself."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.storage, self.filled = torch.zeros(shape), 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        start, end = self.filled, self.filled + k.shape[2]
        while self.storage.shape[3] < end:
            self.storage = self.doubled()
        self.storage[0, :, :, start:end], self.storage[1, :, :, start:end] = k, v
        self.filled = end
        return self.storage[0, :, :, :end], self.storage[1, :, :, :end]

    def doubled(self) -> Tensor:
        return torch.cat([self.storage, torch.zeros_like(self.storage)], dim=3)


class ByLayer:
    """Right, but for a pass that breaks off: the layers that had their turn have moved
    on."""

    one_layer = OneLayer

    def __init__(self, config: ModelConfig, batch_size: int, capacity: int) -> None:
        shape = (2, batch_size, config.num_kv_heads, capacity, config.head_dim)
        self.layers = [self.one_layer(shape) for _ in range(config.num_layers)]
        self.length = 0

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers[layer_idx].append(k, v)

    def advance(self, n: int) -> None:
        self.length += n

    def truncate(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise ValueError(f"length = {length}: the cache holds {self.length} tokens")
        self.length = length
        for layer in self.layers:
            layer.filled = length

    def reset(self) -> None:
        self.truncate(0)


class Mended(ByLayer):
    """The planted one without its bug: each layer begins behind the one `length`."""

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.layers[layer_idx].filled = self.length
        return super().update(layer_idx, k, v)


class TruncatesTheLengthAlone(ByLayer):
    def truncate(self, length: int) -> None:
        filled = self.layers[0].filled
        super().truncate(length)
        for layer in self.layers if length else ():
            layer.filled = filled


class FrontLayer(OneLayer):
    def doubled(self) -> Tensor:
        return torch.cat([torch.zeros_like(self.storage), self.storage], dim=3)


class GrowsInFront(ByLayer):
    one_layer = FrontLayer


class OncePerLayer(Course):
    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        found = super().update(layer_idx, k, v)
        self.length += k.shape[2]
        return found

    def advance(self, n: int) -> None:
        pass


class WrapsAround(Course):
    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        storage, end = self.layers[layer_idx], self.length + k.shape[2]
        places = torch.arange(self.length, end) % storage.shape[3]
        storage[0, :, :, places], storage[1, :, :, places] = k, v
        return storage[0, :, :, :end], storage[1, :, :, :end]


class NotReset(Course):
    def reset(self) -> None:
        pass


class OneTooEarly(Course):
    """From the second pass on, the last token that was there is written over."""

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + k.shape[2]
        if end > self.layers[layer_idx].shape[3]:
            self._grow(layer_idx, end)
        storage, back = self.layers[layer_idx], min(self.length, 1)
        storage[0, :, :, self.length - back : end - back] = k
        storage[1, :, :, self.length - back : end - back] = v
        return storage[0, :, :, :end], storage[1, :, :, :end]


Implementation = Callable[[ModelConfig, int, int], KVCache]


def marked(start: int, count: int) -> Tensor:
    """[1, Hkv, count, D], each number the position it belongs to."""
    places = torch.arange(start, start + count, dtype=torch.float32)
    return places[None, None, :, None].expand(1, 2, count, 8)


def fed(cache: KVCache, count: int) -> None:
    for layer_idx in range(2):
        k, v = cache.update(
            layer_idx, marked(cache.length, count), -marked(cache.length, count)
        )
        assert torch.equal(k, marked(0, cache.length + count))
        assert torch.equal(v, -k)
    cache.advance(count)


def whole_passes(implementation: Implementation) -> None:
    """Growth, truncation and reset, but every pass comes to its end."""
    cache = implementation(tiny_config(), 1, 2)
    for count in (2, 1, 3):
        fed(cache, count)
    cache.truncate(4)
    fed(cache, 1)
    cache.reset()
    fed(cache, 2)


def lengths_only(implementation: Implementation) -> None:
    """Looks at `length`, not at what is stored."""
    cache = implementation(tiny_config(), 1, 4)
    cache.update(0, marked(0, 3), marked(0, 3))
    cache.update(1, marked(0, 3), marked(0, 3))
    cache.advance(3)
    cache.truncate(1)
    assert cache.length == 1


def nothing(implementation: Implementation) -> None:
    """Looks at nothing."""


def refuses_a_longer_truncation(implementation: Implementation) -> None:
    """The planted one refuses it, too."""
    try:
        implementation(tiny_config(), 1, 4).truncate(3)
    except ValueError:
        return
    raise AssertionError


def refuses_another_dtype(implementation: Implementation) -> None:
    """Neither the planted one nor the right one looks at it."""
    try:
        implementation(tiny_config(), 1, 4).update(
            0, marked(0, 2).half(), marked(0, 2).half()
        )
    except ValueError:
        return
    raise AssertionError


def expects_tensors(implementation: Implementation) -> None:
    """How a cache is made inside is nobody's business."""
    assert isinstance(implementation(tiny_config(), 1, 4).layers[0], Tensor)


HUNT = BugHunt(
    "06.hunt",
    right=Mended,
    planted=ByLayer,
    kind="one that does not show as long as nothing goes wrong",
    others={
        "the length advanced once for each layer": OncePerLayer,
        "new room in front of what is held, not behind it": GrowsInFront,
        "places that wrap around when the room is full": WrapsAround,
        "a reset that forgets nothing": NotReset,
        "a truncation that lowers the length, while the layers go on where they were": (
            TruncatesTheLengthAlone
        ),
        "tokens written one place too early, from the second pass on": OneTooEarly,
    },
    wrong={
        "Your test accepts the planted bug": whole_passes,
        "Your test accepts the planted bug.": lengths_only,
        "It passes a bug of this kind": nothing,
        "It lets 6 of 6 others pass": refuses_a_longer_truncation,
        "Your test rejects the right implementation": expects_tensors,
        "Your test rejects the right implementation.": refuses_another_dtype,
    },
)
