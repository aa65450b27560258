# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""A model prepared for inference: the same logits, up to rounding, in less time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_course.engine.kv_cache import KVCache
from llm_course.engine.products import Blas, InPlace, OneDnn, products_for
from llm_course.models.attention import SelfAttention
from llm_course.models.layers import RMSNorm
from llm_course.models.transformer import DecoderLayer, DecoderOnlyModel
from llm_course.types import HiddenStates, Logits

__all__ = [
    "fused",
    "rms_norm",
    "inverse_rms",
    "rotate",
    "PreparedLayer",
    "PreparedNorm",
    "PreparedHead",
    "PreparedModel",
    "prepare_for_inference",
]


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
    # PyTorch's kernel scales before it rounds, Llama the other way round
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(
        x.dtype
    )


def inverse_rms(x: Tensor, eps: float) -> float:
    """The number by which RMSNorm multiplies a vector [hidden]."""
    return (torch.dot(x, x).item() / x.numel() + eps) ** -0.5


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """RoPE: x [B, S, heads, D], turns [B, S, 1, D/2] = cos + i sin -> x, in float32
    turned in place."""
    wide = x.float()
    torch.view_as_complex(wide.unflatten(-1, (-1, 2))).mul_(turns)  # [B, S, heads, D/2]
    return wide.to(x.dtype)


class PreparedLayer(SelfAttention):
    """A decoder layer in one function over four matrices, with a short way for one
    query a row."""

    def __init__(self, layer: DecoderLayer) -> None:
        nn.Module.__init__(self)
        attention, mlp = layer.self_attn, layer.mlp
        self.layer_idx, self.head_dim = attention.layer_idx, attention.head_dim
        self.num_kv_heads = attention.k_proj.out_features // attention.head_dim
        self.eps = layer.input_layernorm.eps
        self.norm_1 = nn.Parameter(
            layer.input_layernorm.weight.detach(), requires_grad=False
        )
        self.qkv = fused(attention.q_proj, attention.k_proj, attention.v_proj)
        self.o = fused(attention.o_proj)
        self.norm_2 = nn.Parameter(
            layer.post_attention_layernorm.weight.detach(), False
        )
        self.gate_up, self.down = (
            fused(mlp.gate_proj, mlp.up_proj),
            fused(mlp.down_proj),
        )

    def forward(
        self,
        stream: HiddenStates,
        mask: Tensor | None,
        turns: Tensor,
        kv_cache: KVCache | None,
        products: Blas | OneDnn,
        last_only: bool = False,
    ) -> HiddenStates:
        """stream [B, S, hidden] -> [B, S, hidden], or [B, 1, hidden]: only the last
        query's.

        turns [B, S, 1, D/2]: cos + i sin.
        """
        B, S, _ = stream.shape
        normed = rms_norm(stream, self.norm_1, self.eps)
        # H + 2 Hkv
        heads = products.linear(normed, self.qkv).view(B, S, -1, self.head_dim)
        qk, v = heads[:, :, : -self.num_kv_heads], heads[:, :, -self.num_kv_heads :]
        # [B, H + Hkv or Hkv, S, D]
        qk, v = (rotate(qk, turns).transpose(1, 2), v.transpose(1, 2))
        q, k = qk[:, : -self.num_kv_heads], qk[:, -self.num_kv_heads :]
        if kv_cache is not None:
            k, v = kv_cache.update(self.layer_idx, k, v)  # [B, Hkv, K, D], K = past + S
        if last_only:
            q, stream = q[:, :, -1:], stream[:, -1:]
            mask = mask if mask is None else mask[:, :, -1:]
        out = self.attend(q, k, v, mask).transpose(1, 2).flatten(2)  # [B, S or 1, H*D]
        stream = products.add_linear(stream, out, self.o)
        normed = rms_norm(stream, self.norm_2, self.eps)
        return products.add_linear(
            stream, products.gated(normed, self.gate_up), self.down
        )

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q [B, H, Q, D], k and v [B, Hkv, K, D] -> [B, H, Q, D]."""
        if q.shape[2] != 1:
            return super().attend(q, k, v, mask)
        # One query sees every key but pads, so the heads of a group can stand as the
        # queries of their K/V head: no key is read twice, and no causal mask is needed.
        # [B, Hkv, H/Hkv, D]
        grouped = q.reshape(q.shape[0], self.num_kv_heads, -1, self.head_dim)
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).reshape(
            q.shape
        )


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
        # A module looks its parameters up by name each time; the steps of `step` are
        # shorter.
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
        """As in DecoderOnlyModel, with less work for `last_only`, and a way for one
        vector."""
        # [B, S, 1, D/2]
        turns = torch.complex(*self.rotary.cos_sin(position_ids))[:, :, None]
        products = products_for(hidden_states)
        if isinstance(products, InPlace):
            hidden_states = hidden_states.clone()  # the layers add to it in place
            # `KVCache` itself copies what it is given; another class may keep the very
            # tensors.
            if kv_cache is not None and "room" not in vars(type(kv_cache)):
                products = Blas()
            elif self.can_step(hidden_states, mask, kv_cache):
                return self.step(hidden_states.flatten(), turns.flatten(), kv_cache)[
                    None, None
                ]
        for layer in self.layers:
            last = last_only and layer is self.layers[-1]
            hidden_states = layer(hidden_states, mask, turns, kv_cache, products, last)
        return hidden_states

    def can_step(
        self, stream: HiddenStates, mask: Tensor | None, kv_cache: KVCache | None
    ) -> bool:
        """True for one token of one row, a cache, no padding, and nobody who captures
        attention."""
        captured = any("attend" in vars(layer) for layer in self.layers)
        return (
            stream.shape[:2] == (1, 1)
            and mask is None
            and kv_cache is not None
            and not captured
        )

    def places(self, like: Tensor, kv_cache: KVCache) -> list[tuple[Tensor, ...]]:
        """New memory for the heads of one token in every layer, and all views of it
        that `step` needs.

        For each layer: its heads [(H + 2 Hkv) * D]; its q and k, complex [H + Hkv,
        D/2]; its q [Hkv, 1, H/Hkv, D]; its k and v [2, 1, Hkv, 1, D], and their places
        in the cache; all keys and all values of the cache, [Hkv, 1, length + 1, D]
        each.
        """
        L, Hkv, D = (
            len(self.layers),
            self.layers[0].num_kv_heads,
            self.layers[0].head_dim,
        )
        memory = like.new_empty(L, len(self.layers[0].qkv))
        heads = memory.view(L, -1, D)  # [L, H + 2 Hkv, D]
        qk = torch.view_as_complex(heads[:, :-Hkv].unflatten(-1, (-1, 2)))
        q = heads[:, : -2 * Hkv].view(L, Hkv, 1, -1, D)
        kv = heads[:, -2 * Hkv :].view(L, 2, 1, Hkv, 1, D)
        kv_cache.check(*kv[0])
        new, held = zip(*(kv_cache.room(i, 1) for i in range(L)), strict=True)
        keys, values = zip(
            *(kept.transpose(1, 2).unbind() for kept in held), strict=True
        )
        return list(zip(memory, qk, q, kv, new, keys, values, strict=True))

    def step(self, stream: Tensor, turns: Tensor, kv_cache: KVCache) -> Tensor:
        """All layers for one token of one row: stream [hidden] -> [hidden]; turns
        [D/2]."""
        eps = self.norm.eps
        both = stream.new_empty(len(self.layers[0].gate_up))  # [2 * inner]
        gate, up = both.chunk(2)
        places = self.places(stream, kv_cache)
        for (norm_1, qkv, o, norm_2, gate_up, down), (
            heads,
            qk,
            q,
            kv,
            new,
            keys,
            values,
        ) in zip(self.weights, places, strict=True):
            heads.addmv_(qkv, stream * norm_1, beta=0, alpha=inverse_rms(stream, eps))
            qk.mul_(turns)  # RoPE
            new.copy_(kv)
            out = F.scaled_dot_product_attention(q, keys, values)  # [Hkv, 1, H/Hkv, D]
            stream.addmv_(o, out.flatten())  # stream + o @ out
            both.addmv_(
                gate_up, stream * norm_2, beta=0, alpha=inverse_rms(stream, eps)
            )
            stream.addmv_(down, F.silu(gate).mul_(up))
        return stream


def prepare_for_inference(model: DecoderOnlyModel) -> PreparedModel:
    """Fuse a model's matrices for `prefill`, `decode` and `generate`; `model` stays as
    it is.

    q, k, v, gate and up are copied into fused matrices; everything else is shared with
    `model`. So prepare after the last change of the weights, of the device and of the
    dtype. The modules have other names than Hugging Face's: save and inspect `model`,
    and generate with this.
    """
    return PreparedModel(model).eval()
