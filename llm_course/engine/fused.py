# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""The same layers with fewer and larger products, from ordinary PyTorch modules."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_course.arguments import checked
from llm_course.models.attention import SelfAttention
from llm_course.models.transformer import DecoderLayer, DecoderOnlyModel
from llm_course.types import Cache, HiddenStates

__all__ = ["M", "fused", "shared", "FusedLayer", "FusedModel", "refuse_prepared"]


M = TypeVar("M", bound=nn.Module)


def fused(*layers: nn.Linear) -> nn.Linear:
    """One linear layer for several with the same input: its outputs are theirs, side by
    side."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    with torch.device("meta"):
        joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    joined.weight = nn.Parameter(weight, requires_grad=False)
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    if biases:
        joined.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return joined


def shared(module: M, memo: dict[int, Any] | None = None) -> M:
    """A copy of a module with new parameters on the same memory, so that casting the
    copy leaves the original as it is. Calls with one `memo` keep tied parameters
    tied."""
    memo = {} if memo is None else memo
    for p in module.parameters():
        memo.setdefault(id(p), nn.Parameter(p.detach(), requires_grad=False))
    return deepcopy(module, memo)


class FusedLayer(SelfAttention):
    """A decoder layer with one matrix for q, k and v, and one for gate and up.

    It is a SelfAttention, so that its maps can be captured.
    """

    def __init__(self, layer: DecoderLayer) -> None:
        nn.Module.__init__(self)
        attention, mlp = layer.self_attn, layer.mlp
        self.layer_idx, self.head_dim = attention.layer_idx, attention.head_dim
        self.num_kv_heads = attention.k_proj.out_features // attention.head_dim
        self.rotary = attention.rotary
        self.q_norm, self.k_norm = shared(attention.q_norm), shared(attention.k_norm)
        self.qkv_proj = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        self.gate_up_proj = fused(mlp.gate_proj, mlp.up_proj)
        self.o_proj, self.down_proj = shared(attention.o_proj), shared(mlp.down_proj)
        self.input_layernorm = shared(layer.input_layernorm)
        self.post_attention_layernorm = shared(layer.post_attention_layernorm)

    def forward(  # type: ignore[override]  # a whole layer, on the residual stream
        self,
        stream: HiddenStates,
        mask: Tensor | None,
        position_ids: Tensor,
        kv_cache: Cache | None,
        last_only: bool = False,
    ) -> HiddenStates:
        """stream [B, S, hidden] -> [B, S, hidden], or [B, 1, hidden]: only the last
        query's."""
        heads = self._split_heads(self.qkv_proj(self.input_layernorm(stream)))
        Hkv = self.num_kv_heads  # heads [B, H + 2 Hkv, S, D]
        q, k, v = heads[:, : -2 * Hkv], heads[:, -2 * Hkv : -Hkv], heads[:, -Hkv:]
        q, k = self.rotary(self.q_norm(q), self.k_norm(k), position_ids)
        if kv_cache is not None:
            k, v = kv_cache.update(self.layer_idx, k, v)  # [B, Hkv, K, D]
        if last_only:
            q, stream = q[:, :, -1:], stream[:, -1:]
            mask = mask[:, :, -1:] if mask is not None else None
        out = self.attend(q, k, v, mask).transpose(1, 2).flatten(2)
        stream = stream + self.o_proj(out)
        both = self.gate_up_proj(self.post_attention_layernorm(stream))
        gate, up = both.chunk(2, dim=-1)
        return stream + self.down_proj(F.silu(gate) * up)


class FusedModel(DecoderOnlyModel):
    """A model of fused layers; everything else is shared with the model it came
    from."""

    @checked
    def __init__(self, model: DecoderOnlyModel) -> None:
        refuse_prepared(model)
        nn.Module.__init__(self)
        self.config = model.config
        self.norm, memo = shared(model.norm), dict[int, Any]()
        self.embed_tokens = shared(model.embed_tokens, memo)
        self.lm_head = shared(model.lm_head, memo)
        self.layers = nn.ModuleList(
            FusedLayer(cast(DecoderLayer, layer)) for layer in model.layers
        )

    def run_layers(
        self,
        hidden_states: HiddenStates,
        mask: Tensor | None,
        position_ids: Tensor,
        kv_cache: Cache | None,
        last_only: bool,
    ) -> HiddenStates:
        """As in DecoderOnlyModel; the last layer computes only what is asked for."""
        for layer in self.layers:
            last = last_only and layer is self.layers[-1]
            hidden_states = layer(hidden_states, mask, position_ids, kv_cache, last)
        return hidden_states


def refuse_prepared(model: DecoderOnlyModel) -> None:
    """Raise ValueError for a model without the layers that it was built with."""
    if not hasattr(model, "layers") or isinstance(model, FusedModel):
        raise ValueError("this model is prepared already: prepare the model as built")
