# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Guessing ahead: tokens copied from the text so far, several judged by one pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from llm_course.arguments import checked
from llm_course.config import GenerationConfig
from llm_course.engine.generation import next_token_logits
from llm_course.engine.kv_cache import KVCache
from llm_course.engine.sampling import apply_repetition_penalty
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.types import Cache, Logits, TokenIds

__all__ = ["SAME", "INCOME", "CLOSE", "Seen", "Lookup", "verify", "close", "Guesser"]


SAME = 4  # so many tokens must have stood together before
START, MOST = 3.0, 4.0  # of the account, in passes over one row
INCOME = 0.05  # what each token pays in
CLOSE = 64  # rounding steps between two logits up to which rounding may decide
Seen = Tensor | None  # a mask [B, S] of real tokens; None: all are


class Lookup:
    """Guesses what follows a text: what followed when its last tokens stood together
    before."""

    def __init__(self) -> None:
        self.followed: dict[tuple[int, ...], int] = {}  # SAME tokens: the place after
        self.read = SAME  # places before this one are known

    def guess(self, text: list[int], k: int) -> list[int]:
        """k ids, or none. Each text must begin with the one given before."""
        for i in range(self.read, len(text)):
            self.followed[tuple(text[i - SAME : i])] = i
        self.read = max(self.read, len(text))
        place = self.followed.get(tuple(text[-SAME:]))
        if place is None:
            return []
        copied = list(text)
        for i in range(place, place + k):  # may run into what it has just copied
            copied.append(copied[i])
        return copied[len(text) :]


def verify(
    model: DecoderOnlyModel,
    ids: TokenIds,
    guesses: list[int],
    mask: Seen,
    cache: KVCache,
) -> Logits:
    """Logits [1, 1 + k, V] after the newest of ids [1, S] and after each guess, by one
    pass. The cache counts none of these tokens."""
    fed = torch.cat([ids[:, -1:], ids.new_tensor([guesses])], dim=-1)  # [1, 1 + k]
    past = cache.length
    seen = None if mask is None else pad(mask, (0, len(guesses)), value=True)
    logits = model(fed, attention_mask=seen, kv_cache=cache)
    cache.truncate(past)  # forgets them, but erases nothing
    return logits


def close(model: DecoderOnlyModel, logits: Logits) -> bool:
    """Whether the largest of logits [1, V] has another so near that rounding, which
    depends on how many rows a pass has, may decide between them."""
    rounding = getattr(model, "rounding", torch.finfo(logits.dtype).eps)
    low, high = logits.aminmax()
    return int((logits >= high - CLOSE * rounding * max(-low, high)).sum()) > 1


class Guesser:
    """Takes the place of `next_token_logits` in one generation, often without a pass.
    Several rows, and any cache but a `KVCache`, get no guesses.

    Source: Leviathan et al. 2022 (speculative decoding); Saxena 2023 (prompt lookup).
    """

    @checked
    def __init__(self, config: GenerationConfig) -> None:
        self.config, self.lookup = config, Lookup()
        self.account, self.left = START, config.max_new_tokens
        self.guesses: list[int] = []  # judged, and not drawn yet
        self.kept: Logits = torch.empty(0)  # [1, 1 + guesses, V]

    @torch.inference_mode()
    def __call__(
        self,
        model: DecoderOnlyModel,
        ids: TokenIds,
        mask: Seen,
        kv_cache: Cache | None = None,
    ) -> Logits:
        """Logits [B, V] after the last of ids [B, S]."""
        self.left -= 1
        self.account = min(self.account + INCOME, MOST)
        if isinstance(kv_cache, KVCache) and ids.shape == (1, kv_cache.length + 1):
            if self.guesses and self.guesses[0] == ids[0, -1]:
                self.guesses, self.kept = self.guesses[1:], self.kept[:, 1:]
                self.account += 1
            else:
                self.ask(model, ids, mask, kv_cache)
            if self.kept.numel():
                if not self.unsure(model, ids, mask):
                    kv_cache.advance(1)  # its keys and values are there already
                    return self.kept[:, 0]
                self.guesses, self.account = [], self.account - 1
        return next_token_logits(model, ids, mask, kv_cache)

    def ask(
        self, model: DecoderOnlyModel, ids: TokenIds, mask: Seen, cache: KVCache
    ) -> None:
        """Have guesses judged, unless there are none or the account is empty."""
        k = min(self.config.guess_ahead, self.left)
        if cache.max_length is not None:
            k = min(k, cache.max_length - ids.shape[1])
        may = k > 0 and self.account > 0
        self.guesses = self.lookup.guess(ids[0].tolist(), k) if may else []
        self.kept = torch.empty(0)
        if self.guesses:
            self.kept = verify(model, ids, self.guesses, mask, cache)
            self.account -= self.kept.shape[1] / 4

    def unsure(self, model: DecoderOnlyModel, ids: TokenIds, mask: Seen) -> bool:
        """Whether a pass over one row has to decide, since nothing is drawn."""
        if self.config.do_sample and self.config.temperature > 0:
            return False
        penalty = self.config.repetition_penalty
        logits = apply_repetition_penalty(self.kept[:, 0], ids, penalty, mask)
        return close(model, logits)
