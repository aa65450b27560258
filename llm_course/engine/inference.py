# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""Prefill and decode, the two phases of generation."""

from __future__ import annotations

import torch
from torch import Tensor

from llm_course.arguments import at_least, checked
from llm_course.engine.generation import guarded, in_pieces
from llm_course.engine.kv_cache import KVCache
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.types import Cache, Logits, TokenIds

__all__ = ["make_cache", "prefill", "decode"]


@checked
def make_cache(
    model: DecoderOnlyModel,
    batch_size: int = 1,
    capacity: int = 256,
    max_length: int | None = None,
) -> KVCache:
    """An empty cache for this model: its sizes, its device, its dtype."""
    weight = model.embed_tokens.weight
    return KVCache(
        model.config,
        batch_size,
        capacity,
        max_length=max_length,
        device=weight.device,
        dtype=weight.dtype,
    )


@checked
@torch.inference_mode()
def prefill(
    model: DecoderOnlyModel,
    input_ids: TokenIds,
    cache: Cache,
    mask: Tensor | None = None,
    *,
    chunk_size: int | None = None,
) -> Logits:
    """Run a prompt through the model and into the cache: input_ids [B, S] -> logits [B,
    V].

    The logits are those after the last position; no others are computed. `mask` [B,
    past + S], 1 = real token, covers what the cache holds and the new ids; None = all
    real. With `chunk_size` the prompt goes through in pieces of that many tokens (None:
    512): the result is the same, and a pass has at most chunk_size x (past + S) scores
    per head. Raises ValueError for a chunk_size below 1, an empty prompt,
    and a cache of another model or shape.

    Source: Agrawal et al. 2023, "SARATHI", section 4.1 (chunked prefill).
    """
    at_least(1, chunk_size=chunk_size)
    with guarded(cache, model, input_ids, mask, cache.length):
        return in_pieces(model, input_ids, mask, cache, chunk_size)


@checked
@torch.inference_mode()
def decode(
    model: DecoderOnlyModel, token: TokenIds, cache: Cache, mask: Tensor | None = None
) -> Logits:
    """One more token per row: token [B, 1] -> the logits [B, V] that follow it.

    `mask` [B, past + 1], 1 = real token; None = all real. Raises ValueError for more
    than one token.
    """
    if token.ndim != 2 or token.shape[1] != 1:
        raise ValueError(
            f"token has shape {list(token.shape)}: must be [B, 1]; several tokens are a"
            " prefill"
        )
    with guarded(cache, model, token, mask, cache.length):
        return model(token, mask, kv_cache=cache, last_only=True)[:, -1]
