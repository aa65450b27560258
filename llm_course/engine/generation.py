# Exported from notebooks/05_generate.ipynb; edit there, then run its last cell.
"""The loop: from a prompt's token ids to those of its continuation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import index

import torch
from torch import Tensor

from llm_course.arguments import checked
from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from llm_course.engine.sampling import apply_repetition_penalty, choose_token
from llm_course.models.transformer import DecoderOnlyModel, resolve_device
from llm_course.types import Cache, Logits, TokenIds

__all__ = [
    "real_tokens",
    "token_ids",
    "PIECE",
    "in_pieces",
    "next_token_logits",
    "seeded_generator",
    "guarded",
    "one_thread",
    "choose",
    "generate_stream",
    "generate",
    "check_lengths",
    "check_engine",
]


def real_tokens(
    input_ids: TokenIds, attention_mask: Tensor | None, device: torch.device
) -> Tensor:
    """The mask [B, S] of a prompt, boolean, True = real token; None = all real.

    Raises ValueError for a mask of another shape, and for padding at the end of a row.
    """
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {list(attention_mask.shape)}: must be"
            f" {list(input_ids.shape)}, one entry for each token of the prompt"
        )
    if not attention_mask[..., -1:].all():
        raise ValueError(
            f"attention_mask {list(attention_mask.shape)}: a row ends in padding: pad"
            " on the left, so that each prompt ends in the last column"
        )
    return attention_mask.to(device).bool()


def token_ids(name: str, given: int | Sequence[int] | None, vocab_size: int) -> Tensor:
    """None, one id or several -> [E] int64. Raises ValueError, which names the
    argument, for anything that is not an id of the vocabulary."""
    given = () if given is None else given
    ids: list[int] = []
    for one in given if isinstance(given, Iterable) else [given]:
        try:
            ids.append(-1 if isinstance(one, bool) else index(one))
        except TypeError:  # 1.5, say
            ids.append(-1)
        if not 0 <= ids[-1] < vocab_size:
            raise ValueError(
                f"{name} = {one!r}: ids are whole numbers from 0 to {vocab_size - 1}"
            )
    return torch.tensor(ids, dtype=torch.long)


PIECE = 512  # positions in a pass: its mask has at most PIECE rows


def in_pieces(
    model: DecoderOnlyModel,
    ids: TokenIds,
    mask: Tensor | None,
    kv_cache: Cache,
    size: int | None = None,
) -> Logits:
    """Feed a cache the ids [B, n] that come next -> logits [B, V] after the last.

    A pass takes `size` (None: PIECE) positions, so that the memory grows with n and not
    with its square. mask [B, past + n]; None = all real.
    """
    past, n, size = kv_cache.length, ids.shape[-1], size or PIECE
    for start in range(0, max(n, 1), size):
        end = min(start + size, n)
        seen = mask[..., : past + end] if mask is not None else None
        piece = ids[..., start:end]
        logits = model(piece, seen, kv_cache=kv_cache, last_only=True)  # [B, 1, V]
    return logits[:, -1]


@torch.inference_mode()
def next_token_logits(
    model: DecoderOnlyModel,
    ids: TokenIds,
    mask: Tensor | None,
    kv_cache: Cache | None = None,
) -> Logits:
    """Logits [B, V] after the last of ids [B, S]. A cache is fed only the ids it has
    not seen.

    Raises ValueError for a cache that holds anything but the beginning of ids.
    """
    if kv_cache is None:
        return model(ids, attention_mask=mask, last_only=True)[:, -1]
    past, whole = kv_cache.length, ids.shape[-1]
    if 0 < whole <= past:
        raise ValueError(
            f"the cache holds {past} tokens and the text has {whole}: at least one must"
            " be new. Truncate the cache, or make another one"
        )
    with guarded(kv_cache, model, ids, mask, 0):
        return in_pieces(model, ids[..., past:], mask, kv_cache)


def seeded_generator(seed: int | None, device: torch.device) -> torch.Generator:
    """A random generator of our own, so that torch's global one is neither read nor
    advanced.

    None seeds it from the operating system's randomness. Raises ValueError for a seed
    that a GenerationConfig refuses.
    """
    GenerationConfig(seed=seed)
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(seed)


def guarded(
    kv_cache: Cache,
    model: DecoderOnlyModel,
    ids: TokenIds,
    mask: Tensor | None,
    start: int,
) -> AbstractContextManager[None]:
    """A context for passes that put ids [B, n] into a cache from slot `start` on. The
    cache of notebook 06 refuses ids that do not continue its text; a cache without a
    method `guard` accepts everything."""
    guard = getattr(kv_cache, "guard", None)
    return nullcontext() if guard is None else guard(model, ids, mask, start)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch runs on the calling thread alone. For a few rows of logits, waking other
    threads costs more than it saves, and they would compete with the next pass."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def choose(
    logits: Logits,
    ids: TokenIds,
    mask: Tensor | None,
    config: GenerationConfig,
    generator: torch.Generator,
    vocab_size: int | None,
) -> TokenIds:
    """The repetition penalty for ids [B, S], and a choice: logits [B, V] -> [B, 1]. Ids
    from `vocab_size` on are never drawn."""
    with one_thread():
        penalty = config.repetition_penalty
        logits = apply_repetition_penalty(logits, ids, penalty, mask)
        return choose_token(logits[:, :vocab_size], config, generator=generator)


@checked
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
    vocab_size: int | None = None,
) -> Iterator[TokenIds]:
    """Yield the new tokens of each row, one step at a time: [B, 1]. Arguments as in
    `generate`.

    Nothing runs, and only types are checked, before the first token is asked for;
    leaving the loop stops the generation.
    """
    config = gen_config or GenerationConfig()
    device = model.embed_tokens.weight.device
    ids, real = input_ids.to(device), real_tokens(input_ids, attention_mask, device)
    mask = None if len(ids) == 1 and real.all() else real  # [B, S], None: no padding
    size, length = model.config.vocab_size, ids.shape[-1]
    eos = token_ids("eos_token_id", eos_token_id, size).to(device)  # [E]
    pads = token_ids("pad_token_id", pad_token_id, size).tolist()
    pad = [*pads, *eos.tolist(), 0][0]
    check_lengths(model.config, length, config.max_new_tokens, vocab_size)
    if generator is None:
        generator = seeded_generator(config.seed, device)
    if kv_cache is None and config.use_cache:
        from llm_course.engine.inference import make_cache  # notebook 06

        room = min(config.max_new_tokens, model.config.max_position_embeddings)
        kv_cache = make_cache(model, len(ids), length + room)
    next_logits: Callable[..., Logits] = next_token_logits
    if config.guess_ahead:
        from llm_course.engine.guessing import Guesser  # notebook 07

        next_logits = Guesser(config)
    finished = torch.zeros(len(ids), 1, dtype=torch.bool, device=device)  # [B, 1]
    reason = "max_new_tokens"
    for step in range(1, config.max_new_tokens + 1):
        logits = next_logits(model, ids, mask, kv_cache)  # [B, V]
        token = choose(logits, ids, mask, config, generator, vocab_size)  # [B, 1]
        token = token.masked_fill(finished, pad)  # after its EOS only pads
        ids = torch.cat([ids, token], dim=-1)  # [B, S + step]
        if mask is not None:
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


@checked
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
    vocab_size: int | None = None,
) -> TokenIds:
    """Continue each prompt: input_ids [B, S] -> [B, S + n], prompt included, n <=
    max_new_tokens.

    A row ends at its first *generated* EOS (`eos_token_id`: None, one id or several)
    and is filled with `pad_token_id` (by default the first EOS) until all rows have
    ended. Prompts of different lengths are padded on the left, with `attention_mask`
    [B, S], 1 = real token. Draws come from `generator`, else from a new one seeded with
    `gen_config.seed`; torch's global one is untouched. `logger` gets each step and the
    stop reason at DEBUG. A `kv_cache` is made if `gen_config.use_cache` asks for it and
    none is given; without one each step recomputes the whole sequence. Ids from
    `vocab_size` on are never chosen: give the tokenizer's size where the embedding has
    more rows than the tokenizer has tokens.

    Raises ValueError for an empty prompt, ids outside the vocabulary, padding on the
    right, an engine_config that names another device than the model's, a model_config
    not the model's, a cache of another text or model, or logits that are not finite.
    Warns of more tokens than the model was trained for.
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
        vocab_size=vocab_size,
    )
    # [B, S + n]
    return torch.cat([input_ids.to(model.embed_tokens.weight.device), *steps], dim=-1)


def check_lengths(
    config: ModelConfig,
    prompt: int,
    new_tokens: int,
    vocab_size: int | None,
    frames: int = 3,  # from here to the caller, whom the warning names
) -> None:
    """Warn of a text longer than what the model was trained for. Raises ValueError for
    a vocab_size below 1."""
    if vocab_size is not None and not (isinstance(vocab_size, int) and vocab_size > 0):
        raise ValueError(f"vocab_size = {vocab_size!r}: must be None or at least 1")
    if prompt + new_tokens > config.max_position_embeddings:
        warnings.warn(
            f"{prompt} tokens of the prompt and max_new_tokens = {new_tokens} are more"
            f" than the {config.max_position_embeddings} positions of the model"
            " (max_position_embeddings); text beyond them tends to fall apart",
            stacklevel=frames,
        )


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
