"""Small models that the checks of 04_decoder share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.config import EngineConfig, ModelConfig
from llm_course.models.transformer import DecoderOnlyModel, build_decoder_only_model

SMALL = {
    "vocab_size": 24,
    "hidden_dim": 12,
    "intermediate_dim": 20,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def small_config(**changes: Any) -> ModelConfig:
    """A model of two layers; its heads together are wider than its stream."""
    return ModelConfig(**(SMALL | changes))


def small_model(seed: int = 0, scale: float = 10.0, **changes: Any) -> DecoderOnlyModel:
    """The same random weights at each call, `scale` times as large as a new model's; frozen."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = build_decoder_only_model(small_config(**changes), EngineConfig(device="cpu"))
        for weight in model.parameters():
            weight.mul_(scale if weight.ndim == 2 else 0.5 + torch.rand_like(weight))
    return model.requires_grad_(False)


def token_ids(*shape: int, seed: int = 0, vocab_size: int = 24) -> Tensor:
    """Random ids, the same at each call."""
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy of each next token: logits [B, S, V], ids [B, S]."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def same_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """The bug: each position is compared with its own token."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def joined_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """The bug: the texts as one, so that the end of each predicts the beginning of the next."""
    return F.cross_entropy(logits.flatten(0, 1)[:-1], ids.flatten()[1:])
