"""The bug hunt of 06_kv_cache: a cache in which each layer counts its own tokens."""

import torch
from torch import Tensor

from llm_course.config import ModelConfig
from llm_course.exercises import BugHunt


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

CHECK = BugHunt("06.hunt", ByLayer, EACH_COUNTS, KIND, OTHERS)
