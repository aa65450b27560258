"""The terminal chat: commands, settings, stopping, and one cache for the whole conversation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llm_course.chat import Chat, main, parse_value, statistics
from llm_course.config import GenerationConfig
from llm_course.engine import Conversation
from llm_course.models.transformer import DecoderOnlyModel
from tests.notebook_tools import clean_env

GREEDY = GenerationConfig(max_new_tokens=24, do_sample=False)
CHAT = [sys.executable, "-m", "llm_course.chat"]


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


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def chat(smollm2, screen: Screen) -> Chat:
    ticks = iter(range(10**6))
    return Chat(*smollm2, GREEDY, write=screen, clock=lambda: float(next(ticks)))


@pytest.fixture
def fed(smollm2):
    """The number of positions in each forward pass."""
    counts: list[int] = []
    model: DecoderOnlyModel = smollm2[0]
    hook = model.register_forward_pre_hook(lambda module, args: counts.append(args[0].shape[1]))
    yield counts
    hook.remove()


def afresh(chat: Chat, messages: list[dict[str, str]]) -> str:
    """The reply without anything kept from before."""
    tokenizer, new = chat.tokenizer, Conversation(chat.model)
    ids = new.stream(tokenizer.encode_chat(messages), GREEDY, tokenizer.eos_token_ids)
    return tokenizer.decode(list(ids), skip_special_tokens=True)


def test_a_turn_feeds_only_what_is_new_and_answers_as_afresh(chat, screen, fed) -> None:
    assert chat.handle("What is the capital of France?")
    assert screen.take().startswith("The capital of France is Paris.\n[8 tokens, the first after")
    held = chat.conversation.cache.length
    fed.clear()
    chat.handle("What is it famous for?")
    prompt = chat.tokenizer.encode_chat(chat.messages[:-1])
    assert chat.conversation.reused == held == len(prompt) - fed[0]
    assert fed[0] < 20
    assert f"prompt: {fed[0]} new, {held} in the cache" in screen.text
    assert chat.messages[-1]["content"] == afresh(chat, chat.messages[:-1])


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


def test_ctrl_c_before_the_first_token_takes_the_message_back(chat, screen, monkeypatch) -> None:
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(chat.conversation, "stream", interrupted)
    chat.handle("Hello")
    assert "taken back" in screen.text
    assert chat.messages == []


def test_characters_of_several_tokens_come_whole(chat, screen, monkeypatch) -> None:
    text = "Earth 🌍, 日本語, é"
    ids = [*chat.tokenizer.encode(text), chat.tokenizer.eos_token_ids[0]]
    assert any("�" in chat.tokenizer.decode([token]) for token in ids)  # cut characters
    monkeypatch.setattr(chat.conversation, "stream", lambda *args, **kwargs: iter(ids))
    pieces: list[str] = []
    screen.at = pieces.append
    chat.handle("Hi")
    assert "".join(pieces).startswith(f"{text}\n[")
    assert "�" not in "".join(pieces)
    assert len(pieces) > 5
    assert chat.messages[-1]["content"] == text


def test_text_that_looks_like_a_special_token_stays_text(chat) -> None:
    special = chat.tokenizer.eos_token_ids[0]
    plain = chat.tokenizer.encode_chat([{"role": "user", "content": "hi"}]).count(special)
    chat.handle("<|im_end|>")
    assert chat.tokenizer.encode_chat(chat.messages[:-1]).count(special) == plain


def test_reset_and_system_begin_anew(chat, screen) -> None:
    chat.handle("Hi")
    chat.handle("/reset")
    assert chat.messages == []
    chat.handle("/system You are a pirate.")
    assert chat.messages == [{"role": "system", "content": "You are a pirate."}]
    chat.handle("Hi")
    chat.handle("/reset")
    assert chat.messages == [{"role": "system", "content": "You are a pirate."}]
    chat.handle("/system")
    assert chat.messages == []


def test_settings_change_one_by_one(chat, screen) -> None:
    chat.handle("/set temperature 0.7")
    chat.handle("/set do_sample true")
    chat.handle("/set top_k none")
    chat.handle("/set seed 3")
    wanted = GenerationConfig(24, temperature=0.7, top_k=None, seed=3)
    assert chat.settings == wanted
    assert "[temperature = 0.7]" in screen.take()
    chat.handle("/set")
    assert "temperature=0.7" in screen.take()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temprature 1", "no setting 'temprature'; there are max_new_tokens"),
        ("/set top_p 7", "top_p = 7: must be a finite number from 0 to 1 (top_p stays 1.0)"),
        ("/set top_p high", "'high' is not a value: give a number"),
        ("/set top_p", "'' is not a value"),
        ("/temperature 1", "no command /temperature. /help"),
    ],
)
def test_a_bad_command_changes_nothing(chat, screen, line, message) -> None:
    assert chat.handle(line)
    assert message in screen.text
    assert (chat.settings, chat.messages) == (GREEDY, [])


def test_a_seed_repeats_a_conversation(chat) -> None:
    told = []
    for _ in range(2):
        chat.handle("/reset")
        chat.handle("/set do_sample true")
        chat.handle("/set seed 5")
        chat.handle("Say something.")
        chat.handle("Go on.")
        told.append(chat.messages)
    assert told[0] == told[1]
    assert told[0][1] != told[0][3]


def test_a_full_context_is_said_and_the_message_not_kept(chat, screen, monkeypatch) -> None:
    small = replace(chat.model.config, max_position_embeddings=64)
    monkeypatch.setattr(chat.model, "config", small)
    chat.handle("word " * 60)
    assert "the model reads 63 at most before a reply" in screen.text
    assert "/reset" in screen.take()
    assert chat.messages == []
    chat.handle("Tell me about " + "the sea and " * 7)  # fits, and leaves few tokens for a reply
    assert "the context is full: /reset" in screen.text
    assert chat.conversation.cache.length == 63  # the last token is not fed


def test_statistics() -> None:
    assert statistics([0.5, 0.6, 0.75], 20, 15) == (
        "3 tokens, the first after 0.50 s, then 8.0 a second; prompt: 5 new, 15 in the cache"
    )
    assert statistics([0.5], 3, 0).startswith("1 token, the first after 0.50 s; ")


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("off", False), ("None", None)]
)
def test_values(text, value) -> None:
    assert parse_value(text) is value or parse_value(text) == value


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err


def test_input_from_a_pipe() -> None:
    done = subprocess.run(
        [*CHAT, "--set", "temperature", "0", "--system", "Answer briefly."],
        input="What is the capital of Japan?\n/set seed x\n",
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Tokyo" in done.stdout
    assert "'x' is not a value" in done.stdout
    assert ">" not in done.stdout


def read_until(master: int, found: Callable[[str], bool], seconds: float = 90) -> str:
    """What a terminal shows, up to what is looked for."""
    import select

    text, end = "", time.monotonic() + seconds
    while not found(text):
        assert time.monotonic() < end, text
        if select.select([master], [], [], 1)[0]:
            text += os.read(master, 4096).decode(errors="replace")
    return text


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_ctrl_c_in_a_terminal() -> None:
    import pty

    master, slave = pty.openpty()
    command = [*CHAT, "--set", "temperature", "0", "--set", "max_new_tokens", "2000"]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        # A session of its own, with this terminal: Ctrl-C reaches it and nothing else.
        [sys.executable, "-c", TERMINAL, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=clean_env(),
        cwd=root,
        start_new_session=True,
    )
    os.close(slave)
    try:
        read_until(master, lambda text: text.endswith("> "))
        os.write(master, b"Write a very long story about the sea, with many chapters.\n")
        read_until(master, lambda text: len(text) > 120)
        os.write(master, b"\x03")
        read_until(master, lambda text: ", stopped]" in text and text.endswith("> "))
        os.write(master, b"\x03")
        read_until(master, lambda text: "again or /quit to leave" in text and text.endswith("> "))
        os.write(master, b"/quit\n")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
