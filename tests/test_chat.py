"""The chat: commands, settings, and one cache for the whole conversation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_course.chat import Chat, parse_value, statistics
from llm_course.config import GenerationConfig
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.text import Tokenizer
from tests.chat_tools import GREEDY, Screen, afresh, make_chat


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def chat(smollm2, screen: Screen) -> Chat:
    return make_chat(smollm2, screen)


@pytest.fixture
def fed(smollm2):
    """The number of positions in each forward pass."""
    counts: list[int] = []
    model: DecoderOnlyModel = smollm2[0]
    hook = model.register_forward_pre_hook(
        lambda module, args: counts.append(args[0].shape[1])
    )
    yield counts
    hook.remove()


def test_a_turn_feeds_only_what_is_new_and_answers_as_afresh(chat, screen, fed) -> None:
    assert chat.handle("What is the capital of France?")
    assert screen.take().startswith(
        "The capital of France is Paris.\n[8 tokens, the first after"
    )
    held = chat.conversation.cache.length
    fed.clear()
    chat.handle("What is it famous for?")
    prompt = chat.tokenizer.encode_chat(chat.messages[:-1])
    assert chat.conversation.reused == held == len(prompt) - fed[0]
    assert fed[0] < 20
    assert f"prompt: {fed[0]} new, {held} in the cache" in screen.text
    assert chat.messages[-1]["content"] == afresh(chat, chat.messages[:-1])


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


def test_what_a_terminal_takes_for_commands_is_not_written(
    chat, screen, monkeypatch
) -> None:
    ids = chat.tokenizer.encode("a\x1b[2Jb\tc\n")
    monkeypatch.setattr(chat.conversation, "stream", lambda *args, **kwargs: iter(ids))
    chat.handle("Hi")
    assert screen.text.startswith("a\\x1b[2Jb\tc\n[")


HARMFUL = "\x1b]0;title\x07\x1b[2J\r\x9b1m\u202edrow\u2066\u200f"


def is_harmless(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)


@pytest.mark.parametrize(
    "line",
    [
        f"/{HARMFUL}",
        f"/set {HARMFUL} 1",
        f"/set temperature {HARMFUL}",
        f"/set temperature 1{HARMFUL}",
        f"/system {HARMFUL}",
        "/" + "x" * 10**6,
        "/set " + "x" * 10**6,
        "/set seed " + "9" * 4000,
    ],
    ids=["command", "setting", "value", "number", "system", *("long",) * 3],
)
def test_what_a_user_types_is_shown_harmless_and_short(chat, screen, line) -> None:
    chat.handle(line)
    chat.handle("/set")
    assert is_harmless(screen.text)
    assert len(screen.text) < 4000


def test_a_template_s_reason_is_shown_harmless_and_short(chat, screen) -> None:
    refusing = f"{{{{ raise_exception({HARMFUL!r} * 9999) }}}}"
    chat.tokenizer = Tokenizer(chat.tokenizer._backend, chat_template=refusing)
    chat.handle("Hi")
    assert "refused these messages" in screen.text
    assert r"\x1b]0;title\x07" in screen.text
    assert is_harmless(screen.text)
    assert len(screen.text) < 4000


def test_errors_of_the_model_are_shown_harmless(chat, screen, monkeypatch) -> None:
    def broken(*_args: object, **_kwargs: object):
        raise RuntimeError(HARMFUL)
        yield

    monkeypatch.setattr(chat.conversation, "stream", broken)
    chat.handle("Hi")
    assert is_harmless(screen.text)
    assert "failed" in screen.text


def test_text_of_other_scripts_is_shown_as_it_is(chat, screen, monkeypatch) -> None:
    text = "שלום, مرحبا, 日本語, 👩‍🚀 é"  # joined by U+200D, which orders nothing
    ids = chat.tokenizer.encode(text)
    monkeypatch.setattr(chat.conversation, "stream", lambda *args, **kwargs: iter(ids))
    chat.handle("Hi")
    assert screen.text.startswith(text)


@pytest.mark.slow
def test_text_that_looks_like_a_special_token_stays_text(chat) -> None:
    special = chat.tokenizer.eos_token_ids[0]
    plain = chat.tokenizer.encode_chat([{"role": "user", "content": "hi"}]).count(
        special
    )
    chat.handle("<|im_end|>")
    assert chat.tokenizer.encode_chat(chat.messages[:-1]).count(special) == plain


@pytest.mark.slow
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
    for line in screen.take().splitlines()[:-1]:  # the last one is the system message
        chat.handle(f"/set {line}")
    assert chat.settings == wanted
    chat.handle("/set greedy on")
    assert not chat.settings.do_sample


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temprature 1", "no setting 'temprature'; there are max_new_tokens"),
        ("/set top_p 7", "top_p = 7.0: must be a finite number from 0 to 1"),
        ("/set top_p high", "top_p = 'high': must be a number, or off"),
        ("/set top_p", "top_p = '': must be a number, or off"),
        ("/set temperature off", "temperature = 'off': must be a number"),
        ("/set temperature nan", "temperature = nan: must be a finite number"),
        ("/set top_k 2.5", "top_k = '2.5': must be a whole number, or off"),
        (
            "/set max_new_tokens 0",
            "max_new_tokens = 0: must be a whole number of at least 1",
        ),
        ("/set do_sample 2", "do_sample = '2': must be on or off"),
        (
            "/set seed 18446744073709551616",
            "must be a whole number from 0 to 2**63 - 1",
        ),
        ("/system \x04", "no token for U+0004"),
        ("/system " + "word " * 9000, "Write less"),
        ("\x04", "no token for U+0004"),
        ("/temperature 1", "no command /temperature. /help"),
    ],
)
def test_a_bad_command_changes_nothing(chat, screen, line, message) -> None:
    assert chat.handle(line)
    assert message in screen.text
    assert (chat.settings, chat.messages) == (GREEDY, [])


@pytest.mark.slow
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


def test_a_full_context_is_said_and_the_message_not_kept(
    chat, screen, monkeypatch
) -> None:
    small = replace(chat.model.config, max_position_embeddings=64)
    monkeypatch.setattr(chat.model, "config", small)
    chat.handle("word " * 60)
    assert "the model reads 63 at most before a reply" in screen.text
    assert "/reset" in screen.take()
    assert chat.messages == []
    # fits, and leaves few tokens for a reply
    chat.handle("Tell me about " + "the sea and " * 7)
    assert "the context is full: /reset" in screen.text
    assert chat.conversation.cache.length == 63  # the last token is not fed


def test_statistics() -> None:
    assert (
        statistics([0.5, 0.6, 0.75], 20, 15)
        == "3 tokens, the first after 0.50 s, then 8.0 a second; prompt: 5 new, 15 in"
        " the cache"
    )
    assert statistics([0.5], 3, 0).startswith("1 token, the first after 0.50 s; ")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("top_k", "3", 3),
        ("top_p", "0.5", 0.5),
        ("do_sample", "off", False),
        ("seed", "None", None),
    ],
)
def test_values(name, text, value) -> None:
    assert parse_value(name, text) == value
