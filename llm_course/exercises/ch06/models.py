"""Small models and filled caches for the checks of 06_kv_cache."""

from functools import partial

import torch
from torch import Tensor

from llm_course.config import ModelConfig
from llm_course.engine import KVCache
from llm_course.exercises import random_ids
from llm_course.exercises.models import random_model
from llm_course.models import DecoderOnlyModel

token_ids = partial(random_ids, 50, seed=1)


class HeldCache(KVCache):
    """A cache that can be shown in one line."""

    def __repr__(self) -> str:
        rows = f"{self.batch_size} row" + "s" * (self.batch_size > 1)
        return f"KVCache of {rows}, {self.length} tokens, capacity {self.capacity}"


def tiny_config(num_layers: int = 2) -> ModelConfig:
    """4 query heads on 2 K/V heads of 8 channels."""
    return ModelConfig(50, 32, 48, num_layers, 4, 2, max_position_embeddings=64)


def tiny_model(dtype: str = "float32", num_layers: int = 2) -> DecoderOnlyModel:
    """One that seldom says the same token twice."""
    return random_model(tiny_config(num_layers), 6.0, 3, dtype)


def held(model: DecoderOnlyModel, ids: Tensor, capacity: int) -> HeldCache:
    """A cache in which `ids` [B, S] are."""
    dtype = model.embed_tokens.weight.dtype
    cache = HeldCache(model.config, len(ids), capacity, dtype=dtype)
    model(ids, kv_cache=cache)
    return cache


def contents(cache: KVCache) -> Tensor:
    """The keys and values that are in use: [L, 2, B, Hkv, length, D], a copy."""
    return torch.stack([layer[:, :, :, : cache.length] for layer in cache.layers])
