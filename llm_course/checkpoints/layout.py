"""What a checkpoint must hold: tensor names, their shapes, and the two orders of q and
k rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from llm_course.arguments import checked
from llm_course.config import ModelConfig
from llm_course.errors import CheckpointError
from llm_course.text.tokenizer import Tokenizer

EMBEDDING, LM_HEAD = "embed_tokens.weight", "lm_head.weight"


@dataclass
class Checkpoint:
    """A whole checkpoint in memory.

    `tensors` has the names of `DecoderOnlyModel`'s state dict, except that a tied
    `lm_head.weight` is absent; q and k rows are in adjacent-pair order. `tokenizer` is
    None where the file has none.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer | None


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return name → shape ([out, in] for matrices) of every tensor a model of this
    config needs."""
    hidden, inner = config.hidden_dim, config.intermediate_dim
    q_dim, kv_dim = (
        config.num_heads * config.head_dim,
        config.num_kv_heads * config.head_dim,
    )
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
    if config.qkv_bias:
        layer |= {
            "self_attn.q_proj.bias": (q_dim,),
            "self_attn.k_proj.bias": (kv_dim,),
            "self_attn.v_proj.bias": (kv_dim,),
        }
    if config.qk_norm:
        norms = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
        layer |= dict.fromkeys(norms, (config.head_dim,))
    shapes = {EMBEDDING: (config.vocab_size, hidden), "norm.weight": (hidden,)}
    for i in range(config.num_layers):
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    if not config.tie_word_embeddings:
        shapes[LM_HEAD] = shapes[EMBEDDING]
    return shapes


def tensor_problems(
    config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Return one line each for all missing, all unexpected and all misshapen tensors;
    [] if all fit."""
    # also a guard: never list the tensors of 10**9 layers
    if config.num_layers > len(shapes):
        return [
            f"{config.num_layers} layers are announced, but there are {len(shapes)}"
            " tensors"
        ]
    expected = expected_shapes(config)
    found = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": sorted(set(shapes) - set(expected)),
        "misshapen": [
            f"{name} is {list(shapes[name])}, not {list(expected[name])}"
            for name in expected
            if name in shapes and tuple(shapes[name]) != expected[name]
        ],
    }
    return [f"{kind}: {list_names(names)}" for kind, names in found.items() if names]


def table_problems(config: ModelConfig) -> list[str]:
    """Refuse a context so long that RoPE's table of angles alone would take
    gigabytes."""
    # 2**20 positions of 128 channels
    if config.max_position_embeddings * config.head_dim <= 2**27:
        return []
    return [
        f"max_position_embeddings = {config.max_position_embeddings} with heads of "
        f"{config.head_dim} channels: RoPE's table of angles would not fit in memory"
    ]


def refuse(source: object, problems: Sequence[str]) -> None:
    """Raise one CheckpointError that lists all problems, if there are any."""
    if len(problems) == 1:
        raise CheckpointError(f"{source} cannot be loaded: {problems[0]}.")
    if problems:
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise CheckpointError(
            f"{source} cannot be loaded, for {len(problems)} reasons:{lines}"
        )


def list_names(names: Sequence[str]) -> str:
    """Join names of tensors; those that differ in the layer only become one:
    layers.0-29.mlp.…"""
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        short = name if len(name) <= 200 else f"{name[:200]}…"
        match = re.match(r"(.*?\blayers\.)(0|[1-9]\d{0,5})(\..*)", short, re.DOTALL)
        head, layer, tail = match.groups() if match else (short, None, "")
        groups.setdefault((head, tail), []).extend(
            [] if layer is None else [int(layer)]
        )
    shown = [
        f"{head}{_ranges(layers)}{tail}" for (head, tail), layers in groups.items()
    ]
    more = f" and {len(shown) - 200} more" if len(shown) > 200 else ""
    return ", ".join(shown[:200]) + more


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers briefly: [0, 1, 2, 5] is "0-2,5"."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


@checked
def to_adjacent(weight: Tensor, num_heads: int) -> Tensor:
    """Reorder q or k rows [num_heads * d, ...] from half-split to adjacent-pair order,
    per head.

    Half-split RoPE rotates channels (i, i + d/2) of a head together, adjacent-pair RoPE
    (2i, 2i + 1). For k, `num_heads` is the number of key/value heads. v and o are never
    reordered.
    """
    _check_heads(weight, num_heads)
    halves = weight.view(num_heads, 2, -1, *weight.shape[1:])  # [H, 2, d/2, in]
    return halves.transpose(1, 2).reshape(weight.shape)


@checked
def to_half_split(weight: Tensor, num_heads: int) -> Tensor:
    """Undo `to_adjacent`: reorder q or k rows [num_heads * d, ...] from adjacent to
    half-split."""
    _check_heads(weight, num_heads)
    rows_per_head = weight.shape[0] // num_heads
    # [H, d/2, 2, in]
    pairs = weight.view(num_heads, rows_per_head // 2, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)


def _check_heads(weight: Tensor, num_heads: int) -> None:
    rows = weight.shape[0] if weight.ndim else 0
    if num_heads < 1 or not rows or rows % (2 * num_heads):
        raise ValueError(
            f"num_heads = {num_heads}: a weight of shape {list(weight.shape)} has no"
            " rows for so many heads of an even size"
        )


def heads_to_permute(name: str, config: ModelConfig) -> int | None:
    """Return the number of heads in the rows of tensor `name` if they are permuted,
    else None.

    They are those of the q and k projections, of their biases, and of the norms of q
    and k, which hold the channels of one head.
    """
    part = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    heads = {
        "q_proj": config.num_heads,
        "k_proj": config.num_kv_heads,
        "q_norm": 1,
        "k_norm": 1,
    }
    return heads.get(part)
