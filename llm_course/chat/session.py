"""A conversation in text: messages in, replies out piece by piece, and a count of the work done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn

from llm_course.checkpoints import Tokenizer
from llm_course.config import GenerationConfig
from llm_course.engine.conversation import Conversation
from llm_course.models import DecoderOnlyModel

# A small model strays when much is left to chance.
DEFAULTS = GenerationConfig(max_new_tokens=512, temperature=0.2, top_p=0.9)


@dataclass
class Stats:
    """What one reply took. Times are in seconds."""

    prompt: int  # tokens of the whole conversation, the new message included
    new: int = 0  # of these, how many the model read; the others were in the cache
    tokens: int = 0  # generated, with the one that ends the reply
    first: float = 0.0  # from the message to the first token
    rest: float = 0.0  # from the first token to the last
    ending: str = "stopped"  # or "end" (the model's own), "max_new_tokens", "context"

    @property
    def reused(self) -> int:
        return self.prompt - self.new

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first; None where no time passed."""
        return (self.tokens - 1) / self.rest if self.rest > 0 else None


class Chat:
    """A conversation with a model. Each reply reads only what the cache does not hold yet.

    `system` None leaves the system message to the chat template. `settings` and `system` may change
    between replies. `stats` describes the last reply, also while it is being written.
    """

    def __init__(
        self,
        model: DecoderOnlyModel,
        tokenizer: Tokenizer,
        settings: GenerationConfig = DEFAULTS,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Raises ValueError for a tokenizer without a chat template."""
        if tokenizer.chat_template is None:
            raise ValueError("This model has no chat template: choose one trained to chat.")
        self.model, self.tokenizer, self.settings, self.clock = model, tokenizer, settings, clock
        self.system: str | None = None
        self.messages: list[dict[str, str]] = []  # of the user and the assistant, in turn
        self.stats: Stats | None = None
        self._conversation = Conversation(model)
        self._stopping = False

    def reset(self) -> None:
        """Forget what was said; the system message and the settings stay."""
        self.messages = []  # what the next prompt has in common with the cache is still reused

    def set_system(self, text: str | None) -> None:
        """Change the system message. Raises ValueError, and keeps the old one, for one that the
        vocabulary cannot spell or the template refuses."""
        self.tokenizer.encode_chat(_with_system(text, [_message("user", ".")]))
        self.system = text

    def stop(self) -> None:
        """End the reply after the token that it is working on. For signal handlers and threads."""
        self._stopping = True

    def reply(self, text: str) -> Iterator[str]:
        """Yield the reply to `text`, piece by piece, each of whole characters.

        However it ends, what was said is remembered: the pieces, together with `text`. Where that is
        nothing, `text` is forgotten too. Raises ValueError, and changes nothing, for a text that the
        vocabulary cannot spell, and for a conversation that fills the model's context.
        """
        self._stopping = False
        start = self.clock()
        messages = [*self.messages, _message("user", text)]
        ids = self.tokenizer.encode_chat(_with_system(self.system, messages))
        new_ids = self._new_ids(ids, self._fitting_settings(len(ids)), start)
        said = ""
        try:
            for piece in self.tokenizer.decode_stream(new_ids, skip_special_tokens=True):
                # Only the last piece can end in half a character: the reply was cut there.
                if piece := piece.rstrip("\ufffd"):
                    said += piece
                    yield piece
        except (Exception, KeyboardInterrupt):
            self._conversation = Conversation(self.model)  # its cache was left in mid-work
            raise
        finally:
            if said:
                self.messages = [*messages, _message("assistant", said)]

    def _fitting_settings(self, length: int) -> GenerationConfig:
        """The settings, with no more new tokens than fit behind a prompt of `length` tokens."""
        limit = self.model.config.max_position_embeddings
        if length >= limit:
            raise ValueError(
                f"the context is full: with this message the conversation has {length} tokens, and "
                f"this model reads {limit}. /reset starts a new one; a shorter message may fit"
            )
        return replace(
            self.settings, max_new_tokens=min(self.settings.max_new_tokens, limit - length)
        )

    def _new_ids(self, ids: list[int], config: GenerationConfig, start: float) -> Iterator[int]:
        """Yield the ids of the reply, and keep `stats`."""
        stats = self.stats = Stats(prompt=len(ids))
        eos = self.tokenizer.eos_token_ids
        with _count_tokens_read(self.model) as read:
            for token in self._conversation.stream(ids, config, eos):
                now = self.clock()
                stats.tokens += 1
                if stats.tokens == 1:
                    stats.new, stats.first = sum(read), now - start
                stats.rest = now - start - stats.first
                yield token
                if token in eos:
                    stats.ending = "end"
                elif self._stopping:
                    return
        if stats.ending != "end":
            full = config.max_new_tokens < self.settings.max_new_tokens
            stats.ending = "context" if full else "max_new_tokens"


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _with_system(system: str | None, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    return messages if system is None else [_message("system", system), *messages]


@contextmanager
def _count_tokens_read(model: nn.Module) -> Iterator[list[int]]:
    """Give a list to which every forward pass adds the number of tokens that it is fed."""
    read: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[-1]))
    try:
        yield read
    finally:
        hook.remove()
