"""The bug hunt of 06_kv_cache: a cache in which each layer counts its own tokens."""

from contextlib import suppress

import torch
from torch import Tensor

from llm_course.config import ModelConfig
from llm_course.exercises import BugHunt, Function
from llm_course.exercises.ch06.models import tiny_config


class ByLayer:
    """A right cache: each layer begins behind the one `length`."""

    class OneLayer:
        """Keys and values of one layer, which counts for itself."""

        def __init__(self, shape: tuple[int, ...]) -> None:
            self.storage, self.filled = torch.zeros(shape), 0

        def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            start, end = self.filled, self.filled + k.shape[2]
            while self.storage.shape[3] < end:
                more = torch.zeros_like(self.storage)
                self.storage = torch.cat([self.storage, more], dim=3)
            self.storage[:, :, :, start:end] = torch.stack((k, v))
            self.filled = end
            return self.storage[0, :, :, :end], self.storage[1, :, :, :end]

    def __init__(self, config: ModelConfig, batch_size: int, capacity: int) -> None:
        shape = (2, batch_size, config.num_kv_heads, capacity, config.head_dim)
        self.layers = [self.OneLayer(shape) for _ in range(config.num_layers)]
        self.length = 0

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.layers[layer_idx]
        layer.filled = self.length
        return layer.append(k, v)

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


def marked(start: int, count: int) -> Tensor:
    """[1, Hkv, count, D], each number the position it belongs to."""
    places = torch.arange(start, start + count, dtype=torch.float32)
    return places[None, None, :, None].expand(1, 2, count, 8)


def fed(cache: ByLayer, count: int) -> None:
    for layer_idx in range(2):
        new = marked(cache.length, count)
        k, v = cache.update(layer_idx, new, -new)
        assert torch.equal(k, marked(0, cache.length + count))
        assert torch.equal(v, -k)
    cache.advance(count)


def whole_passes(implementation: Function) -> None:
    """Growth, truncation and reset, but every pass comes to its end."""
    cache = implementation(tiny_config(), 1, 2)
    for count in (2, 1, 3):
        fed(cache, count)
    cache.truncate(4)
    fed(cache, 1)
    cache.reset()
    fed(cache, 2)


def lengths_only(implementation: Function) -> None:
    """Looks at `length`, not at what is stored."""
    cache = implementation(tiny_config(), 1, 4)
    cache.update(0, marked(0, 3), marked(0, 3))
    cache.update(1, marked(0, 3), marked(0, 3))
    cache.advance(3)
    cache.truncate(1)
    assert cache.length == 1


def expects_tensors(implementation: Function) -> None:
    """How a cache is made inside is nobody's business."""
    assert isinstance(implementation(tiny_config(), 1, 4).layers[0], Tensor)


def refuses(call: Function) -> Function:
    """A test that expects ValueError of a new cache."""

    def test(implementation: Function) -> None:
        with suppress(ValueError):
            call(implementation(tiny_config(), 1, 4))
            raise AssertionError

    return test


too_short = refuses(lambda cache: cache.truncate(3))
half_precision = refuses(lambda cache: cache.update(0, *2 * [marked(0, 2).half()]))
# Right, but for a pass that breaks off: the layers that had their turn have moved on.
EACH_COUNTS = "layer.filled = self.length -> pass"
KIND = "one that does not show as long as nothing goes wrong"
OTHERS = f"""
the length advanced once for each layer
    return layer. -> self.length += k.shape[2]; return layer.
    self.length += n -> pass
new room in front of what is held, not behind it
    {EACH_COUNTS} ;; [self.storage, more] -> [more, self.storage]
places that wrap around when the room is full
    shape[3] < end: -> shape[3] < 0:
    start:end -> torch.arange(start, end) % self.storage.shape[3]
a reset that forgets nothing
    self.truncate(0) -> pass
a truncation that lowers the length, while the layers go on where they were
    {EACH_COUNTS} ;; in self.layers: -> in self.layers if length == 0 else []:
tokens written one place too early, from the second pass on
    start:end -> max(start - 1, 0) : end - min(start, 1)
"""
TOO_WEAK = whole_passes, lengths_only, lambda implementation: None, too_short
TOO_STRICT = expects_tensors, half_precision

CHECK = BugHunt("06.hunt", ByLayer, EACH_COUNTS, KIND, OTHERS, TOO_WEAK, TOO_STRICT)
