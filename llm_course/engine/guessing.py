# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Guessing ahead: tokens copied from the text so far, several judged by one pass."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from llm_course.config import GenerationConfig
from llm_course.engine.generation import next_token_logits
from llm_course.engine.kv_cache import KVCache
from llm_course.engine.sampling import apply_repetition_penalty
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.types import Cache, Logits, TokenIds

__all__ = ["SAME", "START", "MOST", "INCOME", "CLOSE", "Lookup", "Guesser"]


SAME = 4  # so many tokens must have stood together before
START, MOST = 3.0, 4.0  # the account, in passes over one row
INCOME = 0.05  # what each token pays in
CLOSE = 64  # logits nearer than so many roundings: rounding may decide


class Lookup:
    """Guesses what follows a text: what followed when its last tokens stood together
    before."""

    def __init__(self) -> None:
        self.followed: dict[tuple[int, ...], int] = {}  # SAME tokens: the place behind
        self.read = SAME  # the places before are known

    def guess(self, text: list[int], k: int) -> list[int]:
        """k ids, or none. The next text must begin with this one."""
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


class Guesser:
    """Takes the place of `next_token_logits` in one generation: the same logits, often
    without a pass.

    A pass is fed the newest token and the guesses. Its later logits are kept, and
    handed out while the tokens that are drawn equal the guesses. The cache counts a
    guess only when it has been drawn, so the loop may be left at any token. More than
    one row, and anything but a `KVCache`, are decoded token by token.

    An account keeps guesses worth their price, in passes over one row: four guessed
    rows cost one, a right guess earns one, and each token pays in INCOME. Guesses are
    made while it is not empty. Source: Leviathan et al. 2022, "Fast Inference from
    Transformers via Speculative Decoding"; the guesser is Saxena's prompt lookup
    (2023).
    """

    def __init__(self, config: GenerationConfig) -> None:
        self.config, self.lookup = config, Lookup()
        self.account, self.left = START, config.max_new_tokens
        self.guesses: list[int] = []  # not drawn yet
        self.kept: Logits = torch.empty(0)  # [1, 1 + guesses, V]

    @torch.inference_mode()
    def __call__(
        self,
        model: DecoderOnlyModel,
        ids: TokenIds,
        mask: Tensor,
        kv_cache: Cache | None = None,
    ) -> Logits:
        """Logits [B, V] after the last of ids [B, S]."""
        self.left -= 1
        self.account = min(self.account + INCOME, MOST)
        one_row = isinstance(kv_cache, KVCache) and len(ids) == 1
        if not one_row or ids.shape[1] - kv_cache.length != 1:
            return next_token_logits(model, ids, mask, kv_cache)
        if self.guesses and self.guesses[0] == ids[0, -1]:
            self.guesses, self.kept = self.guesses[1:], self.kept[:, 1:]
            self.account += 1
        elif not self.ask(model, ids, mask, kv_cache):
            return next_token_logits(model, ids, mask, kv_cache)
        logits = self.kept[:, 0]
        if self.close(logits, ids, mask):  # a row alone decides, as without guesses
            self.guesses, self.account = [], self.account - 1
            return next_token_logits(model, ids, mask, kv_cache)
        kv_cache.advance(1)  # the keys and values are there already
        return logits

    def ask(
        self, model: DecoderOnlyModel, ids: TokenIds, mask: Tensor, cache: KVCache
    ) -> bool:
        """Run a pass over the last token and guesses; False if there are none."""
        k = min(self.config.guess_ahead, self.left)
        if cache.max_length is not None:
            k = min(k, cache.max_length - ids.shape[1])
        worth = k > 0 and self.account > 0
        self.guesses = self.lookup.guess(ids[0].tolist(), k) if worth else []
        if not self.guesses:
            return False
        fed = torch.cat([ids[:, -1:], ids.new_tensor([self.guesses])], dim=-1)
        past, n = cache.length, fed.shape[1]
        seen = pad(mask, (0, n - 1), value=True)
        self.kept = model(fed, attention_mask=seen, kv_cache=cache)  # [1, 1 + k, V]
        cache.truncate(past)  # forgets, but erases nothing
        self.account -= n / 4
        return True

    def close(self, logits: Logits, ids: TokenIds, mask: Tensor) -> bool:
        """Whether a greedy choice may depend on how the products of a pass round."""
        if self.config.do_sample and self.config.temperature > 0:
            return False
        penalty = self.config.repetition_penalty
        logits = apply_repetition_penalty(logits, ids, penalty, mask)
        rounding = CLOSE * torch.finfo(logits.dtype).eps * logits.abs().max()
        return int((logits >= logits.max() - rounding).sum()) > 1
