# Exported from notebooks/05_generate.ipynb; edit there, then run its last cell.
"""The loop: from a prompt's token ids to those of its continuation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from llm_course.engine.sampling import apply_repetition_penalty, choose_token
from llm_course.models.transformer import DecoderOnlyModel, resolve_device
from llm_course.types import Cache, Logits, TokenIds

__all__ = [
    "real_tokens",
    "eos_tensor",
    "seeded_generator",
    "next_token_logits",
    "generate_stream",
    "generate",
    "check_engine",
]


def real_tokens(
    input_ids: TokenIds, attention_mask: Tensor | None, device: torch.device
) -> Tensor:
    """The mask [B, S] of a prompt, boolean, True = real token; None = all real.

    Raises ValueError for padding at the end of a row. Everything else is checked by the
    model.
    """
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if not attention_mask[..., -1:].all():
        raise ValueError(
            "a row ends in padding: pad on the left, so that each prompt ends at"
            " its end"
        )
    return attention_mask.to(device).bool()


def eos_tensor(eos_token_id: int | Sequence[int] | None, vocab_size: int) -> Tensor:
    """None, one id or several -> [E] int64. Raises ValueError for an id outside the
    vocabulary."""
    if eos_token_id is None:
        eos_token_id = ()
    eos = torch.tensor(
        [eos_token_id] if isinstance(eos_token_id, int) else [*eos_token_id]
    ).long()
    if len(eos) and not 0 <= int(eos.min()) <= int(eos.max()) < vocab_size:
        raise ValueError(
            f"eos_token_id = {eos_token_id}: ids go from 0 to {vocab_size - 1}"
        )
    return eos


def seeded_generator(seed: int | None, device: torch.device) -> torch.Generator:
    """A random generator of our own, so that torch's global one is neither read nor
    moved.

    None seeds it from the operating system's randomness.
    """
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(seed)


@torch.inference_mode()
def next_token_logits(
    model: DecoderOnlyModel, ids: TokenIds, mask: Tensor, kv_cache: Cache | None = None
) -> Logits:
    """Logits [B, V] after the last of ids [B, S]. A cache is fed only the ids it has
    not seen."""
    past = kv_cache.length if kv_cache is not None else 0
    logits = model(
        ids[..., past:], attention_mask=mask, kv_cache=kv_cache, last_only=True
    )
    return logits[:, -1]


def generate_stream(
    model: DecoderOnlyModel,
    input_ids: TokenIds,
    gen_config: GenerationConfig | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    *,
    attention_mask: Tensor | None = None,
    pad_token_id: int | None = None,
    generator: torch.Generator | None = None,
    kv_cache: Cache | None = None,
    logger: logging.Logger | None = None,
) -> Iterator[TokenIds]:
    """Yield the new tokens of each row, one step at a time: [B, 1]. Arguments as in
    `generate`.

    Nothing runs, and nothing is checked, before the first token is asked for; leaving
    the loop stops the generation.
    """
    config = gen_config or GenerationConfig()
    device = model.embed_tokens.weight.device
    # [B, S]
    ids, mask = (input_ids.to(device), real_tokens(input_ids, attention_mask, device))
    eos = eos_tensor(eos_token_id, model.config.vocab_size).to(device)  # [E]
    if pad_token_id is None:
        pad_token_id = int(eos[0]) if len(eos) else 0
    if generator is None:
        generator = seeded_generator(config.seed, device)
    if kv_cache is None and config.use_cache:
        from llm_course.engine.inference import make_cache  # notebook 06

        kv_cache = make_cache(model, len(ids), ids.shape[-1] + config.max_new_tokens)
    next_logits: Callable[..., Logits] = next_token_logits
    if config.guess_ahead:
        from llm_course.engine.guessing import Guesser  # notebook 07

        next_logits = Guesser(config)
    finished = torch.zeros(len(ids), 1, dtype=torch.bool, device=device)  # [B, 1]
    reason = "max_new_tokens"
    for step in range(1, config.max_new_tokens + 1):
        logits = next_logits(model, ids, mask, kv_cache)  # [B, V]
        logits = apply_repetition_penalty(logits, ids, config.repetition_penalty, mask)
        token = choose_token(logits, config, generator=generator)  # [B, 1]
        # after its EOS a row holds only pads
        token = token.masked_fill(finished, pad_token_id)
        ids = torch.cat([ids, token], dim=-1)  # [B, S + step]
        mask = torch.cat([mask, ~finished], dim=-1)  # [B, S + step]
        finished = finished | torch.isin(token, eos)
        if logger is not None:
            logger.debug("step %d: tokens %s", step, token.flatten().tolist())
        yield token
        if finished.all():
            reason = "every row reached EOS"
            break
    if logger is not None:
        logger.debug("stopped after %d tokens: %s", step, reason)


def generate(
    model: DecoderOnlyModel,
    input_ids: TokenIds,
    model_config: ModelConfig,
    engine_config: EngineConfig,
    gen_config: GenerationConfig | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    logger: logging.Logger | None = None,
    *,
    attention_mask: Tensor | None = None,
    pad_token_id: int | None = None,
    generator: torch.Generator | None = None,
    kv_cache: Cache | None = None,
) -> TokenIds:
    """Continue each prompt: input_ids [B, S] -> [B, S + n], prompt included, n <=
    max_new_tokens.

    A row ends at its first *generated* EOS (`eos_token_id`: None, one id or several)
    and is filled with `pad_token_id` (by default the first EOS) until all rows have
    ended. Prompts of different lengths are padded on the left, with `attention_mask`
    [B, S], 1 = real token. Draws come from `generator`, else from a new one seeded with
    `gen_config.seed`; torch's global one is untouched. `logger` gets each step and the
    stop reason at DEBUG. A `kv_cache` is made if `gen_config.use_cache` asks for it and
    none is given; without one each step recomputes the whole sequence.

    Raises ValueError for an empty prompt, ids outside the vocabulary, padding on the
    right, an engine_config that names another device than the model's, or a
    model_config not the model's.
    """
    check_engine(model, model_config, engine_config)
    steps = generate_stream(
        model,
        input_ids,
        gen_config,
        eos_token_id,
        attention_mask=attention_mask,
        pad_token_id=pad_token_id,
        generator=generator,
        kv_cache=kv_cache,
        logger=logger,
    )
    # [B, S + n]
    return torch.cat([input_ids.to(model.embed_tokens.weight.device), *steps], dim=-1)


def check_engine(
    model: DecoderOnlyModel, model_config: ModelConfig, engine_config: EngineConfig
) -> None:
    """Raise ValueError when a config describes another model, or another device, than
    `model`."""
    if model_config != model.config:
        raise ValueError(
            f"model_config is not this model's: {model_config} against {model.config}"
        )
    if engine_config.device == "auto":
        return
    device, wanted = (
        model.embed_tokens.weight.device,
        resolve_device(engine_config.device),
    )
    if wanted.type != device.type or wanted.index not in (None, device.index):
        raise ValueError(
            f"engine_config.device is {engine_config.device!r} but the model is on"
            f' {device}: move the model there, or use "auto"'
        )
