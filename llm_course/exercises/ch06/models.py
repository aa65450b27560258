"""Small models and filled caches for the checks of 06_kv_cache."""

from __future__ import annotations

import torch
from torch import Tensor

from llm_course.config import EngineConfig, ModelConfig
from llm_course.engine import KVCache
from llm_course.exercises.inputs import seeded
from llm_course.models import DecoderOnlyModel, build_decoder_only_model


class HeldCache(KVCache):
    """A cache that can be shown in one line."""

    def __repr__(self) -> str:
        rows = f"{self.batch_size} row" + "s" * (self.batch_size > 1)
        return f"KVCache of {rows}, {self.length} tokens, capacity {self.capacity}"


def tiny_config(num_layers: int = 2) -> ModelConfig:
    """4 query heads on 2 K/V heads of 8 channels."""
    return ModelConfig(
        50, 32, 48, num_layers, num_heads=4, num_kv_heads=2, max_position_embeddings=64
    )


def tiny_model(
    dtype: str = "float32", num_layers: int = 2, seed: int = 0
) -> DecoderOnlyModel:
    """The same random weights at each call, large enough to tell the logits apart."""
    with seeded(seed):
        settings = EngineConfig(device="cpu", dtype=dtype)
        model = build_decoder_only_model(tiny_config(num_layers), settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.ndim > 1 else 1.0)
    return model.requires_grad_(False)


def random_ids(rows: int, length: int, seed: int = 1) -> Tensor:
    """[rows, length], each id below 50."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(50, (rows, length), generator=generator)


def held(model: DecoderOnlyModel, ids: Tensor, capacity: int) -> HeldCache:
    """A cache in which `ids` [B, S] are."""
    dtype = model.embed_tokens.weight.dtype
    cache = HeldCache(model.config, len(ids), capacity, dtype=dtype)
    with torch.inference_mode():
        model(ids, kv_cache=cache)
    return cache


def contents(cache: KVCache) -> Tensor:
    """The keys and values that are in use: [L, 2, B, Hkv, length, D], a copy."""
    return torch.stack([layer[:, :, :, : cache.length] for layer in cache.layers])
