"""Who takes part, all behind one interface: this engine in seven forms, `transformers`
in three, and llama.cpp (`llama.py`) in four."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from llm_course.bench.results import (
    FUSED,
    LLAMA,
    NATIVE,
    REFERENCE_LOOP,
    REFERENCE_UNCACHED,
    THEIRS,
    UNCACHED,
)
from llm_course.checkpoints import (
    PINNED_MODELS,
    converted_folder,
    ensure_gguf,
    load_pretrained,
)
from llm_course.config import EngineConfig, GenerationConfig
from llm_course.engine import FusedModel, generate_stream, prepare_for_inference
from llm_course.models import DecoderOnlyModel
from llm_course.types import TokenIds

Stream = Callable[[TokenIds, int], Iterator[TokenIds]]
Tell = Callable[[TokenIds], None]


@dataclass(frozen=True)
class Contestant:
    """`generate(prompt [B, S], n, tell)` calls `tell` with each of n greedy tokens [B,
    1], at once."""

    generate: Callable[[TokenIds, int, Tell], None]
    logits: Callable[[TokenIds], Tensor]  # [1, S] -> [S, V]
    read: int  # bytes of weights that a forward pass reads


def make(name: str, model: str, threads: int) -> Contestant:
    """Load what one contestant needs, and no more; `model` is a pinned name or a
    folder."""
    if name in LLAMA.values():
        from llm_course.bench.llama import llama_cpp_contestant

        return llama_cpp_contestant(name, ensure_gguf(model), threads)
    if name in THEIRS:
        return theirs(name, reference_model(folder_of(model)))
    return ours(name, load_pretrained(model, EngineConfig(device="cpu"))[0])


def folder_of(model: str) -> Path:
    return converted_folder(model) if model in PINNED_MODELS else Path(model)


def ours(name: str, model: DecoderOnlyModel) -> Contestant:
    """This engine: the model as built, with fused layers, or with compiled kernels."""
    kinds = {contestant: kind for kind, contestant in NATIVE.items()}
    if name == FUSED:
        model = FusedModel(model).eval()
    elif name in kinds:
        model = prepare_for_inference(model, weights=kinds[name])
    read = getattr(model, "read_a_token", None) or weight_bytes(model)
    stream = our_stream(model, use_cache=name != UNCACHED)
    return Contestant(streamed(stream), lambda ids: model(ids)[0], read)


def theirs(name: str, model: nn.Module) -> Contestant:
    if name == REFERENCE_LOOP:
        generate = streamed(their_loop(model))
    else:
        generate = their_generate(model, use_cache=name != REFERENCE_UNCACHED)
    return Contestant(generate, lambda ids: model(ids).logits[0], weight_bytes(model))


def streamed(stream: Stream) -> Callable[[TokenIds, int, Tell], None]:
    """`stream(prompt, n)`, which yields the tokens, as a contestant."""

    def generate(prompt: TokenIds, n: int, tell: Tell) -> None:
        for token in stream(prompt, n):
            tell(token)

    return generate


def our_stream(model: DecoderOnlyModel, use_cache: bool) -> Stream:
    """The engine's own loop, with everything that it does around the model."""

    def stream(prompt: TokenIds, n: int) -> Iterator[TokenIds]:
        config = GenerationConfig(
            max_new_tokens=n, do_sample=False, use_cache=use_cache
        )
        return generate_stream(model, prompt, config)

    return stream


def their_generate(
    model: nn.Module, use_cache: bool
) -> Callable[[TokenIds, int, Tell], None]:
    """What a user of `transformers` calls: `model.generate`, with a streamer that hears
    each token."""
    from transformers.generation.streamers import BaseStreamer

    class Teller(BaseStreamer):
        def __init__(self, tell: Tell) -> None:
            self.tell, self.seen_prompt = tell, False

        def put(self, value: Tensor) -> None:
            if self.seen_prompt:
                self.tell(value.reshape(-1, 1))  # [B] -> [B, 1]
            self.seen_prompt = True

        def end(self) -> None:
            pass

    def generate(prompt: TokenIds, n: int, tell: Tell) -> None:
        cast(Any, model).generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=n,
            do_sample=False,
            use_cache=use_cache,
            streamer=Teller(tell),
        )

    return generate


def their_loop(model: nn.Module) -> Stream:
    """The loop of `model.generate` without what that does around the model: the model
    at its best.

    With its DynamicCache, and logits for the last position only.
    """
    from transformers import DynamicCache

    # 5.24 renamed the parameter.
    renamed = "cache" in inspect.signature(model.forward).parameters
    cache_name = "cache" if renamed else "past_key_values"

    @torch.inference_mode()
    def stream(prompt: TokenIds, n: int) -> Iterator[TokenIds]:
        cache, token = DynamicCache(config=cast(Any, model.config)), prompt
        for _ in range(n):
            out = model(token, **{cache_name: cache}, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].argmax(dim=-1, keepdim=True)  # [B, 1]
            yield token

    return stream


def reference_model(folder: Path) -> nn.Module:
    """`transformers` on the weights of a Hugging Face folder, in float32, with
    PyTorch's attention.

    It never stops early. Raises ImportError where it is not installed.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig, logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    ).eval()
    model.generation_config = GenerationConfig(pad_token_id=0)  # no EOS
    return model


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the weights that a forward pass reads: all but an embedding table of its
    own."""
    weights = {p.data_ptr(): p.nbytes for p in model.parameters()}
    anything = cast(Any, model)
    table = getattr(model, "model", anything).embed_tokens.weight.data_ptr()
    if table != anything.lm_head.weight.data_ptr():
        del weights[table]
    return sum(weights.values())
