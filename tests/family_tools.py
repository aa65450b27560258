"""Tiny models of each family by `transformers`, and GGUF files of them as converters
write them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from hypothesis import strategies as st
from transformers import PreTrainedModel

from llm_course.config import ModelConfig
from tests.parity.configs import model_configs, their_config

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Drawn:
    """A family, a shape and a seed of the weights."""

    family: str
    config: ModelConfig
    seed: int

    def build(self) -> PreTrainedModel:
        """The model by `transformers`, with weights so large that all of them count."""
        config = their_config(self.config, self.family)
        torch.manual_seed(self.seed)
        model = getattr(transformers, f"{self.family}ForCausalLM")(config).eval()
        for name, parameter in model.named_parameters():
            drawn = torch.randn_like(parameter)
            if name.endswith("norm.weight"):
                drawn = 1 + 0.3 * drawn
            elif parameter.ndim == 2 and "embed" not in name:
                drawn = drawn / parameter.shape[1] ** 0.5
            parameter.data.copy_(drawn)
        return model


@st.composite
def drawn_models(draw: st.DrawFn, *families: str) -> Drawn:
    family = draw(st.sampled_from(families or FAMILIES))
    config = draw(model_configs())
    bias, norm = family == "Qwen2", family == "Qwen3"
    config = replace(config, qkv_bias=bias, qk_norm=norm)
    return Drawn(family, config, draw(st.integers(0, 2**16)))


def write_gguf(
    path: Path, drawn: Drawn, model: PreTrainedModel, kind: Kind = Kind.F32
) -> None:
    """Write a model of `transformers` as converters do: Llama's and Mistral's rows of q
    and k in adjacent order, written out by index; Llama 3's scaling as factors."""
    config, lowered = drawn.config, drawn.family.lower()
    name = "llama" if lowered == "mistral" else lowered
    writer = gguf.GGUFWriter(path, name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_dim)
    writer.add_feed_forward_length(config.intermediate_dim)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling or {"rope_type": None}
    if scaling["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    for full, tensor in model.state_dict().items():
        if full == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if name == "llama" and ".q_proj." in full:
            array = array[adjacent(config.num_heads, config.head_dim)]
        if name == "llama" and ".k_proj." in full:
            array = array[adjacent(config.num_kv_heads, config.head_dim)]
        array = np.ascontiguousarray(array)
        stored = kind if array.ndim == 2 else Kind.F32
        quantized = gguf.quants.quantize(array, stored)
        writer.add_tensor(gguf_name(full), quantized, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(full: str) -> str:
    part, _, role = full.rpartition(".")
    if part.startswith("model.layers."):
        _, _, layer, rest = part.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[rest]}.{role}"
    return f"{GGUF_NAMES[part]}.{role}"


def adjacent(num_heads: int, head_dim: int) -> list[int]:
    """Half-split rows, by index, in adjacent order."""
    half = head_dim // 2
    return [
        h * head_dim + i
        for h in range(num_heads)
        for p in range(half)
        for i in (p, p + half)
    ]


def llama3_factors(config: ModelConfig) -> np.ndarray:
    """A factor for each frequency, by three cases of its wavelength."""
    s = config.rope_scaling
    assert s is not None
    context = s["original_max_position_embeddings"]
    low, high = s["low_freq_factor"], s["high_freq_factor"]
    factors = []
    for i in range(0, config.head_dim, 2):
        turns = context * config.rope_theta ** (-i / config.head_dim) / (2 * np.pi)
        keep = 1.0 if turns > high else 0.0
        if low <= turns <= high:
            keep = (turns - low) / (high - low)
        factors.append(1 / (keep + (1 - keep) / s["factor"]))
    return np.array(factors, np.float32)
