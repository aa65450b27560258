"""A reply that ends early: by Ctrl-C, by an error, or cut at its length."""

from __future__ import annotations

import signal

import pytest

import llm_course.engine.kv_cache as kv_cache
from llm_course.chat import Chat, talk
from tests.chat_tools import GREEDY, Screen, afresh, lines, make_chat


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def chat(smollm2, screen: Screen) -> Chat:
    return make_chat(smollm2, screen)


def test_ctrl_c_stops_the_reply_and_keeps_what_was_said(chat, screen) -> None:
    def interrupt(text: str) -> None:
        if "Paris" in screen.text:
            screen.at = lambda text: None
            raise KeyboardInterrupt

    screen.at = interrupt
    assert chat.handle("What is the capital of France?")
    assert ", stopped]" in screen.take()
    said = chat.messages[-1]
    assert said["role"] == "assistant"
    assert said["content"].endswith("Paris")
    chat.handle("And of Italy?")
    assert chat.messages[-1]["content"] == afresh(chat, chat.messages[:-1])


def test_ctrl_c_before_the_first_token_takes_the_message_back(
    chat, screen, monkeypatch
) -> None:
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(chat.conversation, "stream", interrupted)
    chat.handle("Hello")
    assert "taken back" in screen.text
    assert chat.messages == []


def signal_at(screen: Screen, word: str, times: int = 1) -> None:
    """Have Ctrl-C pressed when `word` is on the screen."""

    def press(text: str) -> None:
        if word in screen.text:
            screen.at = lambda text: None
            first = signal.getsignal(signal.SIGINT)
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
                while signal.getsignal(signal.SIGINT) is first:
                    pass  # two before the handler has run would be one

    screen.at = press


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_stops_the_reply_and_the_next_one_is_as_afresh(
    chat, screen, times
) -> None:
    before = signal.getsignal(signal.SIGINT)
    signal_at(screen, "Paris", times)
    talk(chat, lines("What is the capital of France?", "And of Italy?"))
    assert chat.messages[1]["content"].endswith("Paris")
    assert ", stopped]" in screen.text
    assert chat.messages[3]["content"] == afresh(chat, chat.messages[:3])
    # The second one does not wait for the token, so the cache is given up.
    assert (chat.conversation.reused == 0) == (times == 2)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stopped_reply_is_reused_to_its_last_token(chat, screen) -> None:
    signal_at(screen, "Paris")
    talk(chat, lines("What is the capital of France?"))
    held = chat.conversation.cache.length
    # "The … France is"
    assert held == len(chat.tokenizer.encode_chat(chat.messages[:1])) + 5
    chat.handle("And of Italy?")
    assert chat.conversation.reused == held
    assert f"{held} in the cache" in screen.text


def test_ctrl_c_while_the_message_is_encoded_stops_the_reply(chat, monkeypatch) -> None:
    encode = chat.tokenizer.encode_chat

    def press(*args):
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(chat.tokenizer, "encode_chat", encode)
        return encode(*args)

    monkeypatch.setattr(chat.tokenizer, "encode_chat", press)
    talk(chat, lines("Hi", "What is the capital of Japan?"))
    assert "Tokyo" in chat.messages[-1]["content"]


@pytest.mark.slow
@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError("out of memory")])
def test_what_ends_in_mid_work_leaves_nothing_behind(
    chat, screen, monkeypatch, failure
) -> None:
    """While the cache grows, some layers have more room than others."""
    reserve, calls = kv_cache._reserve, iter(range(1000))

    def fail(*args):
        if next(calls) == 4:
            raise failure
        return reserve(*args)

    monkeypatch.setattr(kv_cache, "_reserve", fail)
    chat.handle("word " * 300)
    assert "your message is taken back" in screen.take()
    assert chat.messages == []
    chat.handle("word " * 300 + "What is the capital of Japan?")
    assert chat.messages[-1]["content"] == afresh(chat, chat.messages[:-1])


@pytest.mark.parametrize("end", ["cut", "stop"])
def test_half_a_character_is_neither_shown_nor_remembered(
    chat, screen, monkeypatch, end
) -> None:
    ids = chat.tokenizer.encode("snail 🐌")
    assert chat.tokenizer.decode(ids[:-1]) == "snail �"

    def stream(*args, **kwargs):
        yield from ids[:-2]
        if end == "stop":
            chat.stop()
        yield ids[-2]

    monkeypatch.setattr(chat.conversation, "stream", stream)
    chat.handle("Hi")
    assert "�" not in screen.text
    assert chat.messages[-1]["content"].strip() == "snail"


def test_ctrl_c_at_the_prompt_leaves_when_pressed_twice_in_a_row(chat, screen) -> None:
    press = KeyboardInterrupt
    talk(chat, lines(press, "/help", press, press, "/set temperature 0.5"))
    assert screen.text.count("Ctrl-C again") == 2
    assert chat.settings == GREEDY
    talk(chat, lines("/quit", "/set temperature 0.5"))
    assert chat.settings == GREEDY
