# Exported from notebooks/04_decoder.ipynb; edit there, then run its last cell.
"""The whole network: decoder layers between an embedding table and the output head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_course.arguments import checked
from llm_course.config import EngineConfig, ModelConfig
from llm_course.models.attention import SelfAttention, causal_mask
from llm_course.models.layers import MLP, RMSNorm
from llm_course.models.rope import RotaryEmbedding
from llm_course.types import Cache, HiddenStates, Logits, TokenIds

__all__ = [
    "DecoderLayer",
    "expand_mask",
    "DecoderOnlyModel",
    "resolve_device",
    "build_decoder_only_model",
]


class DecoderLayer(nn.Module):
    """One block: attention, then the MLP, each reading a normed copy and adding to the
    stream.

    Source: Touvron et al. 2023, "LLaMA", section 2.2 (pre-normalisation).
    """

    @checked
    def __init__(
        self,
        config: ModelConfig,
        layer_idx: int = 0,
        rotary: RotaryEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_dim, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer_idx, rotary)
        self.post_attention_layernorm = RMSNorm(config.hidden_dim, config.rms_norm_eps)
        self.mlp = MLP(config.hidden_dim, config.intermediate_dim)

    @checked
    def forward(
        self,
        hidden_states: HiddenStates,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        kv_cache: Cache | None = None,
    ) -> HiddenStates:
        """hidden_states [B, S, hidden] -> [B, S, hidden]; the rest as in
        SelfAttention."""
        normed = self.input_layernorm(hidden_states)
        hidden_states = hidden_states + self.self_attn(
            normed, attention_mask, position_ids, kv_cache
        )
        normed = self.post_attention_layernorm(hidden_states)
        return hidden_states + self.mlp(normed)


def expand_mask(
    attention_mask: Tensor | None, num_queries: int, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Combine a padding mask [B, K] with causality, and count positions by its real
    tokens.

    Returns (mask [B, 1, Q, K] boolean, position_ids [B, Q]) for the last Q of the K
    tokens, or (None, None) when nothing is padded, so that the causal fast path stays
    open.
    """
    if attention_mask is None:
        return None, None
    real = attention_mask.to(device).bool()  # [B, K]
    if real.all():
        return None, None
    # the first real token is at 0
    position_ids = (real.long().cumsum(dim=-1) - 1).clamp(min=0)
    causal = causal_mask(num_queries, real.shape[1], device)  # [1, 1, Q, K]
    return causal & real[:, None, None, :], position_ids[:, -num_queries:]


class DecoderOnlyModel(nn.Module):
    """Token ids to logits: embedding, `num_layers` decoder layers, a final norm, the
    output head.

    With `config.tie_word_embeddings` the head uses the embedding's own matrix.
    `model.config` is the ModelConfig.
    """

    @checked
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        rotary = RotaryEmbedding(
            config.head_dim,
            config.max_position_embeddings,
            config.rope_theta,
            config.rope_scaling,
        )
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_dim)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer_idx, rotary)
            for layer_idx in range(config.num_layers)
        )
        self.norm = RMSNorm(config.hidden_dim, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_dim, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                # as GPT: Radford et al. 2018, section 4.1
                nn.init.normal_(module.weight, std=0.02)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    @checked
    def forward(
        self,
        input_ids: TokenIds,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        kv_cache: Cache | None = None,
        last_only: bool = False,
    ) -> Logits:
        """input_ids [B, S] -> logits [B, S, vocab]; with `last_only`, [B, 1, vocab].

        attention_mask [B, S], or [B, past + S] with a cache: boolean or integer, 1 =
        real token; None = all real. position_ids [B, S]: by default counted by the
        mask, or from the cache's length on. A cache is advanced once, by S. Raises
        ValueError for ids outside the vocabulary, an empty input, or a mask of another
        shape.
        """
        past = kv_cache.length if kv_cache is not None else 0
        input_ids = input_ids.to(self.embed_tokens.weight.device)
        self._check(input_ids, attention_mask, past)
        mask, mask_positions = expand_mask(
            attention_mask, input_ids.shape[1], input_ids.device
        )
        if position_ids is None:
            position_ids = mask_positions
            if position_ids is None:
                # [1, S]
                position_ids = torch.arange(past, past + input_ids.shape[1])[None]
        position_ids = position_ids.to(input_ids.device)

        hidden_states = self.embed_tokens(input_ids)  # [B, S, hidden]
        hidden_states = self.run_layers(
            hidden_states, mask, position_ids, kv_cache, last_only
        )
        if kv_cache is not None:
            kv_cache.advance(input_ids.shape[1])
        return self.lm_head(self.norm(hidden_states))  # [B, S or 1, vocab]

    def run_layers(
        self,
        hidden_states: HiddenStates,
        mask: Tensor | None,
        position_ids: Tensor,
        kv_cache: Cache | None,
        last_only: bool,
    ) -> HiddenStates:
        """[B, S, hidden] -> [B, S, hidden], or with `last_only` [B, 1, hidden].

        mask [B, 1, S, K], complete, or None for causal; position_ids [B, S] or [1, S].
        """
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, position_ids, kv_cache)
        # the head is the costly part
        return hidden_states[:, -1:] if last_only else hidden_states

    def _check(
        self, input_ids: TokenIds, attention_mask: Tensor | None, past: int
    ) -> None:
        if input_ids.ndim != 2 or input_ids.numel() == 0:
            raise ValueError(
                f"input_ids have shape {list(input_ids.shape)}: must be [B, S] with at"
                " least one token (one prompt: ids[None]; an empty prompt: start from"
                " the BOS token)"
            )
        if input_ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"input_ids are {input_ids.dtype}: token ids are whole numbers"
            )
        low, high = (int(i) for i in input_ids.aminmax())
        if low < 0 or high >= self.config.vocab_size:
            bad = low if low < 0 else high
            raise ValueError(
                f"token id {bad} is outside the vocabulary of {self.config.vocab_size} "
                "(ids count from 0): is this the tokenizer of this model?"
            )
        expected = [input_ids.shape[0], past + input_ids.shape[1]]
        if attention_mask is not None and list(attention_mask.shape) != expected:
            raise ValueError(
                f"attention_mask has shape {list(attention_mask.shape)}: must be"
                f" {expected}, one entry for each of the {past} cached and"
                f" {input_ids.shape[1]} new tokens"
            )


def resolve_device(name: str) -> torch.device:
    """Turn "auto" into CUDA, Apple's MPS or the CPU. Raises ValueError for a device
    that is not here."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'device {name!r} cannot be used here; "auto" picks one ({error})'
        ) from error
    return device


@checked
def build_decoder_only_model(
    model_config: ModelConfig, engine_config: EngineConfig
) -> DecoderOnlyModel:
    """A model with random weights, on the engine's device, in its dtype, in eval mode.

    Seed it with `torch.manual_seed` before the call.
    """
    device = resolve_device(engine_config.device)
    model = DecoderOnlyModel(model_config)
    return model.to(device=device, dtype=getattr(torch, engine_config.dtype)).eval()
