# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""Prefill and decode, the two phases of generation, and a model prepared for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_course.engine.kv_cache import KVCache
from llm_course.engine.products import Blas, OneDnn, is_vector, products_for
from llm_course.models.attention import SelfAttention
from llm_course.models.layers import RMSNorm
from llm_course.models.transformer import DecoderLayer, DecoderOnlyModel
from llm_course.types import HiddenStates, Logits, TokenIds

__all__ = [
    "make_cache",
    "prefill",
    "decode",
    "fused",
    "rms_norm",
    "rms_norm_of_vector",
    "rotate",
    "PreparedLayer",
    "PreparedNorm",
    "PreparedHead",
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


def fused(*layers: nn.Linear) -> nn.Parameter:
    """The weights of bias-free linear layers of one input, stacked: [sum of outs, in].

    A single layer's weight is shared, several are copied.
    """
    weights = [layer.weight.detach() for layer in layers]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    return nn.Parameter(weight, requires_grad=False)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm, by PyTorch's own kernel where that computes the same: in float32."""
    if x.dtype == torch.float32:
        return torch.rms_norm(x, weight.shape, weight, eps)
    wide = x.float()  # PyTorch's kernel scales before it rounds, Llama the other way round
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def rms_norm_of_vector(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm of one vector [hidden], float32 on the CPU: its mean square is a Python number."""
    return weight * (x * (torch.dot(x, x).item() / x.numel() + eps) ** -0.5)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """RoPE: x [B, S, heads, D], turns [B, S, 1, D/2] = cos + i sin -> [B, S, heads, D]."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:3], -1, 2))  # [B, S, heads, D/2]
    return torch.view_as_real(pairs * turns).view(x.shape).to(x.dtype)


class PreparedLayer(SelfAttention):
    """A decoder layer in one function over four matrices, with a short way for one query a row."""

    def __init__(self, layer: DecoderLayer) -> None:
        nn.Module.__init__(self)
        attention, mlp = layer.self_attn, layer.mlp
        self.layer_idx, self.head_dim = attention.layer_idx, attention.head_dim
        self.num_kv_heads = attention.k_proj.out_features // attention.head_dim
        self.eps = layer.input_layernorm.eps
        self.norm_1 = nn.Parameter(layer.input_layernorm.weight.detach(), requires_grad=False)
        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o = fused(attention.o_proj)
        self.norm_2 = nn.Parameter(layer.post_attention_layernorm.weight.detach(), False)
        self.gate_up, self.down = fused(mlp.gate_proj, mlp.up_proj), fused(mlp.down_proj)

    def forward(
        self,
        stream: HiddenStates,
        mask: Tensor | None,
        turns: Tensor,
        kv_cache: KVCache | None,
        products: type[Blas] | type[OneDnn],
        last_only: bool = False,
    ) -> HiddenStates:
        """stream [B, S, hidden] -> [B, S, hidden], or [B, 1, hidden]: only the last query's.

        turns [B, S, 1, D/2]: cos + i sin.
        """
        B, S, _ = stream.shape
        normed = rms_norm(stream, self.norm_1, self.eps)
        heads = products.linear(normed, self.qkv).view(B, S, -1, self.head_dim)  # H + 2 Hkv
        qk, v = heads[:, :, : -self.num_kv_heads], heads[:, :, -self.num_kv_heads :]
        qk, v = rotate(qk, turns).transpose(1, 2), v.transpose(1, 2)  # [B, H + Hkv or Hkv, S, D]
        q, k = qk[:, : -self.num_kv_heads], qk[:, -self.num_kv_heads :]
        if kv_cache is not None:
            k, v = kv_cache.update(self.layer_idx, k, v)  # [B, Hkv, K, D], K = past + S
        if last_only:
            q, stream = q[:, :, -1:], stream[:, -1:]
            mask = mask if mask is None else mask[:, :, -1:]
        out = self.attend(q, k, v, mask).transpose(1, 2).flatten(2)  # [B, S or 1, H*D]
        stream = products.add_linear(stream, out, self.o)
        normed = rms_norm(stream, self.norm_2, self.eps)
        return products.add_linear(stream, products.gated(normed, self.gate_up), self.down)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q [B, H, Q, D], k and v [B, Hkv, K, D] -> [B, H, Q, D]."""
        if q.shape[2] != 1:
            return super().attend(q, k, v, mask)
        # One query sees every key but pads, so the heads of a group can stand as the queries of
        # their K/V head: no key is read twice, and no causal mask is needed.
        grouped = q.reshape(q.shape[0], self.num_kv_heads, -1, self.head_dim)  # [B, Hkv, H/Hkv, D]
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(q.shape)


class PreparedNorm(RMSNorm):
    """The last norm."""

    def __init__(self, norm: RMSNorm) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(norm.weight.detach(), requires_grad=False)
        self.eps = norm.eps

    def forward(self, x: HiddenStates) -> HiddenStates:
        return rms_norm(x, self.weight, self.eps)


class PreparedHead(nn.Module):
    """The output head."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight = fused(head)

    def forward(self, x: HiddenStates) -> Logits:
        return products_for(x).linear(x, self.weight)


class PreparedModel(DecoderOnlyModel):
    """A model for inference only: the same logits, up to rounding, in less time."""

    def __init__(self, model: DecoderOnlyModel) -> None:
        nn.Module.__init__(self)
        self.config = model.config
        table = model.embed_tokens.weight.detach()
        self.embed_tokens = nn.Embedding.from_pretrained(table, freeze=True)
        self.layers = nn.ModuleList(PreparedLayer(layer) for layer in model.layers)
        self.rotary = model.layers[0].self_attn.rotary
        self.norm = PreparedNorm(model.norm)
        self.lm_head = PreparedHead(model.lm_head)
        # A module looks its parameters up by name each time; the steps of `step` are shorter.
        self.weights = [
            (layer.norm_1, layer.qkv, layer.o, layer.norm_2, layer.gate_up, layer.down)
            for layer in self.layers
        ]

    def run_layers(
        self,
        hidden_states: HiddenStates,
        mask: Tensor | None,
        position_ids: Tensor,
        kv_cache: KVCache | None,
        last_only: bool,
    ) -> HiddenStates:
        """As in DecoderOnlyModel, with less work for `last_only`, and a way for one vector."""
        turns = torch.complex(*self.rotary.cos_sin(position_ids))[:, :, None]  # [B, S, 1, D/2]
        products = products_for(hidden_states)
        if products is Blas and is_vector(hidden_states) and mask is None and kv_cache is not None:
            return self.step(hidden_states.flatten(), turns.flatten(), kv_cache)[None, None]
        for layer in self.layers:
            last = last_only and layer is self.layers[-1]
            hidden_states = layer(hidden_states, mask, turns, kv_cache, products, last)
        return hidden_states

    def step(self, vector: Tensor, turns: Tensor, kv_cache: KVCache) -> Tensor:
        """All layers for one token of one row: vector [hidden] -> [hidden]; turns [D/2]."""
        first, stream = self.layers[0], vector.clone()
        # Memory for the heads of all layers, and every view of it, made at once.
        heads = stream.new_empty(len(self.layers), len(first.qkv))  # [layers, (H + 2 Hkv) * D]
        by_head = heads.view(len(heads), 1, -1, 1, first.head_dim)  # [layers, 1, H + 2 Hkv, 1, D]
        ends = (-2 * first.num_kv_heads, -first.num_kv_heads)  # of q, and of k
        pairs = torch.view_as_complex(by_head[:, 0, : ends[1], 0].unflatten(-1, (-1, 2)))
        views = zip(heads, pairs, *by_head.tensor_split(ends, dim=2), strict=True)
        gate_up = stream.new_empty(len(first.gate_up))  # [2 * inner]
        gate, up = gate_up.chunk(2)
        for layer, weights, (out, qk, q, k, v) in zip(
            self.layers, self.weights, views, strict=True
        ):
            norm_1, qkv, o, norm_2, both, down = weights
            torch.mv(qkv, rms_norm_of_vector(stream, norm_1, layer.eps), out=out)
            qk.mul_(turns)  # RoPE in place: [H + Hkv, D/2]
            keys, values = kv_cache.update(layer.layer_idx, k, v)  # [1, Hkv, K, D]
            stream.addmv_(o, layer.attend(q, keys, values, None).flatten())  # += o @ ...
            torch.mv(both, rms_norm_of_vector(stream, norm_2, layer.eps), out=gate_up)
            stream.addmv_(down, F.silu(gate).mul_(up))
        return stream


def prepare_for_inference(model: DecoderOnlyModel) -> PreparedModel:
    """Fuse a model's matrices for `prefill`, `decode` and `generate`; `model` stays as it is.

    q, k, v, gate and up are copied into fused matrices; everything else is shared with `model`. So
    prepare after the last change of the weights, of the device and of the dtype. The modules have
    other names than Hugging Face's: save and inspect `model`, and generate with this.
    """
    return PreparedModel(model).eval()
