# Exported from notebooks/08_batching.ipynb; edit there, then run its last cell.
"""A request, what has come of it so far, and where its text ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from llm_course.config import GenerationConfig

__all__ = [
    "TextDecoder",
    "TextTokenizer",
    "Request",
    "TokenLogprob",
    "Choice",
    "Delta",
    "added",
    "logprob_of",
    "Usage",
    "Handle",
    "StopStrings",
]


class TextDecoder(Protocol):
    """What `Tokenizer.text_decoder` gives: the text of ids as they come."""

    def push(self, token_id: int) -> str: ...
    def finish(self) -> str: ...


@runtime_checkable
class TextTokenizer(Protocol):
    """What an engine needs of a tokenizer; ids from `vocab_size` on are never drawn."""

    vocab_size: int

    def text_decoder(self, skip_special_tokens: bool = False) -> TextDecoder: ...


@dataclass(frozen=True)
class Request:
    """A prompt and what is wanted of it.

    An id of `eos_ids` ends a text and is no part of it, and so does a string of `stop`.
    `n` continuations share the prompt; `config.seed` + i seeds the i-th. `logprobs`:
    how many of the most probable tokens to report beside the chosen one (None: report
    nothing).
    """

    prompt: Sequence[int]
    config: GenerationConfig = field(default_factory=GenerationConfig)
    eos_ids: Sequence[int] = ()
    stop: Sequence[str] = ()
    n: int = 1
    logprobs: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability of a chosen token, and the most probable ones, under the
    model's own distribution: before penalty, temperature and filters."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (id, log-probability), the largest first


@dataclass
class Choice:
    """One continuation as far as it has come."""

    index: int
    token_ids: list[int] = field(default_factory=list)  # with the id that ended it
    text: str = ""  # without what a stop string may yet take away
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None  # "stop", "length", "abort", "error"

    @property
    def progress(self) -> tuple[int, int, bool]:
        return len(self.token_ids), len(self.text), self.finish_reason is not None


@dataclass
class Delta(Choice):
    """What was added to a choice: these ids, this text; finish_reason if it ended."""

    request_id: int = -1


def added(choice: Choice, tokens: int, characters: int, request_id: int) -> Delta:
    """What a choice has that is newer than that many tokens and characters."""
    return Delta(
        choice.index, choice.token_ids[tokens:], choice.text[characters:],
        choice.logprobs[tokens:], choice.finish_reason, request_id,
    )  # fmt: skip


def logprob_of(logits: Tensor, token: int, count: int) -> TokenLogprob:
    """The log-probability of a token, and of the `count` most probable ones: logits
    [V]."""
    logprobs = logits.float().log_softmax(-1)
    top = logprobs.topk(count)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return TokenLogprob(token, float(logprobs[token]), tuple(pairs))


@dataclass(frozen=True)
class Usage:
    """Tokens of a request; `cached_tokens` of its prompt were not computed."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(eq=False)
class Handle:
    """A request on its way. The times are those of the engine's clock."""

    id: int
    request: Request
    choices: list[Choice]
    arrived: float
    started: float | None = None  # its first tokens were computed in the step that
    first_token: float | None = None  # began then
    ended: float | None = None
    cached_tokens: int = 0

    @property
    def finished(self) -> bool:
        return all(choice.finish_reason for choice in self.choices)

    @property
    def usage(self) -> Usage:
        generated = sum(len(choice.token_ids) for choice in self.choices)
        return Usage(len(self.request.prompt), generated, self.cached_tokens)


class StopStrings:
    """Text that ends before the first of some strings. What may be the beginning of
    one is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop, self.held, self.found = tuple(stop), "", False

    def push(self, piece: str) -> str:
        """The text that is certain by now."""
        text = self.held + piece
        places = [at for s in self.stop if (at := text.find(s)) >= 0]
        if places:
            self.found, self.held = True, ""
            return text[: min(places)]
        tail = max(
            (k for s in self.stop for k in range(1, len(s)) if text.endswith(s[:k])),
            default=0,
        )
        self.held = text[len(text) - tail :]
        return text[: len(text) - tail]
