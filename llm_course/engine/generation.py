# Exported from notebooks/05_generate.ipynb; edit there, then run its last cell.
"""From logits to token ids: the filters, the choice of one token, and the loop."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from llm_course.models.transformer import DecoderOnlyModel, resolve_device
from llm_course.types import KVCache, Logits, TokenIds

__all__ = [
    "NEVER",
    "top_k_filtering",
    "top_p_filtering",
    "min_p_filtering",
    "apply_repetition_penalty",
    "filtered_logits",
    "sample_next_token",
    "real_tokens",
    "eos_tensor",
    "seeded_generator",
    "next_token_logits",
    "generate_stream",
    "generate",
    "check_engine",
]


NEVER = float("-inf")  # the logit of a token that must not be drawn


def top_k_filtering(logits: Logits, top_k: int | None) -> Logits:
    """Keep the `top_k` largest logits of each row, and ties with the last of them.

    logits [..., V] -> [..., V] with -inf elsewhere. None or 0 keeps all, as does a top_k of V or
    more. The input is never changed in place; it is returned itself when nothing is cut.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.4.
    """
    if not top_k or top_k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(top_k, dim=-1).values[..., -1:]  # [..., 1]
    return logits.masked_fill(logits < smallest_kept, NEVER)


def top_p_filtering(logits: Logits, top_p: float) -> Logits:
    """Keep the fewest tokens of each row whose probabilities add up to at least `top_p`.

    logits [..., V] -> [..., V] with -inf elsewhere. At least one token stays, whatever the p; p >= 1
    keeps all. The input is never changed in place; it is returned itself when p >= 1.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    if top_p >= 1.0:
        return logits
    # float64: thousands of small float32 probabilities do not add up to what they should.
    probs, order = torch.softmax(logits.double(), dim=-1).sort(dim=-1, descending=True)
    mass_before = probs.cumsum(dim=-1) - probs  # [..., V]: what the more probable tokens hold
    drop = mass_before >= top_p - 1e-7  # float32 logits cannot place a boundary more finely
    drop[..., 0] = False
    return logits.masked_fill(drop.scatter(-1, order, drop), NEVER)


def min_p_filtering(logits: Logits, min_p: float) -> Logits:
    """Keep the tokens at least `min_p` times as probable as the most probable one.

    logits [..., V] -> [..., V] with -inf elsewhere; 0 keeps all. The input is never changed in
    place; it is returned itself when min_p is 0.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    if min_p <= 0.0:
        return logits
    probs = torch.softmax(logits.float(), dim=-1)
    return logits.masked_fill(probs < min_p * probs.amax(dim=-1, keepdim=True), NEVER)


def apply_repetition_penalty(
    logits: Logits, input_ids: TokenIds, penalty: float, attention_mask: Tensor | None = None
) -> Logits:
    """Make every token already in the row less likely: positive logits are divided by `penalty`,
    negative ones multiplied.

    logits [B, V], input_ids [B, S] -> [B, V]. Positions where attention_mask [B, S] is 0 are padding
    and do not count. The input is never changed in place; it is returned itself when penalty is 1.

    Source: Keskar et al. 2019, "CTRL", section 4.1, divides only; that negative logits are
    multiplied is as in the `transformers` library.
    """
    if penalty == 1.0:
        return logits
    counts = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
    seen = torch.zeros(logits.shape, dtype=torch.long, device=logits.device)
    seen = seen.scatter_add(-1, input_ids, counts) > 0  # [B, V]
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered_logits(
    logits: Logits, temperature: float, top_k: int | None, top_p: float, *, min_p: float = 0.0
) -> Logits:
    """Temperature, top-k, top-p and min-p, in this order: logits [..., V] -> [..., V], float32.

    The temperature is above 0. Softmax of the result gives the probabilities to draw from.
    """
    # Shifting a row does not change its softmax. float64, so that a tiny temperature does not round
    # to 0 and give 0/0 at the maximum; what overflows becomes -inf, which is right.
    shifted = logits.double() - logits.amax(dim=-1, keepdim=True).double()
    logits = (shifted / temperature).float()
    return min_p_filtering(top_p_filtering(top_k_filtering(logits, top_k), top_p), min_p)


def sample_next_token(
    logits: Logits,
    temperature: float = 1.0,
    top_k: int | None = 50,
    top_p: float = 1.0,
    do_sample: bool = True,
    *,
    min_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> TokenIds:
    """Choose one token a row: temperature, then top-k, top-p, min-p, then a draw.

    logits [B, V] -> ids [B, 1]. `do_sample=False` or `temperature=0` takes the most probable token.
    Rows draw independently, from `generator` (None: torch's global one). Raises ValueError for a
    negative temperature.
    """
    if temperature < 0:
        raise ValueError(f"temperature = {temperature}: must be at least 0 (0 is greedy)")
    if not do_sample or temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)  # [B, 1]
    kept = filtered_logits(logits, temperature, top_k, top_p, min_p=min_p)  # [B, V]
    return torch.multinomial(torch.softmax(kept, dim=-1), 1, generator=generator)


def real_tokens(input_ids: TokenIds, attention_mask: Tensor | None, device: torch.device) -> Tensor:
    """The mask [B, S] of a prompt, boolean, True = real token; None = all real.

    Raises ValueError for padding at the end of a row. Everything else is checked by the model.
    """
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if not attention_mask[..., -1:].all():
        raise ValueError(
            "a row ends in padding: pad on the left, so that each prompt ends at its end"
        )
    return attention_mask.to(device).bool()


def eos_tensor(eos_token_id: int | Sequence[int] | None, vocab_size: int) -> Tensor:
    """None, one id or several -> [E] int64. Raises ValueError for an id outside the vocabulary."""
    if eos_token_id is None:
        eos_token_id = ()
    eos = torch.tensor([eos_token_id] if isinstance(eos_token_id, int) else [*eos_token_id]).long()
    if len(eos) and not 0 <= int(eos.min()) <= int(eos.max()) < vocab_size:
        raise ValueError(f"eos_token_id = {eos_token_id}: ids go from 0 to {vocab_size - 1}")
    return eos


def seeded_generator(seed: int | None, device: torch.device) -> torch.Generator:
    """A random generator of our own, so that torch's global one is neither read nor moved.

    None seeds it from the operating system's randomness.
    """
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(seed)


@torch.inference_mode()
def next_token_logits(
    model: DecoderOnlyModel, ids: TokenIds, mask: Tensor, kv_cache: KVCache | None = None
) -> Logits:
    """Logits [B, V] after the last of ids [B, S]. A cache is fed only the ids it has not seen."""
    past = kv_cache.length if kv_cache is not None else 0
    logits = model(ids[..., past:], attention_mask=mask, kv_cache=kv_cache, last_only=True)
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
    kv_cache: KVCache | None = None,
    logger: logging.Logger | None = None,
) -> Iterator[TokenIds]:
    """Yield the new tokens of each row, one step at a time: [B, 1]. Arguments as in `generate`.

    Nothing runs, and nothing is checked, before the first token is asked for; leaving the loop stops
    the generation.
    """
    config = gen_config or GenerationConfig()
    device = model.embed_tokens.weight.device
    ids, mask = input_ids.to(device), real_tokens(input_ids, attention_mask, device)  # [B, S]
    eos = eos_tensor(eos_token_id, model.config.vocab_size).to(device)  # [E]
    if pad_token_id is None:
        pad_token_id = int(eos[0]) if len(eos) else 0
    if generator is None:
        generator = seeded_generator(config.seed, device)
    if kv_cache is None and config.use_cache:
        from llm_course.engine.inference import make_cache  # notebook 06

        kv_cache = make_cache(model, len(ids), ids.shape[-1] + config.max_new_tokens)
    finished = torch.zeros(len(ids), 1, dtype=torch.bool, device=device)  # [B, 1]
    reason = "max_new_tokens"
    for step in range(1, config.max_new_tokens + 1):
        logits = next_token_logits(model, ids, mask, kv_cache)  # [B, V]
        logits = apply_repetition_penalty(logits, ids, config.repetition_penalty, mask)
        token = sample_next_token(
            logits,
            config.temperature,
            config.top_k,
            config.top_p,
            config.do_sample,
            min_p=config.min_p,
            generator=generator,
        )  # [B, 1]
        token = token.masked_fill(finished, pad_token_id)  # after its EOS a row holds only pads
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
    kv_cache: KVCache | None = None,
) -> TokenIds:
    """Continue each prompt: input_ids [B, S] -> [B, S + n], prompt included, n <= max_new_tokens.

    A row ends at its first *generated* EOS (`eos_token_id`: None, one id or several) and is filled
    with `pad_token_id` (by default the first EOS) until all rows have ended. Prompts of different
    lengths are padded on the left, with `attention_mask` [B, S], 1 = real token. Draws come from
    `generator`, else from a new one seeded with `gen_config.seed`; torch's global one is untouched.
    `logger` gets each step and the stop reason at DEBUG. A `kv_cache` is made if
    `gen_config.use_cache` asks for it and none is given; without one each step recomputes the whole
    sequence.

    Raises ValueError for an empty prompt, ids outside the vocabulary, padding on the right, an
    engine_config that names another device than the model's, or a model_config not the model's.
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
    return torch.cat([input_ids.to(model.embed_tokens.weight.device), *steps], dim=-1)  # [B, S + n]


def check_engine(
    model: DecoderOnlyModel, model_config: ModelConfig, engine_config: EngineConfig
) -> None:
    """Raise ValueError when a config describes another model, or another device, than `model`."""
    if model_config != model.config:
        raise ValueError(f"model_config is not this model's: {model_config} against {model.config}")
    if engine_config.device == "auto":
        return
    device, wanted = model.embed_tokens.weight.device, resolve_device(engine_config.device)
    if wanted.type != device.type or wanted.index not in (None, device.index):
        raise ValueError(
            f"engine_config.device is {engine_config.device!r} but the model is on {device}: "
            'move the model there, or use "auto"'
        )
