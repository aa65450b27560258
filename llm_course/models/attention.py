# Exported from notebooks/03_attention_gqa.ipynb; edit there, then run its last cell.
"""Causal self-attention with grouped key/value heads, and a way to look at its
weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_course.arguments import (
    at_least,
    axes_agree,
    boolean_mask,
    checked,
    shaped,
)
from llm_course.config import ModelConfig
from llm_course.models.layers import RMSNorm
from llm_course.models.rope import RotaryEmbedding
from llm_course.types import Cache, HiddenStates

__all__ = ["causal_mask", "attention_weights", "SelfAttention", "capture_attention"]


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Boolean [1, 1, Q, K], True = may attend. The queries are the LAST num_queries of
    the keys.

    So query i sits at position K - Q + i and sees the keys up to it. With Q < K (a
    cache holds the earlier keys) the triangle is aligned to the bottom right.
    """
    mask = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return mask.tril(diagonal=num_keys - num_queries)[None, None]


@checked
def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """The attention map: softmax(q kᵀ / sqrt(D)) over the keys that the mask allows.

    q [B, H, Q, D], k [B, Hkv, K, D]; mask boolean, broadcastable to [B, 1, Q, K], True
    = may attend, or None for causal. Returns [B, H, Q, K]; each row sums to 1, or is
    all 0 where the mask allows nothing. Query head h reads key head h // (H / Hkv).

    Source: Vaswani et al. 2017, section 3.2.1; Ainslie et al. 2023 (GQA), section 2.2.
    """
    axes_agree("B H Q D, B Hkv K D", q=q, k=k)
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"q {[*q.shape]}, k {[*k.shape]}: Hkv must divide H")
    boolean_mask((*q.shape[:3], k.shape[2]), mask=mask)
    if mask is None:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # [B, H, K, D]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # [B, H, Q, K]
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = torch.softmax(
        scores, dim=-1, dtype=torch.promote_types(q.dtype, torch.float32)
    )
    # a fully masked row is uniform until this line makes it 0
    return weights.to(q.dtype) * mask


class SelfAttention(nn.Module):
    """Causal self-attention in which groups of query heads share one key/value head
    (GQA).

    With `num_kv_heads == num_heads` it is multi-head attention. Llama has no biases;
    `config.qkv_bias` gives q, k and v one, as in Qwen2, and `config.qk_norm` norms each
    head's queries and keys before RoPE, as in Qwen3.

    Source: Vaswani et al. 2017, section 3.2; Ainslie et al. 2023, "GQA", section 2.2.
    """

    @checked
    def __init__(
        self,
        config: ModelConfig,
        layer_idx: int = 0,
        rotary: RotaryEmbedding | None = None,
    ) -> None:
        """`rotary` lets all layers of a model share one table; by default the layer
        makes its own."""
        at_least(0, layer_idx=layer_idx)
        super().__init__()
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        query_dim = config.num_heads * config.head_dim
        kv_dim = config.num_kv_heads * config.head_dim
        bias = config.qkv_bias
        self.q_proj = nn.Linear(config.hidden_dim, query_dim, bias=bias)
        self.k_proj = nn.Linear(config.hidden_dim, kv_dim, bias=bias)
        self.v_proj = nn.Linear(config.hidden_dim, kv_dim, bias=bias)
        self.o_proj = nn.Linear(query_dim, config.hidden_dim, bias=False)
        # over the D channels of a head, one weight [D] for all heads; Identity takes
        # whatever it is given, and does nothing
        norm = RMSNorm if config.qk_norm else nn.Identity
        self.q_norm = norm(config.head_dim, config.rms_norm_eps)
        self.k_norm = norm(config.head_dim, config.rms_norm_eps)
        self.rotary = rotary or RotaryEmbedding(
            config.head_dim,
            config.max_position_embeddings,
            config.rope_theta,
            config.rope_scaling,
        )

    def _split_heads(self, x: Tensor) -> Tensor:
        # [B, S, H*D] -> [B, H, S, D]
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q [B, H, Q, D], k and v [B, Hkv, K, D] -> [B, H, Q, D], by PyTorch's fused
        kernel."""
        if mask is None and q.shape[2] != k.shape[2]:
            # is_causal=True would align the triangle to the top left: wrong with a
            # cache.
            mask = causal_mask(q.shape[2], k.shape[2], q.device)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )

    @checked
    def forward(
        self,
        hidden_states: HiddenStates,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        kv_cache: Cache | None = None,
    ) -> HiddenStates:
        """hidden_states [B, S, hidden] -> [B, S, hidden].

        attention_mask: boolean, broadcastable to [B, 1, S, K], True = may attend,
        complete (nothing is added to it); None means causal. position_ids [B, S]: None
        counts on from the cache's length. Raises ValueError for a mask that is not
        boolean.
        """
        shaped((None, None, self.q_proj.in_features), hidden_states=hidden_states)
        past = kv_cache.length if kv_cache is not None else 0
        if position_ids is None:
            positions = torch.arange(past, past + hidden_states.shape[1])
            position_ids = positions.to(hidden_states.device)[None]  # [1, S]
        q = self.q_norm(self._split_heads(self.q_proj(hidden_states)))  # [B, H, S, D]
        k = self.k_norm(self._split_heads(self.k_proj(hidden_states)))  # [B, Hkv, S, D]
        v = self._split_heads(self.v_proj(hidden_states))  # [B, Hkv, S, D]
        # before anything is stored: a pass that is refused leaves the cache as it was
        boolean_mask((*q.shape[:3], past + q.shape[2]), attention_mask=attention_mask)
        q, k = self.rotary(q, k, position_ids)
        if kv_cache is not None:
            k, v = kv_cache.update(self.layer_idx, k, v)  # [B, Hkv, K, D], K = past + S
        out = self.attend(q, k, v, attention_mask)  # [B, H, S, D]
        # [B, S, H*D] -> [B, S, hidden]
        return self.o_proj(out.transpose(1, 2).flatten(2))


@checked
@contextmanager
def capture_attention(
    model: nn.Module, layers: Collection[int] | None = None
) -> Iterator[dict[int, Tensor]]:
    """Record the attention maps of every forward pass inside the `with` block.

    Yields a dict that fills as the model runs: layer index -> weights [B, H, Q, K] of
    the latest pass. `layers` limits the recording. The output of the model does not
    change: the fused kernel still computes it, and the maps are computed beside it.
    After the block the layers are as they were. Raises ValueError for layers that the
    model does not have.
    """
    maps: dict[int, Tensor] = {}

    def recorder(layer: SelfAttention):
        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            maps[layer.layer_idx] = attention_weights(q, k, mask)
            return type(layer).attend(layer, q, k, v, mask)

        return attend

    found = [layer for layer in model.modules() if isinstance(layer, SelfAttention)]
    known = [layer.layer_idx for layer in found]
    if not found or not all(i in known for i in layers or ()):
        kind = type(model).__name__
        raise ValueError(f"layers = {layers}: this {kind} has attention in {known}")
    watched = [one for one in found if layers is None or one.layer_idx in layers]
    for layer in watched:
        # the instance's attribute hides the class's method
        vars(layer)["attend"] = recorder(layer)
    try:
        yield maps
    finally:
        for layer in watched:
            del vars(layer)["attend"]
