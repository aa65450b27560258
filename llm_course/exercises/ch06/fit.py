"""The check of 06.fit: how many rows fit into memory beside the weights."""

import torch

from llm_course.config import ModelConfig
from llm_course.engine import cache_bytes
from llm_course.exercises import Case, Cases, Exercise


def rows_that_fit(
    config: ModelConfig,
    memory: int,
    weight_bytes: int,
    prompt: int,
    new: int,
    dtype: torch.dtype,
) -> int:
    row = cache_bytes(config, prompt + new - 1, dtype=dtype)
    return max(0, (memory - weight_bytes) // row)


def cases() -> Cases:
    """A token of `small` takes 192 bytes, a row 1,920 in the first two cases."""
    small = ModelConfig(100, 16, 32, num_layers=3, num_heads=4, num_kv_heads=2)
    smollm2 = ModelConfig(49152, 576, 1536, 30, num_heads=9, num_kv_heads=3)
    llama3_8b = ModelConfig(128256, 4096, 14336, 32, num_heads=32, num_kv_heads=8)
    gb, single, half = 10**9, torch.float32, torch.bfloat16
    room = 1000 + 3 * 1920
    yield Case(small, room, 1000, 8, 3, single, name="room for exactly three rows")
    yield Case(small, room - 1, 1000, 8, 3, single, name="one byte less")
    yield Case(small, 900, 1000, 8, 3, single, name="the weights alone are too large")
    yield Case(smollm2, 2 * gb, 538_060_032, 500, 100, single, name="SmolLM2, 2 GB")
    llama3 = (llama3_8b, 24 * gb, 16_060_522_496, 3000, 1000, half)
    yield Case(*llama3, name="Llama 3 8B, 24 GB")


WRONG = """
with a place for the last new token, which is never fed
    new - 1 -> new
with a place too few: of the new tokens only the last one is not fed
    new - 1 -> new - 2
with room for the prompt alone
    prompt + new - 1 -> prompt
that counts 4 bytes a number, whatever the dtype
    , dtype=dtype ->
that counts the query heads; the cache holds the K/V heads
    dtype=dtype) -> dtype=dtype) * config.num_heads // config.num_kv_heads
that counts keys or values, not both
    dtype=dtype) -> dtype=dtype) // 2
that counts one layer
    dtype=dtype) -> dtype=dtype) // config.num_layers
that forgets the weights
    (memory - weight_bytes) -> memory
that rounds up: the last row does not fit as a whole
    (memory - weight_bytes) // row -> -((weight_bytes - memory) // row)
that gives fewer than 0 rows when the weights alone are too large
    max(0, (memory - weight_bytes) // row) -> (memory - weight_bytes) // row
that counts the weights once for each row; all rows read the same
    (memory - weight_bytes) // row -> memory // (weight_bytes + row)
"""

CHECK = Exercise("06.fit", rows_that_fit, cases, WRONG)
