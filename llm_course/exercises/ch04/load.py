"""The check of exercise 04.load: one layer from a file with fused matrices and
half-split rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from llm_course.checkpoints import load_tensors, to_adjacent, to_half_split
from llm_course.config import ModelConfig
from llm_course.exercises.ch04.models import small_config
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models.transformer import DecoderLayer

Tensors = dict[str, Tensor]
NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")


def reordered(
    q: Tensor, k: Tensor, v: Tensor, c: ModelConfig
) -> tuple[Tensor, Tensor, Tensor]:
    return to_adjacent(q, c.num_heads), to_adjacent(k, c.num_kv_heads), v


def by_rows(qkv: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    kv = c.num_kv_heads * c.head_dim
    return qkv.split((c.num_heads * c.head_dim, kv, kv))


def loaded(
    tensors: Tensors,
    config: ModelConfig,
    number: int,
    *,
    prefix: str = "model.layers.{}.",
    cut: Callable[[Tensor, ModelConfig], Any] = by_rows,
    order: Callable[..., tuple[Tensor, ...]] = reordered,
    halves: Callable[[Tensor], Any] = lambda t: t.chunk(2),
    norms: Callable[[Tensors], Tensors] = lambda norms: norms,
) -> nn.Module:
    """The keywords are what the wrong versions get wrong."""
    start = prefix.format(number)
    t = {
        name[len(start) :].lstrip("0123456789."): w
        for name, w in tensors.items()
        if name.startswith(start)
    }
    q, k, v = order(*cut(t.pop("self_attn.qkv_proj.weight"), config), config)
    t |= {
        f"self_attn.{kind}_proj.weight": w
        for kind, w in zip("qkv", (q, k, v), strict=True)
    }
    gate, up = halves(t.pop("mlp.gate_up_proj.weight"))
    t |= {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
    with torch.device("meta"):
        layer = DecoderLayer(config, number)
    layer.load_state_dict(t | norms({name: t[name] for name in NORMS}), assign=True)
    return layer.requires_grad_(False)


def load(tensors: Tensors, config: ModelConfig, number: int) -> nn.Module:
    return loaded(tensors, config, number)


def variant(**changed: Any) -> Callable[..., nn.Module]:
    """`loaded` with one keyword set."""
    return lambda tensors, config, number: loaded(tensors, config, number, **changed)


def v_before_k(qkv: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    q, v, k = by_rows(qkv, c)
    return q, k, v


def first_of_three(qkv: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    """As many rows for each of the three."""
    return qkv.chunk(3)


def by_head(qkv: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    """Groups: the query heads of one key head, the key head, the value head."""
    heads = qkv.unflatten(0, (c.num_kv_heads, -1, c.head_dim))
    q, k, v = heads[:, :-2], heads[:, -2], heads[:, -1]
    return q.flatten(0, 2), k.flatten(0, 1), v.flatten(0, 1)


def k_like_q(q: Tensor, k: Tensor, v: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    return to_adjacent(q, c.num_heads), to_adjacent(k, c.num_heads), v


def v_too(q: Tensor, k: Tensor, v: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    return (*reordered(q, k, v, c)[:2], to_adjacent(v, c.num_kv_heads))


def q_only(q: Tensor, k: Tensor, v: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    return to_adjacent(q, c.num_heads), k, v


def as_they_stand(
    q: Tensor, k: Tensor, v: Tensor, c: ModelConfig
) -> tuple[Tensor, ...]:
    return q, k, v


def other_way(q: Tensor, k: Tensor, v: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    return to_half_split(q, c.num_heads), to_half_split(k, c.num_kv_heads), v


def one_head(q: Tensor, k: Tensor, v: Tensor, c: ModelConfig) -> tuple[Tensor, ...]:
    return to_adjacent(q, 1), to_adjacent(k, 1), v


def nothing_loaded(tensors: Tensors, config: ModelConfig, number: int) -> nn.Module:
    """A load that is not strict, and no name that fits."""
    layer = DecoderLayer(config, number)
    layer.load_state_dict(tensors, strict=False)
    return layer.requires_grad_(False)


def norms_swapped(norms: Tensors) -> Tensors:
    return dict(zip(NORMS, reversed(norms.values()), strict=True))


def norms_of_ones(norms: Tensors) -> Tensors:
    return {name: torch.ones_like(weight) for name, weight in norms.items()}


def output_of(
    function: Callable[..., Any], tensors: Tensors, c: ModelConfig, n: int
) -> Tensor:
    """What the loaded layer makes of a fixed input."""
    try:
        layer = function(tensors, c, n)
    except KeyError as error:
        hint = "is the prefix cut off as far as its last dot?"
        raise LookupError(f"no name {error} ({hint})").with_traceback(
            error.__traceback__
        ) from None
    except RuntimeError as error:  # load_state_dict lists names on lines of their own
        error.args = (" ".join(str(error).split()),)
        raise
    if not isinstance(layer, nn.Module):
        raise TypeError(f"it returned {type(layer).__name__}, not a DecoderLayer")
    x = torch.randn(1, 6, c.hidden_dim, generator=torch.Generator().manual_seed(0))
    return layer(x)


def fused(config: ModelConfig, numbers: range, scale: float = 0.3) -> Tensors:
    """A file with the layers `numbers`, random."""
    generator = torch.Generator().manual_seed(0)
    heads = config.num_heads + 2 * config.num_kv_heads
    shapes = {
        "input_layernorm.weight": (config.hidden_dim,),
        "self_attn.qkv_proj.weight": (heads * config.head_dim, config.hidden_dim),
        "self_attn.o_proj.weight": (
            config.hidden_dim,
            config.num_heads * config.head_dim,
        ),
        "post_attention_layernorm.weight": (config.hidden_dim,),
        "mlp.gate_up_proj.weight": (2 * config.intermediate_dim, config.hidden_dim),
        "mlp.down_proj.weight": (config.hidden_dim, config.intermediate_dim),
    }
    return {
        f"model.layers.{n}.{name}": (
            (len(shape) == 1) + scale * torch.randn(shape, generator=generator)
        )
        for n in numbers
        for name, shape in shapes.items()
    }


@lru_cache
def first_real_layer() -> Tensors:
    """Layer 0 of SmolLM2, fused."""
    prefix = "model.layers.0."
    named = load_tensors("smollm2-135m-instruct").items()
    t = {name: weight for name, weight in named if name.startswith(prefix)}
    q, k, v, gate, up = (
        t.pop(f"{prefix}{name}_proj.weight")
        for name in ("self_attn.q", "self_attn.k", "self_attn.v", "mlp.gate", "mlp.up")
    )
    t[f"{prefix}self_attn.qkv_proj.weight"] = torch.cat(
        (to_half_split(q, 9), to_half_split(k, 3), v)
    )
    t[f"{prefix}mlp.gate_up_proj.weight"] = torch.cat((gate, up))
    return t


def load_cases() -> Iterator[Case]:
    one = small_config(num_layers=1, num_heads=2, head_dim=6)
    yield case(fused(one, range(1)), one, 0, name="H = Hkv = 2, d = 6")
    deep = small_config(num_layers=12)
    yield case(
        fused(deep, range(12)), deep, 1, name="H = 4, Hkv = 2, d = 8, twelve layers"
    )
    smollm2 = ModelConfig(
        49152, 576, 1536, 30, 9, 3, 64, 64, 1e5, tie_word_embeddings=True
    )
    real = {name: weight.clone() for name, weight in first_real_layer().items()}
    yield case(real, smollm2, 0, name="SmolLM2, H = 9, Hkv = 3, d = 64")


def knows_its_number(function: Callable[..., Any]) -> str | None:
    config = small_config(num_layers=3)
    got = function(fused(config, range(3)), config, 2).self_attn.layer_idx
    return (
        None
        if got == 2
        else f"layer 2 has layer_idx {got}: a cache would file it there."
    )


LOAD = Exercise(
    "04.load",
    reference=load,
    cases=load_cases,
    call=output_of,
    wrong={
        "with q and k in the order of the file, half-split": variant(
            order=as_they_stand
        ),
        "that reorders the other way, from adjacent to half-split": variant(
            order=other_way
        ),
        "that reorders q alone": variant(order=q_only),
        "that cuts k into as many heads as q has": variant(order=k_like_q),
        "that reorders v as well": variant(order=v_too),
        "that takes all rows of q (and of k) for one head": variant(order=one_head),
        "that cuts qkv into three equal parts": variant(cut=first_of_three),
        "that takes the rows in the order q, v, k": variant(cut=v_before_k),
        "that takes the rows group by group: query heads, key head, value head": (
            variant(cut=by_head)
        ),
        "with gate and up exchanged": variant(halves=lambda t: t.chunk(2)[::-1]),
        "that takes every other row for gate": variant(
            halves=lambda t: (t[0::2], t[1::2])
        ),
        "with the two norms exchanged": variant(norms=norms_swapped),
        "whose norms are ones, as the constructor made them": variant(
            norms=norms_of_ones
        ),
        'that takes "model.layers.11." for layer 1: the name goes on after the number': variant(
            prefix="model.layers.{}"
        ),
        "that takes the tensors of layer 0, whatever the number": variant(
            prefix="model.layers.0."
        ),
        "in which no tensor is loaded: with strict=False, names that do not fit are passed over": (
            nothing_loaded
        ),
    },
    properties=(knows_its_number,),
)
