"""Random shapes of tiny models, and the same weights in both implementations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedConfig

from llm_course.config import EngineConfig, ModelConfig
from llm_course.models import DecoderOnlyModel, build_decoder_only_model

THETAS = (100.0, 10_000.0, 100_000.0, 500_000.0, 1e6)


@st.composite
def rope_scalings(
    draw: st.DrawFn, max_position_embeddings: int
) -> dict[str, Any] | None:
    """None, or a kind of scaling with its numbers, in the spelling that both configs
    take."""
    kind = draw(st.sampled_from([None, "linear", "llama3"]))
    if kind is None:
        return None
    scaling = {
        "rope_type": kind,
        "factor": draw(st.sampled_from([1.0, 2.0, 8.0, 32.0])),
    }
    if kind == "llama3":
        low = draw(st.sampled_from([0.5, 1.0, 2.0]))
        scaling |= {
            "low_freq_factor": low,
            "high_freq_factor": draw(st.sampled_from([2.5, 4.0])),
            "original_max_position_embeddings": max_position_embeddings // 4,
        }
    return scaling


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    """A shape: one to three layers, any grouping of heads, head_dim given or
    derived."""
    num_kv_heads = draw(st.integers(1, 3))
    num_heads = num_kv_heads * draw(st.integers(1, 4))
    head_dim = draw(st.sampled_from([2, 4, 6, 8, 16]))
    # Below 8 channels a sum may cancel to nearly nothing, and its rounding error looks
    # large.
    derived = num_heads * head_dim >= 8 and draw(st.booleans())
    # `transformers` wants whole multiples of num_heads, even where head_dim is given.
    hidden_dim = num_heads * (
        head_dim if derived else draw(st.integers(-(-8 // num_heads), 12))
    )
    max_position_embeddings = draw(st.sampled_from([8, 64, 2048]))
    return ModelConfig(
        vocab_size=draw(st.integers(20, 90)),
        hidden_dim=hidden_dim,
        intermediate_dim=draw(st.integers(3, 100)),
        num_layers=draw(st.integers(1, 3)),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=None if derived else head_dim,
        max_position_embeddings=max_position_embeddings,
        rope_theta=draw(st.sampled_from(THETAS) | st.floats(2.0, 2e6)),
        rope_scaling=draw(rope_scalings(max_position_embeddings)),
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5, 1e-3])),
        tie_word_embeddings=draw(st.booleans()),
    )


@dataclass(frozen=True)
class Case:
    """One shape, one batch (`padding`: pads at the start of each row), one seed."""

    config: ModelConfig
    padding: tuple[int, ...]
    length: int  # of the padded rows; each holds at least one real token
    seed: int

    @cached_property
    def random(self) -> torch.Generator:
        """Draws of this case's own; the same for the same case."""
        return torch.Generator().manual_seed(self.seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    @property
    def batch(self) -> int:
        return len(self.padding)

    @cached_property
    def mask(self) -> Tensor:
        """[B, S] boolean, True = real token."""
        return torch.arange(self.length) >= torch.tensor(self.padding)[:, None]

    @cached_property
    def positions(self) -> Tensor:
        """[B, S]: 0 at each row's first real token, and at the pads before it."""
        return (torch.arange(self.length) - torch.tensor(self.padding)[:, None]).clamp(
            min=0
        )

    @cached_property
    def ids(self) -> Tensor:
        shape = (self.batch, self.length)
        return torch.randint(0, self.config.vocab_size, shape, generator=self.random)

    def rows(self, batched: Tensor) -> Tensor:
        """The real tokens of a batch [B, S, ...], one row after the other: [N, ...]."""
        return batched[self.mask]


@st.composite
def cases(draw: st.DrawFn, max_length: int = 12) -> Case:
    """A model and a batch of one to three rows, padded on the left or not."""
    config = draw(model_configs())
    length = draw(st.integers(1, max_length))
    rows = draw(st.integers(1, 3))
    pads = st.just(0) | st.integers(0, length - 1)
    padding = tuple(draw(pads) for _ in range(rows))
    return Case(config, padding, length, draw(st.integers(0, 2**32 - 1)))


def their_config(config: ModelConfig, family: str = "Llama") -> PreTrainedConfig:
    """The same shape as `transformers` writes it. No special tokens: a test that wants
    them says so."""
    kind = {"rope_type": "default"} | (config.rope_scaling or {})
    window = {"sliding_window": None} if family == "Mistral" else {}
    return getattr(transformers, f"{family}Config")(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_dim,
        intermediate_size=config.intermediate_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=kind | {"rope_theta": config.rope_theta},
        rms_norm_eps=config.rms_norm_eps,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        # plain products and a softmax: the least code in common
        attn_implementation="eager",
        **window,
    )


def adjacent_order(num_heads: int, head_dim: int) -> Tensor:
    """Index of half-split rows or channels [H * D] in adjacent-pair order.

    Written out by index, so that it shares no code with `checkpoints.to_adjacent`.
    """
    half = head_dim // 2
    return torch.tensor(
        [
            head * head_dim + i
            for head in range(num_heads)
            for pair in range(half)
            for i in (pair, pair + half)
        ]
    )


@dataclass(frozen=True)
class Pair:
    """The same weights twice, in eval mode, on the CPU: ours in the dtype asked for,
    theirs in float32.

    Weights are rounded to the dtype first. Theirs stays float32 because its own
    bfloat16 rounds the cos and sin of RoPE, and so strays several times as far from the
    float32 logits as ours.
    """

    ours: DecoderOnlyModel
    theirs: LlamaForCausalLM


def build_pair(case: Case, dtype: str = "float32", scale: float = 0.6) -> Pair:
    """Draw weights, round them to the dtype, and give them to both.

    At `scale` 0.6 every part matters to the logits, and an error of rounding stays the
    size it was made: larger matrices blow up any rounding, the reference's own as well.
    """
    config = case.config
    theirs = LlamaForCausalLM(their_config(config)).eval().requires_grad_(False)
    for name, parameter in theirs.named_parameters():
        drawn = case.normal(*parameter.shape)
        if parameter.ndim == 1:
            drawn = 1.0 + 0.3 * drawn  # a norm
        elif not name.endswith("embed_tokens.weight"):
            drawn = scale * drawn / parameter.shape[1] ** 0.5
        parameter.copy_(drawn.to(getattr(torch, dtype)))
    weights = {
        name.removeprefix("model."): w for name, w in theirs.state_dict().items()
    }
    for name, weight in weights.items():
        for kind, heads in (
            ("q_proj", config.num_heads),
            ("k_proj", config.num_kv_heads),
        ):
            if kind in name:
                weights[name] = weight[adjacent_order(heads, config.head_dim)]
    ours = build_decoder_only_model(config, EngineConfig("cpu", dtype)).requires_grad_(
        False
    )
    ours.load_state_dict(weights)
    return Pair(ours, theirs)
