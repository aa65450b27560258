"""The check of 04.load: one layer of a file with fused matrices and half-split rows."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from llm_course.checkpoints import load_tensors, to_adjacent, to_half_split
from llm_course.config import ModelConfig
from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal
from llm_course.exercises.ch04.models import small_model
from llm_course.models.transformer import DecoderLayer

Tensors = dict[str, Tensor]
PARTS = "self_attn.q", "self_attn.k", "self_attn.v", "mlp.gate", "mlp.up"
APART = [f"{part}_proj.weight" for part in PARTS]


def load(tensors: Tensors, config: ModelConfig, number: int) -> nn.Module:
    start = f"model.layers.{number}."
    names = [name for name in tensors if name.startswith(start)]
    t = {name.removeprefix(start): tensors[name] for name in names}
    heads, kv_heads, d = config.num_heads, config.num_kv_heads, config.head_dim
    sizes = [heads * d, kv_heads * d, kv_heads * d]
    q, k, v = t.pop("self_attn.qkv_proj.weight").split(sizes)
    gate, up = t.pop("mlp.gate_up_proj.weight").chunk(2)
    q, k = to_adjacent(q, heads), to_adjacent(k, kv_heads)
    t |= zip(APART, (q, k, v, gate, up), strict=True)
    with torch.device("meta"):
        layer = DecoderLayer(config, number)
    layer.load_state_dict(t, assign=True)
    return layer.requires_grad_(False)


def output_of(function: Function, tensors: Tensors, c: ModelConfig, n: int) -> Tensor:
    """What the loaded layer makes of a fixed input."""
    try:
        layer = function(tensors, c, n)
    except KeyError as error:
        hint = "is the prefix cut off as far as its last dot?"
        unknown = LookupError(f"no name {error} ({hint})")
        raise unknown.with_traceback(error.__traceback__) from None
    except RuntimeError as error:  # load_state_dict lists names on lines of their own
        error.args = (" ".join(str(error).split()),)
        raise
    if not isinstance(layer, nn.Module):
        raise TypeError(f"it returned {type(layer).__name__}, not a DecoderLayer")
    return layer(normal(1, 6, c.hidden_dim))


def fused(layer: Tensors, config: ModelConfig, number: int) -> Tensors:
    """A layer's tensors as such files have them."""
    t = {name: weight.clone() for name, weight in layer.items()}
    q, k, v, gate, up = map(t.pop, APART)
    q, k = to_half_split(q, config.num_heads), to_half_split(k, config.num_kv_heads)
    t["self_attn.qkv_proj.weight"] = torch.cat((q, k, v))
    t["mlp.gate_up_proj.weight"] = torch.cat((gate, up))
    return {f"model.layers.{number}.{name}": weight for name, weight in t.items()}


def random_file(**changes: int) -> tuple[Tensors, ModelConfig]:
    model, file = small_model(**changes), Tensors()
    for number, layer in enumerate(model.layers):
        file |= fused(layer.state_dict(), model.config, number)
    return file, model.config


@lru_cache
def real_layer() -> Tensors:
    """Layer 0 of SmolLM2."""
    start = "model.layers.0."
    named = load_tensors("smollm2-135m-instruct").items()
    return {n.removeprefix(start): w for n, w in named if n.startswith(start)}


def cases() -> Cases:
    one = random_file(num_layers=1, num_heads=2, head_dim=6)
    yield Case(*one, 0, name="H = Hkv = 2, d = 6")
    deep = random_file(num_layers=12)
    yield Case(*deep, 1, name="H = 4, Hkv = 2, d = 8, twelve layers")
    smollm2 = ModelConfig(49152, 576, 1536, 30, 9, 3, rope_theta=1e5)
    real = fused(real_layer(), smollm2, 0)
    yield Case(real, smollm2, 0, name="SmolLM2, H = 9, Hkv = 3, d = 64")


def knows_its_number(function: Function) -> Complaints:
    found = function(*random_file(num_layers=3), 2).self_attn.layer_idx
    if found != 2:
        yield f"layer 2 has layer_idx {found}: a cache would file it there."


WRONG = """
with q and k in the order of the file, half-split
    to_adjacent(q, heads) -> q ;; to_adjacent(k, kv_heads) -> k
that reorders the other way, from adjacent to half-split
    to_adjacent(q -> to_half_split(q ;; to_adjacent(k -> to_half_split(k
that reorders q alone
    to_adjacent(k, kv_heads) -> k
that cuts k into as many heads as q has
    (k, kv_heads) -> (k, heads)
that reorders v as well
    (q, k, v, gate -> (q, k, to_adjacent(v, kv_heads), gate
that takes all rows of q (and of k) for one head
    (q, heads) -> (q, 1) ;; (k, kv_heads) -> (k, 1)
that cuts qkv into three equal parts
    split(sizes) -> chunk(3)
that takes the rows in the order q, v, k
    q, k, v = -> q, v, k =
that takes the rows group by group: query heads, key head, value head
    q, k, v = t -> q, k, v = (part.flatten(0, 2) for part in t
    split(sizes) -> unflatten(0, (kv_heads, -1, d)).split([heads // kv_heads, 1, 1], 1))
with gate and up exchanged
    gate, up = -> up, gate =
that takes every other row for gate
    chunk(2) -> unflatten(0, (-1, 2)).unbind(1)
with the two norms exchanged
    layer.load -> one, two = [name for name in t if 'norm' in name]
        t[one], t[two] = t[two], t[one]; layer.load
whose norms are ones, as the constructor made them
    layer.load -> t |= {n: w * 0 + 1 for n, w in t.items() if 'norm' in n}; layer.load
that takes "model.layers.11." for layer 1: the name goes on after the number
    {number}. -> {number} ;; name.removeprefix(start) -> name.split('.', 3)[3]
that takes the tensors of layer 0, whatever the number
    {number} -> 0
in which no tensor is loaded: with strict=False, names that do not fit are passed over
    "meta" -> "cpu" ;; (t, assign=True) -> (tensors, strict=False)
"""

CHECK = Exercise("04.load", load, cases, WRONG, call=output_of, rule=knows_its_number)
