"""Checks of the exercises of 04_decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from llm_course.config import ModelConfig
from llm_course.exercises.ch04.hunt import HUNT
from llm_course.exercises.ch04.load import LOAD
from llm_course.exercises.ch04.models import sizes, small_config, small_model
from llm_course.exercises.ch04.prune import PRUNE
from llm_course.exercises.ch04.tied import TIED
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models.transformer import DecoderOnlyModel

# --- 04.bytes


def weight_bytes(model: DecoderOnlyModel) -> int:
    matrices = {p.data_ptr(): p for p in model.parameters()}
    return sum(p.nbytes for p in matrices.values())


def bytes_by_parameter(model: DecoderOnlyModel) -> int:
    return sum(p.nbytes for p in model.parameters())


def bytes_by_name(model: DecoderOnlyModel) -> int:
    return sum(t.nbytes for t in model.state_dict().values())


def bytes_of_float32(model: DecoderOnlyModel) -> int:
    return 4 * sum({p.data_ptr(): p.numel() for p in model.parameters()}.values())


def bytes_of_the_first(model: DecoderOnlyModel) -> int:
    return bytes_of_float32(model) // 4 * next(model.parameters()).element_size()


def numbers_only(model: DecoderOnlyModel) -> int:
    return bytes_of_float32(model) // 4


def bytes_by_config(model: DecoderOnlyModel) -> int:
    once = model.config.tie_word_embeddings
    return bytes_by_name(model) - once * model.lm_head.weight.nbytes


def bytes_by_value(model: DecoderOnlyModel) -> int:
    head, table = model.lm_head.weight, model.embed_tokens.weight
    return bytes_by_name(model) - torch.equal(head, table) * head.nbytes


def bytes_to_train(model: DecoderOnlyModel) -> int:
    return sum(p.nbytes for p in model.parameters() if p.requires_grad)


def bytes_less_the_table(model: DecoderOnlyModel) -> int:
    tied = model.config.tie_word_embeddings
    return bytes_by_parameter(model) - tied * model.embed_tokens.weight.nbytes


def loaded_model() -> DecoderOnlyModel:
    """Two parameters on one memory, as after `load_state_dict(…, assign=True)`."""
    model = small_model(tie_word_embeddings=True)
    model.load_state_dict(
        small_model(tie_word_embeddings=True).state_dict(), assign=True
    )
    return model


def copied_model() -> DecoderOnlyModel:
    model = small_model()
    model.lm_head.load_state_dict(model.embed_tokens.state_dict())
    return model


def mixed_model() -> DecoderOnlyModel:
    model = small_model(tie_word_embeddings=True)
    model.layers.bfloat16()
    return model


def bytes_cases() -> Iterator[Case]:
    one = small_model(tie_word_embeddings=True, num_layers=1)
    yield case(one, name=f"tied, float32, {sizes(one)}")
    yield case(small_model(), name="not tied, L = 2, else the same")
    yield case(copied_model(), name="not tied, the head a copy of the embedding")
    yield case(loaded_model(), name="tied, loaded with assign=True")
    yield case(loaded_model().half(), name="the same, after model.half()")
    yield case(mixed_model(), name="layers in bfloat16, the rest in float32")


BYTES = Exercise(
    "04.bytes",
    reference=weight_bytes,
    cases=bytes_cases,
    wrong={
        "that counts by parameter: two parameters may stand on one memory": (
            bytes_by_parameter
        ),
        "that counts by name: `state_dict` lists a tied matrix under both names": (
            bytes_by_name
        ),
        "that counts what has `requires_grad`: frozen parameters take memory too": (
            bytes_to_train
        ),
        "with 4 bytes for each number, whatever its dtype": bytes_of_float32,
        "that takes the dtype of the first parameter for all": bytes_of_the_first,
        "that counts numbers; each takes `element_size()` bytes": numbers_only,
        "that believes the config: it says what was meant, not what is in memory": (
            bytes_by_config
        ),
        "that takes equal numbers for the same memory": bytes_by_value,
        "that takes the table off whenever the config says tied; `parameters()` lists a parameter with two names only once": (
            bytes_less_the_table
        ),
    },
)

# --- 04.flops


def work(
    c: ModelConfig,
    length: int,
    last_only: bool,
    *,
    pairs: Callable[[int], int] = lambda s: s * (s + 1) // 2,
    pair_heads: int | None = None,
    pair_width: int | None = None,
    pair_work: int = 4,
    kv_heads: int | None = None,
    query_dim: int | None = None,
    mlp_matrices: int = 3,
    head_positions: int | None = None,
) -> dict[str, int]:
    """FLOPs by part. The keywords are what the wrong versions get wrong."""
    head_positions = head_positions or (1 if last_only else length)
    query_dim = query_dim or c.num_heads * c.head_dim
    kv_dim = (kv_heads or c.num_kv_heads) * c.head_dim
    pair = pair_work * (pair_width or (pair_heads or c.num_heads) * c.head_dim)
    return {
        "attention matrices": (
            c.num_layers * (2 * length * (2 * query_dim + 2 * kv_dim) * c.hidden_dim)
        ),
        "pairs": c.num_layers * pair * pairs(length),
        "MLP": (
            c.num_layers * 2 * length * mlp_matrices * c.intermediate_dim * c.hidden_dim
        ),
        "output head": 2 * head_positions * c.vocab_size * c.hidden_dim,
    }


Count = Callable[[ModelConfig, int, bool], dict[str, int]]


def variant(**changed: object) -> Count:
    """`work` with one keyword set: a value, or a function of the config."""

    def count(c: ModelConfig, length: int, last_only: bool) -> dict[str, int]:
        values = {
            k: v(c) if callable(v) and k != "pairs" else v for k, v in changed.items()
        }
        return work(c, length, last_only, **values)

    return count


def flops(c: ModelConfig, length: int, last_only: bool) -> dict[str, int]:
    return work(c, length, last_only)


def scaled(factors: Callable[[ModelConfig], dict[str, float]]) -> Count:
    """`flops` with some parts multiplied."""

    def count(c: ModelConfig, length: int, last_only: bool) -> dict[str, int]:
        by = factors(c)
        right = flops(c, length, last_only)
        return {part: int(n * by.get(part, 1)) for part, n in right.items()}

    return count


def head_everywhere(c: ModelConfig, length: int, last_only: bool) -> dict[str, int]:
    return flops(c, length, False)


def one_position(c: ModelConfig, length: int, last_only: bool) -> dict[str, int]:
    """With last_only the whole network works on one position."""
    parts = flops(c, length, last_only)
    if not last_only:
        return parts
    return {
        name: n if name in ("pairs", "output head") else n // length
        for name, n in parts.items()
    }


PARTS = ("attention matrices", "pairs", "MLP", "output head")


def flops_cases() -> Iterator[Case]:
    one = small_config(num_layers=1, num_kv_heads=4, head_dim=2)
    yield case(one, 1, False, name="L = 1, H = Hkv = 4, d = 2, h = 12, m = 20, V = 24")
    deep = small_config(num_layers=3, tie_word_embeddings=True)
    yield case(
        deep,
        5,
        False,
        name="L = 3, H = 4, Hkv = 2, d = 8, h = 12, m = 20, V = 24, tied",
    )
    yield case(deep, 5, True, name="the same")
    yield case(
        ModelConfig(
            49152, 576, 1536, 30, 9, 3, 64, 8192, 1e5, tie_word_embeddings=True
        ),
        8192,
        True,
        name="SmolLM2",
    )


FLOPS = Exercise(
    "04.flops",
    reference=flops,
    cases=flops_cases,
    wrong={
        "that takes a multiplication with its addition for one operation": scaled(
            lambda c: dict.fromkeys(PARTS, 0.5)
        ),
        "with all S · S pairs, also those that the mask forbids": variant(
            pairs=lambda s: s * s
        ),
        "in which a position does not see itself": variant(
            pairs=lambda s: s * (s - 1) // 2
        ),
        "that counts the pairs once for each key head; sharing keys saves memory, not work": variant(
            pair_heads=lambda c: c.num_kv_heads
        ),
        "that counts the pairs for one head": variant(pair_heads=1),
        "whose pairs are as wide as the stream; the heads together have H · d channels": variant(
            pair_width=lambda c: c.hidden_dim
        ),
        "with the scores, but without the weighted sum of the values": variant(
            pair_work=2
        ),
        "with as many key and value heads as query heads": variant(
            kv_heads=lambda c: c.num_heads
        ),
        "that takes the matrices of q and o for square; they have H · d rows or columns": variant(
            query_dim=lambda c: c.hidden_dim
        ),
        "with two matrices in the MLP; there are gate, up and down": variant(
            mlp_matrices=2
        ),
        "of one layer": scaled(
            lambda c: {
                part: 1 / c.num_layers for part in PARTS if part != "output head"
            }
        ),
        "in which a tied head does no work: tying saves memory, not work": scaled(
            lambda c: {"output head": 0} if c.tie_word_embeddings else {}
        ),
        "whose head works on all positions even with last_only": head_everywhere,
        "in which last_only spares the layers too; they need all positions": (
            one_position
        ),
    },
)

EXERCISES = (BYTES, FLOPS, TIED, PRUNE, LOAD, HUNT)
