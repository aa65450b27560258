# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""Prefill and decode, the two phases of generation, and a model prepared for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_course.engine.kv_cache import KVCache
from llm_course.models.attention import SelfAttention
from llm_course.models.layers import MLP, RMSNorm
from llm_course.models.rope import apply_rotary
from llm_course.models.transformer import DecoderLayer, DecoderOnlyModel
from llm_course.types import HiddenStates, Logits, TokenIds

__all__ = [
    "make_cache",
    "prefill",
    "decode",
    "linear",
    "FusedLinear",
    "PreparedNorm",
    "PreparedMLP",
    "PreparedAttention",
    "PreparedLayer",
    "PreparedModel",
    "prepare_for_inference",
]


def make_cache(
    model: DecoderOnlyModel,
    batch_size: int = 1,
    capacity: int = 256,
    max_length: int | None = None,
) -> KVCache:
    """An empty cache for this model: its sizes, its device, its dtype."""
    weight = model.embed_tokens.weight
    return KVCache(
        model.config,
        batch_size,
        capacity,
        max_length=max_length,
        device=weight.device,
        dtype=weight.dtype,
    )


@torch.inference_mode()
def prefill(
    model: DecoderOnlyModel,
    input_ids: TokenIds,
    cache: KVCache,
    mask: Tensor | None = None,
    *,
    chunk_size: int | None = None,
) -> Logits:
    """Run a prompt through the model and into the cache: input_ids [B, S] -> logits [B, V].

    The logits are those after the last position; no others are computed. `mask` [B, past + S], 1 =
    real token, covers what the cache holds and the new ids; None = all real. With `chunk_size` the
    prompt goes through in pieces of so many tokens: the same result, and scores of at most
    chunk_size x (past + S) at a time. Raises ValueError for a chunk_size below 1.

    Source: Agrawal et al. 2023, "SARATHI", section 4.1 (chunked prefill).
    """
    length = input_ids.shape[1]
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size}: must be None or at least 1")
    past, step = cache.length, chunk_size or max(length, 1)
    for start in range(0, max(length, 1), step):
        end = min(start + step, length)
        seen = mask[:, : past + end] if mask is not None else None  # [B, past + end]
        logits = model(input_ids[:, start:end], seen, kv_cache=cache, last_only=True)  # [B, 1, V]
    return logits[:, -1]


@torch.inference_mode()
def decode(
    model: DecoderOnlyModel, token: TokenIds, cache: KVCache, mask: Tensor | None = None
) -> Logits:
    """One more token a row: token [B, 1] -> the logits [B, V] that follow it.

    `mask` [B, past + 1], 1 = real token; None = all real. Raises ValueError for more than one token.
    """
    if token.ndim != 2 or token.shape[1] != 1:
        raise ValueError(
            f"token has shape {list(token.shape)}: must be [B, 1]; several tokens are a prefill"
        )
    return model(token, mask, kv_cache=cache, last_only=True)[:, -1]


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., in], weight [out, in] -> [..., out]: `F.linear` without a bias, by a faster kernel.

    For float32 on the CPU PyTorch calls its BLAS library. Where the build has oneDNN, that library
    computes the same product; whether in less time depends on the machine and on the sizes.
    """
    if _HAS_ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)


class FusedLinear(nn.Module):
    """Several bias-free linear layers of one input, as one matrix: x [..., in] -> [..., sum of outs].

    The outputs lie side by side, in the order of the layers. A single layer's weight is shared,
    several are copied.
    """

    def __init__(self, *layers: nn.Linear) -> None:
        super().__init__()
        weights = [layer.weight.detach() for layer in layers]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)  # [sum of outs, in]
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


class PreparedNorm(RMSNorm):
    """RMSNorm by PyTorch's own kernel where that computes the same: in float32."""

    def __init__(self, norm: RMSNorm) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(norm.weight.detach(), requires_grad=False)
        self.eps = norm.eps

    def forward(self, x: HiddenStates) -> HiddenStates:
        if x.dtype != torch.float32:
            # F.rms_norm scales before it rounds, Llama the other way round.
            return super().forward(x)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class PreparedMLP(MLP):
    """The SwiGLU layer with gate and up as one product."""

    def __init__(self, mlp: MLP) -> None:
        nn.Module.__init__(self)
        self.gate_up_proj = FusedLinear(mlp.gate_proj, mlp.up_proj)
        self.down_proj = FusedLinear(mlp.down_proj)

    def forward(self, x: HiddenStates) -> HiddenStates:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # [..., intermediate_dim] each
        return self.down_proj(F.silu(gate) * up)  # [..., hidden_dim]


class PreparedAttention(SelfAttention):
    """Self-attention with q, k and v as one product, and a short way for one query a row."""

    def __init__(self, attention: SelfAttention) -> None:
        nn.Module.__init__(self)
        self.layer_idx, self.head_dim = attention.layer_idx, attention.head_dim
        self.num_kv_heads = attention.k_proj.out_features // attention.head_dim
        self.qkv_proj = FusedLinear(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o_proj = FusedLinear(attention.o_proj)
        self.rotary = attention.rotary

    def forward(
        self,
        hidden_states: HiddenStates,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        kv_cache: KVCache | None = None,
    ) -> HiddenStates:
        """As in SelfAttention."""
        if position_ids is None:
            past = kv_cache.length if kv_cache is not None else 0
            position_ids = torch.arange(past, past + hidden_states.shape[1])[None]  # [1, S]
        cos, sin = self.rotary.cos_sin(position_ids.to(hidden_states.device))  # [B, S, D/2] each
        qkv = self._split_heads(self.qkv_proj(hidden_states))  # [B, H + 2 Hkv, S, D]
        v = qkv[:, -self.num_kv_heads :]  # [B, Hkv, S, D]
        qk = apply_rotary(qkv[:, : -self.num_kv_heads], cos, sin)  # [B, H + Hkv, S, D]
        q, k = qk[:, : -self.num_kv_heads], qk[:, -self.num_kv_heads :]
        if kv_cache is not None:
            k, v = kv_cache.update(self.layer_idx, k, v)  # [B, Hkv, K, D], K = past + S
        out = self.attend(q, k, v, attention_mask)  # [B, H, S, D]
        return self.o_proj(out.transpose(1, 2).flatten(2))  # [B, S, H*D] -> [B, S, hidden]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q [B, H, Q, D], k and v [B, Hkv, K, D] -> [B, H, Q, D]."""
        if q.shape[2] != 1:
            return super().attend(q, k, v, mask)
        # One query sees every key but pads, so the heads of a group can stand as the queries of
        # their K/V head: no key is read twice, and no causal mask is needed.
        grouped = q.reshape(len(q), self.num_kv_heads, -1, self.head_dim)  # [B, Hkv, H/Hkv, D]
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(q.shape)


class PreparedLayer(DecoderLayer):
    """A decoder layer of prepared parts. How they are joined is inherited."""

    def __init__(self, layer: DecoderLayer) -> None:
        nn.Module.__init__(self)
        self.input_layernorm = PreparedNorm(layer.input_layernorm)
        self.self_attn = PreparedAttention(layer.self_attn)
        self.post_attention_layernorm = PreparedNorm(layer.post_attention_layernorm)
        self.mlp = PreparedMLP(layer.mlp)


class PreparedModel(DecoderOnlyModel):
    """A model for inference only: the same logits, up to rounding, in less time."""

    def __init__(self, model: DecoderOnlyModel) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        weight = model.embed_tokens.weight.detach()
        self.embed_tokens = nn.Embedding.from_pretrained(weight, freeze=True)
        self.layers = nn.ModuleList(PreparedLayer(layer) for layer in model.layers)
        self.norm = PreparedNorm(model.norm)
        self.lm_head = FusedLinear(model.lm_head)


def prepare_for_inference(model: DecoderOnlyModel) -> PreparedModel:
    """Fuse a model's matrices for `prefill`, `decode` and `generate`; `model` stays as it is.

    q, k, v, gate and up are copied into fused matrices; everything else is shared with `model`. So
    prepare after the last change of the weights, of the device and of the dtype. The modules have
    other names than Hugging Face's: save and inspect `model`, and generate with this.
    """
    return PreparedModel(model).eval()
