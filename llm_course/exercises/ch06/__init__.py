"""Checks of the exercises of 06_kv_cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from llm_course.config import ModelConfig
from llm_course.engine import cache_bytes
from llm_course.exercises.ch06.hunt import HUNT
from llm_course.exercises.ch06.rows import ROWS
from llm_course.exercises.ch06.verify import VERIFY
from llm_course.exercises.ch06.window import WINDOW
from llm_course.exercises.records import Case, Exercise, case

Fit = Callable[[ModelConfig, int, int, int, int, torch.dtype], int]


def rows_by(needed: Callable[[ModelConfig, int, int, torch.dtype], int]) -> Fit:
    """How many rows of needed(config, prompt, new, dtype) bytes fit beside the
    weights."""

    def rows_that_fit(
        config: ModelConfig,
        memory: int,
        weight_bytes: int,
        prompt: int,
        new: int,
        dtype: torch.dtype,
    ) -> int:
        return max(0, (memory - weight_bytes) // needed(config, prompt, new, dtype))

    return rows_that_fit


def one_row(config: ModelConfig, prompt: int, new: int, dtype: torch.dtype) -> int:
    return cache_bytes(config, prompt + new - 1, dtype=dtype)


def last_token_too(
    config: ModelConfig, prompt: int, new: int, dtype: torch.dtype
) -> int:
    return cache_bytes(config, prompt + new, dtype=dtype)


def two_too_few(config: ModelConfig, prompt: int, new: int, dtype: torch.dtype) -> int:
    return cache_bytes(config, prompt + new - 2, dtype=dtype)


def prompt_alone(config: ModelConfig, prompt: int, new: int, dtype: torch.dtype) -> int:
    return cache_bytes(config, prompt, dtype=dtype)


def float32_always(
    config: ModelConfig, prompt: int, new: int, dtype: torch.dtype
) -> int:
    return cache_bytes(config, prompt + new - 1)


def query_heads(config: ModelConfig, prompt: int, new: int, dtype: torch.dtype) -> int:
    return one_row(config, prompt, new, dtype) * config.num_heads // config.num_kv_heads


def keys_alone(config: ModelConfig, prompt: int, new: int, dtype: torch.dtype) -> int:
    return one_row(config, prompt, new, dtype) // 2


def one_layer(config: ModelConfig, prompt: int, new: int, dtype: torch.dtype) -> int:
    return one_row(config, prompt, new, dtype) // config.num_layers


rows_that_fit = rows_by(one_row)


def beside_nothing(
    config: ModelConfig,
    memory: int,
    weight_bytes: int,
    prompt: int,
    new: int,
    dtype: torch.dtype,
) -> int:
    return rows_that_fit(config, memory, 0, prompt, new, dtype)


def rounded_up(
    config: ModelConfig,
    memory: int,
    weight_bytes: int,
    prompt: int,
    new: int,
    dtype: torch.dtype,
) -> int:
    return max(0, -(-(memory - weight_bytes) // one_row(config, prompt, new, dtype)))


def below_zero(
    config: ModelConfig,
    memory: int,
    weight_bytes: int,
    prompt: int,
    new: int,
    dtype: torch.dtype,
) -> int:
    return (memory - weight_bytes) // one_row(config, prompt, new, dtype)


def weights_for_each(
    config: ModelConfig,
    memory: int,
    weight_bytes: int,
    prompt: int,
    new: int,
    dtype: torch.dtype,
) -> int:
    return memory // (weight_bytes + one_row(config, prompt, new, dtype))


SMALL = ModelConfig(100, 16, 32, num_layers=3, num_heads=4, num_kv_heads=2)
SMOLLM2 = ModelConfig(49152, 576, 1536, 30, num_heads=9, num_kv_heads=3)
LLAMA3_8B = ModelConfig(128256, 4096, 14336, 32, num_heads=32, num_kv_heads=8)
GB, HALF = 10**9, torch.bfloat16


def fit_cases() -> Iterator[Case]:
    """A token of SMALL takes 192 bytes, a row 1,920 in the first two cases."""
    small = (SMALL, 1000 + 3 * 1920, 1000, 8, 3, torch.float32)
    yield case(*small, name="room for exactly three rows")
    yield case(SMALL, 999 + 3 * 1920, 1000, 8, 3, torch.float32, name="one byte less")
    yield case(
        SMALL, 900, 1000, 8, 3, torch.float32, name="the weights alone are too large"
    )
    yield case(
        SMOLLM2, 2 * GB, 538_060_032, 500, 100, torch.float32, name="SmolLM2, 2 GB"
    )
    yield case(
        LLAMA3_8B, 24 * GB, 16_060_522_496, 3000, 1000, HALF, name="Llama 3 8B, 24 GB"
    )


FIT = Exercise(
    "06.fit",
    reference=rows_that_fit,
    cases=fit_cases,
    wrong={
        "with a place for the last new token, which is never fed": rows_by(
            last_token_too
        ),
        "with a place too few: of the new tokens only the last one is not fed": rows_by(
            two_too_few
        ),
        "with room for the prompt alone": rows_by(prompt_alone),
        "that counts 4 bytes a number, whatever the dtype": rows_by(float32_always),
        "that counts the query heads; the cache holds the K/V heads": rows_by(
            query_heads
        ),
        "that counts keys or values, not both": rows_by(keys_alone),
        "that counts one layer": rows_by(one_layer),
        "that forgets the weights": beside_nothing,
        "that rounds up: the last row does not fit as a whole": rounded_up,
        "that gives fewer than 0 rows when the weights alone are too large": below_zero,
        "that counts the weights once for each row; all rows read the same": (
            weights_for_each
        ),
    },
)

EXERCISES = (FIT, ROWS, WINDOW, VERIFY, HUNT)
