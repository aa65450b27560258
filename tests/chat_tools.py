"""What the tests of the chat share: a screen, what is typed, and a reply to compare
with."""

from __future__ import annotations

from collections.abc import Callable

from llm_course.chat import Chat
from llm_course.config import GenerationConfig
from llm_course.engine import Conversation

GREEDY = GenerationConfig(max_new_tokens=24, do_sample=False)


class Screen:
    """What the chat has written; `at` is called with every piece."""

    def __init__(self) -> None:
        self.text, self.at = "", lambda text: None

    def __call__(self, text: str) -> None:
        self.text += text
        self.at(text)

    def take(self) -> str:
        text, self.text = self.text, ""
        return text


def make_chat(smollm2, screen: Screen) -> Chat:
    """A greedy chat whose clock ticks once a look."""
    ticks = iter(range(10**6))
    return Chat(*smollm2, GREEDY, write=screen, clock=lambda: float(next(ticks)))


def afresh(chat: Chat, messages: list[dict[str, str]]) -> str:
    """The reply without anything kept from before."""
    tokenizer, new = chat.tokenizer, Conversation(chat.model)
    ids = new.stream(tokenizer.encode_chat(messages), GREEDY, tokenizer.eos_token_ids)
    return tokenizer.decode(list(ids), skip_special_tokens=True)


def lines(*script: str | type[BaseException]) -> Callable[[], str]:
    """What somebody types; an exception stands for Ctrl-C or the end of the input."""
    steps = iter([*script, EOFError])

    def read() -> str:
        step = next(steps)
        if isinstance(step, str):
            return step
        raise step

    return read
