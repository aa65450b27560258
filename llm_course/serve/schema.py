"""What clients send, as OpenAI's documentation has it, and vLLM's further fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_course.config import GenerationConfig
from llm_course.errors import readable

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Unit = Annotated[float, Field(ge=0, le=1)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
# Of a long list the first fault is enough: to collect them all takes seconds, in which
# the event loop stands still.
SOME: Any = Field(min_length=1, fail_fast=True)
# What would change the answer and is not done here, with the values that ask for
# nothing. Any other unknown field is ignored, as OpenAI's server does.
NOT_DONE: dict[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "modalities": (["text"],),
    "audio": (),
    "min_tokens": (0,),
    "prompt_logprobs": (),
}


class Strict(BaseModel):
    """No number from a string, no NaN; unknown fields are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    include_usage: bool | None = False


class Sampling(Strict):
    """What both kinds of completions have in common."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    max_tokens: Count | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    seed: Int64 | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    # vLLM's
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Unit | None = 0.0
    # from 0.1: divided by much less, a logit is no longer finite
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] | None = 1.0
    ignore_eos: bool | None = False

    @model_validator(mode="before")
    @classmethod
    def _asks_for_what_is_done(cls, data: Any) -> Any:
        for name, nothing in NOT_DONE.items():
            value = data.get(name) if isinstance(data, dict) else None
            if value is not None and value not in nothing:
                shown = readable(repr(value), 60)
                raise ValueError(f"{name} = {shown}: not done here; leave it out")
        return data

    @model_validator(mode="after")
    def _streams_if_it_says_how(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream = true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def settings(self, max_new_tokens: int) -> GenerationConfig:
        """The same as the engine has it; null is the default."""

        def given(value: float | None, default: float) -> float:
            return default if value is None else value

        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            temperature=given(self.temperature, 1.0),
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            top_p=given(self.top_p, 1.0),
            min_p=given(self.min_p, 0.0),
            repetition_penalty=given(self.repetition_penalty, 1.0),
            seed=self.seed,
        )


class TextPart(Strict):
    type: Literal["text"]
    text: str


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], SOME]

    def plain(self) -> dict[str, str]:
        """As a chat template reads it."""
        text = self.content
        if not isinstance(text, str):
            text = "\n".join(part.text for part in text)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text}


Messages = Annotated[list[Message], SOME]
Ids = Annotated[list[TokenId], SOME]
Texts = Annotated[list[str], SOME]
ListsOfIds = Annotated[list[Ids], SOME]


class ChatCompletion(Sampling):
    """The body of /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Count | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _has_logprobs_if_it_says_how_many(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: only with logprobs = true")
        return self

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wanted_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class Completion(Sampling):
    """The body of /v1/completions: a text, a list of ids, or a list of either."""

    prompt: str | Ids | Texts | ListsOfIds
    max_tokens: Count | None = 16
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        given: Any = self.prompt
        return [given] if isinstance(given, str) or type(given[0]) is int else [*given]

    @property
    def wanted_tokens(self) -> int:
        return self.max_tokens or 16

    @property
    def wanted_logprobs(self) -> int | None:
        return self.logprobs


class Tokenize(Strict):
    """The body of /tokenize: a text, or a chat."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = False

    @model_validator(mode="after")
    def _has_one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages, and not both")
        return self


class Fault(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Refused(BaseModel):
    """OpenAI's form of an error."""

    error: Fault
