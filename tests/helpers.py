"""What several test files need: small configs, seeded models, a list-backed cache."""

from __future__ import annotations

import torch
from torch import Tensor

from llm_course.config import EngineConfig, ModelConfig
from llm_course.models import DecoderOnlyModel, build_decoder_only_model

CPU = EngineConfig(device="cpu")


def small_config(**changes: object) -> ModelConfig:
    """Two layers, 8 query heads on 2 key/value heads: quick, and grouped."""
    values = {
        "vocab_size": 96,
        "hidden_dim": 64,
        "intermediate_dim": 80,
        "num_layers": 2,
        "num_heads": 8,
        "num_kv_heads": 2,
        "max_position_embeddings": 64,
    }
    return ModelConfig(**(values | changes))


def small_model(seed: int = 0, **changes: object) -> DecoderOnlyModel:
    torch.manual_seed(seed)
    model = build_decoder_only_model(small_config(**changes), CPU)
    with torch.no_grad():  # at std 0.02 all logits are nearly equal; spread them
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.ndim > 1 else 1.0)
    return model


def random_ids(*shape: int, vocab_size: int = 96, seed: int = 1) -> Tensor:
    return torch.randint(
        0, vocab_size, shape, generator=torch.Generator().manual_seed(seed)
    )


class ListCache:
    """The KVCache protocol in ten lines: K and V of each layer, grown by
    concatenation."""

    def __init__(self) -> None:
        self.length = 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if layer_idx in self.layers:
            old_k, old_v = self.layers[layer_idx]
            # [B, Hkv, K, D]
            k, v = (torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2))
        self.layers[layer_idx] = (k, v)
        return k, v

    def advance(self, n: int) -> None:
        self.length += n
