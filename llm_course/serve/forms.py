"""What the answers look like: OpenAI's objects for chats and for texts."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from llm_course.engine.request import Choice, Delta, TokenLogprob
from llm_course.serve.worker import Job
from llm_course.text import Tokenizer

Json = dict[str, Any]


class Form(ABC):
    """The objects of one answer, whole or in pieces."""

    prefix = kind = piece = ""

    def __init__(self, model: str, tokenizer: Tokenizer, with_usage: bool) -> None:
        self.model, self.tokenizer, self.with_usage = model, tokenizer, with_usage
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def whole(self, job: Job) -> Json:
        choices = [
            {
                "index": i,
                **self.content(choice, choice.text),
                "logprobs": self.logprobs(choice.logprobs, i),
                "finish_reason": choice.finish_reason,
            }
            for i, choice in enumerate(job.choices)
        ]
        return self._object(self.kind, choices) | {"usage": usage(job)}

    def opening(self, count: int) -> list[Json]:
        """The pieces that come before the first token."""
        return []

    def added(self, delta: Delta) -> Json | None:
        """The piece for what was added; None if a client would learn nothing."""
        if not (delta.text or delta.logprobs or delta.finish_reason):
            return None
        return self._piece(
            {
                "index": delta.index,
                **self.addition(delta.text),
                "logprobs": self.logprobs(delta.logprobs, delta.index),
                "finish_reason": delta.finish_reason,
            }
        )

    def closing(self, job: Job) -> list[Json]:
        """The pieces that come after the last token."""
        if not self.with_usage:
            return []
        return [self._object(self.piece, []) | {"usage": usage(job)}]

    @abstractmethod
    def content(self, choice: Choice, text: str) -> Json: ...

    @abstractmethod
    def addition(self, text: str) -> Json: ...

    @abstractmethod
    def logprobs(self, found: Sequence[TokenLogprob], index: int) -> Json | None: ...

    def _piece(self, choice: Json) -> Json:
        usage_later = {"usage": None} if self.with_usage else {}
        return self._object(self.piece, [choice]) | usage_later

    def _object(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _text(self, token_id: int) -> str:
        return self.tokenizer.decode([token_id])


class ChatForm(Form):
    prefix, kind, piece = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def content(self, choice: Choice, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text}}

    def addition(self, text: str) -> Json:
        return {"delta": {"content": text}}

    def opening(self, count: int) -> list[Json]:
        start = {"delta": {"role": "assistant", "content": ""}}
        rest = {"logprobs": None, "finish_reason": None}
        return [self._piece({"index": i, **start, **rest}) for i in range(count)]

    def logprobs(self, found: Sequence[TokenLogprob], index: int) -> Json | None:
        if not found:
            return None
        return {
            "content": [
                self._entry(one.token_id, one.logprob)
                | {"top_logprobs": [self._entry(*pair) for pair in one.top]}
                for one in found
            ]
        }

    def _entry(self, token_id: int, logprob: float) -> Json:
        return {
            "token": self._text(token_id),
            "logprob": logprob,
            "bytes": list(self.tokenizer.bytes_of(token_id)),
        }


class TextForm(Form):
    prefix, kind, piece = "cmpl", "text_completion", "text_completion"

    def __init__(self, model: str, tokenizer: Tokenizer, with_usage: bool) -> None:
        super().__init__(model, tokenizer, with_usage)
        self.written: dict[int, int] = {}  # characters of each answer's tokens

    def content(self, choice: Choice, text: str) -> Json:
        return self.addition(text)

    def addition(self, text: str) -> Json:
        return {"text": text}

    def logprobs(self, found: Sequence[TokenLogprob], index: int) -> Json | None:
        if not found:
            return None
        tokens, offsets = [self._text(one.token_id) for one in found], []
        for token in tokens:
            offsets.append(self.written.get(index, 0))
            self.written[index] = offsets[-1] + len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [one.logprob for one in found],
            "top_logprobs": [
                {self._text(i): logprob for i, logprob in one.top} for one in found
            ],
            "text_offset": offsets,
        }


def usage(job: Job) -> Json:
    """Tokens of a job whose answers have all ended."""
    parts = [handle.usage for handle in job.handles]
    prompt = sum(part.prompt_tokens for part in parts)
    new = sum(part.completion_tokens for part in parts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": sum(p.cached_tokens for p in parts)},
    }
