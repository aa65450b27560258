"""Who takes part: this engine in three forms, `transformers` in two, all behind one interface."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from llm_course.bench.results import CACHED, PREPARED, REFERENCE, REFERENCE_UNCACHED, UNCACHED
from llm_course.config import GenerationConfig
from llm_course.engine import generate_stream, prepare_for_inference
from llm_course.models import DecoderOnlyModel
from llm_course.types import TokenIds

Stream = Callable[[TokenIds, int], Iterator[TokenIds]]


@dataclass(frozen=True)
class Contestant:
    """`stream(prompt [B, S], n)` yields n greedy tokens [B, 1], each as soon as it is known."""

    name: str
    cached: bool
    stream: Stream


def our_stream(model: DecoderOnlyModel, use_cache: bool) -> Stream:
    """The engine's own loop, with everything that it does around the model."""

    def stream(prompt: TokenIds, n: int) -> Iterator[TokenIds]:
        config = GenerationConfig(max_new_tokens=n, do_sample=False, use_cache=use_cache)
        return generate_stream(model, prompt, config)

    return stream


def their_stream(model: nn.Module, use_cache: bool) -> Stream:
    """`transformers` at its best: the loop of its `generate` without what that does around the model.

    Its DynamicCache, and logits for the last position only.
    """
    from transformers import DynamicCache

    # 5.24 renamed the parameter.
    renamed = "cache" in inspect.signature(model.forward).parameters
    cache_name = "cache" if renamed else "past_key_values"

    @torch.inference_mode()
    def stream(prompt: TokenIds, n: int) -> Iterator[TokenIds]:
        cache = DynamicCache(config=model.config) if use_cache else None
        ids = prompt
        for _ in range(n):
            out = model(ids, **{cache_name: cache}, use_cache=use_cache, logits_to_keep=1)
            token = out.logits[:, -1].argmax(dim=-1, keepdim=True)  # [B, 1]
            yield token
            ids = token if use_cache else torch.cat([ids, token], dim=-1)

    return stream


def ours(model: DecoderOnlyModel) -> list[Contestant]:
    return [
        Contestant(UNCACHED, False, our_stream(model, use_cache=False)),
        Contestant(CACHED, True, our_stream(model, use_cache=True)),
        Contestant(PREPARED, True, our_stream(prepare_for_inference(model), use_cache=True)),
    ]


def reference_model(folder: Path) -> nn.Module:
    """`transformers` on the weights of a Hugging Face folder, in float32, with PyTorch's attention.

    Raises ImportError where it is not installed.
    """
    from transformers import AutoModelForCausalLM, logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    ).eval()


def theirs(model: nn.Module) -> list[Contestant]:
    return [
        Contestant(REFERENCE, True, their_stream(model, use_cache=True)),
        Contestant(REFERENCE_UNCACHED, False, their_stream(model, use_cache=False)),
    ]


def weight_bytes(model: DecoderOnlyModel) -> int:
    """Bytes of the weights that a forward pass reads: all but an embedding table of its own."""
    weights = {p.data_ptr(): p.nbytes for p in model.parameters()}
    if not model.config.tie_word_embeddings:
        del weights[model.embed_tokens.weight.data_ptr()]
    return sum(weights.values())
