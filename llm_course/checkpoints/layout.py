"""What a checkpoint must hold: tensor names, their shapes, and the two orders of q and k rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from llm_course.checkpoints.errors import CheckpointError
from llm_course.checkpoints.tokenizer import Tokenizer
from llm_course.config import ModelConfig

EMBEDDING, LM_HEAD = "embed_tokens.weight", "lm_head.weight"


@dataclass
class Checkpoint:
    """A whole checkpoint in memory.

    `tensors` has the names of `DecoderOnlyModel`'s state dict, except that a tied `lm_head.weight` is
    absent; q and k rows are in adjacent-pair order. `tokenizer` is None where the file has none.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer | None


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return name → shape ([out, in] for matrices) of every tensor a model of this config needs."""
    hidden, inner = config.hidden_dim, config.intermediate_dim
    q_dim, kv_dim = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (q_dim, hidden),
        "self_attn.k_proj.weight": (kv_dim, hidden),
        "self_attn.v_proj.weight": (kv_dim, hidden),
        "self_attn.o_proj.weight": (hidden, q_dim),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    shapes = {EMBEDDING: (config.vocab_size, hidden), "norm.weight": (hidden,)}
    for i in range(config.num_layers):
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    if not config.tie_word_embeddings:
        shapes[LM_HEAD] = shapes[EMBEDDING]
    return shapes


def check_tensors(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Raise one CheckpointError that lists every missing, unexpected and misshapen tensor."""
    expected = expected_shapes(config)
    misshapen = [
        f"{name} is {list(shapes[name])}, not {list(expected[name])}"
        for name in expected
        if name in shapes and tuple(shapes[name]) != expected[name]
    ]
    problems = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": sorted(set(shapes) - set(expected)),
        "misshapen": misshapen,
    }
    if any(problems.values()):
        found = "; ".join(
            f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names
        )
        raise CheckpointError(
            f"The tensors of {source} do not fit its config ({found}): the file is damaged, or it "
            "is a variant of the architecture that this course does not build."
        )


def to_adjacent(weight: Tensor, num_heads: int) -> Tensor:
    """Reorder q or k rows [num_heads * d, ...] from half-split to adjacent-pair order, per head.

    Half-split RoPE rotates channels (i, i + d/2) of a head together, adjacent-pair RoPE (2i, 2i + 1).
    For k, `num_heads` is the number of key/value heads. v and o are never reordered.
    """
    halves = weight.view(num_heads, 2, -1, *weight.shape[1:])  # [H, 2, d/2, in]
    return halves.transpose(1, 2).reshape(weight.shape)


def to_half_split(weight: Tensor, num_heads: int) -> Tensor:
    """Undo `to_adjacent`: reorder q or k rows [num_heads * d, ...] from adjacent to half-split."""
    rows_per_head = weight.shape[0] // num_heads
    pairs = weight.view(num_heads, rows_per_head // 2, 2, *weight.shape[1:])  # [H, d/2, 2, in]
    return pairs.transpose(1, 2).reshape(weight.shape)


def heads_to_permute(name: str, config: ModelConfig) -> int | None:
    """Return the number of heads if tensor `name` is a q or k projection, else None."""
    if name.endswith(".q_proj.weight"):
        return config.num_heads
    if name.endswith(".k_proj.weight"):
        return config.num_kv_heads
    return None
