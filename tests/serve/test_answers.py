"""Answers of the server, as the official client gets them: the engine's tokens in
OpenAI's objects."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from openai import OpenAI

from llm_course.config import GenerationConfig
from llm_course.engine import generate
from tests.helpers import CPU
from tests.serve.tools import NAME, Server, events

pytestmark = pytest.mark.slow

CHATS = [
    [{"role": "user", "content": text}]
    for text in (
        "Hi",
        "What is the capital of Japan?",
        "Größe 日本語 <|im_end|>",
        "a " * 200,
    )
]
GREEDY: dict[str, Any] = {"model": NAME, "max_tokens": 24, "temperature": 0}


@pytest.fixture(scope="module")
def client(server: Server) -> OpenAI:
    return server.client()


def alone(tiny_model, ids: list[int], count: int = 24) -> tuple[str, str]:
    """(text, finish_reason) by `generate`."""
    model, tokenizer = tiny_model
    settings = GenerationConfig(max_new_tokens=count, do_sample=False)
    prompt, eos = torch.tensor([ids]), tokenizer.eos_token_ids
    out = generate(model, prompt, model.config, CPU, settings, eos_token_id=eos)
    new = out[0, len(ids) :].tolist()
    reason = "stop" if new[-1] in tokenizer.eos_token_ids else "length"
    return tokenizer.decode(new, skip_special_tokens=True), reason


@pytest.mark.parametrize("chat", CHATS, ids=range(len(CHATS)))
def test_a_greedy_chat_is_what_generate_gives(client, tiny_model, chat) -> None:
    answer = client.chat.completions.create(messages=chat, **GREEDY)
    ids = tiny_model[1].encode_chat(chat)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == alone(tiny_model, ids)
    assert choice.message.role == "assistant"
    assert answer.usage.prompt_tokens == len(ids)
    assert answer.usage.completion_tokens == 24
    assert answer.usage.total_tokens == len(ids) + 24


def test_a_greedy_text_is_what_generate_gives(client, tiny_model) -> None:
    text = "The capital of Japan is"
    ids = tiny_model[1].encode(text)
    for prompt in (text, ids):
        answer = client.completions.create(prompt=prompt, **GREEDY)
        assert answer.choices[0].text == alone(tiny_model, ids)[0]


def test_several_prompts_stand_one_after_the_other(client, tiny_model) -> None:
    texts = ["one", "two and", "three"]
    answer = client.completions.create(prompt=texts, n=2, **GREEDY)
    assert [choice.index for choice in answer.choices] == [*range(6)]
    want = [alone(tiny_model, tiny_model[1].encode(text))[0] for text in texts]
    assert [choice.text for choice in answer.choices] == [t for t in want for _ in "ab"]
    ids = [tiny_model[1].encode(text) for text in texts]
    again = client.completions.create(prompt=ids, **GREEDY)
    assert [choice.text for choice in again.choices] == want


def collected(pieces) -> tuple[dict[int, str], dict[int, str], Any]:
    """(text, finish_reason) of each answer, and the usage, of a stream of chats."""
    texts, reasons, usage = {}, {}, None
    for piece in pieces:
        usage = piece.usage or usage
        for choice in piece.choices:
            assert choice.index not in reasons, "more comes after the end"
            texts[choice.index] = texts.get(choice.index, "") + choice.delta.content
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, usage


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n": 3, "temperature": 1.3, "seed": 5},
        {"temperature": 0.9, "seed": 1, "top_p": 0.9, "extra_body": {"top_k": 40}},
        {"seed": 2, "extra_body": {"min_p": 0.1, "repetition_penalty": 1.3}},
        {"temperature": 1.0, "seed": 3, "stop": ["e", "zzz"]},
    ],
)
def test_a_stream_adds_up_to_the_whole_answer(client, settings) -> None:
    asked = GREEDY | settings | {"messages": CHATS[1]}
    whole = client.chat.completions.create(**asked)
    usage = {"stream_options": {"include_usage": True}}
    stream = client.chat.completions.create(stream=True, **usage, **asked)
    texts, reasons, usage = collected(stream)
    assert texts == {c.index: c.message.content for c in whole.choices}
    assert reasons == {c.index: c.finish_reason for c in whole.choices}
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens


def test_a_stream_has_the_pieces_that_clients_expect(server) -> None:
    body = GREEDY | {"messages": CHATS[0], "max_tokens": 3, "stream": True}
    answer = server.post("/v1/chat/completions", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    pieces = events(answer)
    first, *_, last = [piece["choices"][0] for piece in pieces]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert last["finish_reason"] == "length"
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}
    assert len({piece["id"] for piece in pieces}) == 1
    assert all("usage" not in piece for piece in pieces)
    with_usage = body | {"stream_options": {"include_usage": True}}
    *pieces, end = events(server.post("/v1/chat/completions", with_usage))
    assert end["choices"] == []
    assert end["usage"]["completion_tokens"] == 3
    assert all(piece["usage"] is None for piece in pieces)


def test_a_text_streams_too(client) -> None:
    whole = client.completions.create(prompt="Once upon", logprobs=2, **GREEDY)
    stream = client.completions.create(
        prompt="Once upon", logprobs=2, stream=True, **GREEDY
    )
    pieces = [piece.choices[0] for piece in stream]
    assert "".join(piece.text for piece in pieces) == whole.choices[0].text
    want = whole.choices[0].logprobs
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        found = [one for p in pieces if p.logprobs for one in getattr(p.logprobs, name)]
        assert found == getattr(want, name), name


def test_the_same_seed_says_the_same(client) -> None:
    asked = {"messages": CHATS[0], "model": NAME, "max_tokens": 16, "n": 2}

    def said(seed: int) -> list[str | None]:
        answer = client.chat.completions.create(seed=seed, temperature=1.5, **asked)
        return [choice.message.content for choice in answer.choices]

    first = said(7)
    assert first == said(7)
    assert first != said(8)
    assert first[0] != first[1]


def test_a_stop_string_ends_the_text_before_it(client, tiny_model) -> None:
    whole = client.completions.create(prompt="Once upon", **GREEDY).choices[0].text
    stop = whole[8:12]
    for given in (stop, [stop, "not in it at all"]):
        answer = client.completions.create(prompt="Once upon", stop=given, **GREEDY)
        assert answer.choices[0].text == whole[: whole.find(stop)]
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens < 24


def test_logprobs_are_those_of_the_model(client, tiny_model) -> None:
    model, tokenizer = tiny_model
    answer = client.chat.completions.create(
        messages=CHATS[0], logprobs=True, top_logprobs=3, **GREEDY
    )
    ids = tokenizer.encode_chat(CHATS[0])
    content = answer.choices[0].logprobs.content
    assert len(content) == 24
    for entry in content:
        with torch.inference_mode():
            want = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        best = want.topk(3)
        assert entry.logprob == pytest.approx(best.values[0].item(), abs=1e-4)
        tops = [top.logprob for top in entry.top_logprobs]
        assert tops == pytest.approx(best.values.tolist(), abs=1e-4)
        assert bytes(entry.bytes) == tokenizer.bytes_of(int(best.indices[0]))
        ids.append(int(best.indices[0]))
    without = client.chat.completions.create(
        messages=CHATS[0], logprobs=True, **GREEDY
    ).choices[0].logprobs.content  # fmt: skip
    assert [one.token for one in without] == [one.token for one in content]
    assert all(one.top_logprobs == [] for one in without)


def test_without_a_limit_a_chat_goes_on_to_the_end_of_the_context(client) -> None:
    answer = client.chat.completions.create(
        model=NAME, messages=CHATS[3], temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens == 512
    text = client.completions.create(model=NAME, prompt="Hi", temperature=0)
    assert text.usage.completion_tokens == 16
    newer = client.chat.completions.create(
        model=NAME, messages=CHATS[0], max_completion_tokens=5
    )
    assert newer.usage.completion_tokens <= 5


def test_parts_of_a_message_and_the_developers_role(client, server) -> None:
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One.\nTwo."},
    ]
    written = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
    ]
    said = [
        client.chat.completions.create(messages=m, **GREEDY).choices[0].message.content
        for m in (plain, written)
    ]
    assert said[0] == said[1]


def test_models_and_tokens(client, server, tiny_model) -> None:
    tokenizer = tiny_model[1]
    (model,) = client.models.list().data
    assert model.id == NAME
    assert model.max_model_len == 512
    ids = tokenizer.encode("Hello there")
    asked = {"prompt": "Hello there", "return_token_strs": True}
    found = server.post("/tokenize", asked).json()
    assert found["tokens"] == ids
    assert found["count"] == len(ids)
    assert found["token_strs"] == [tokenizer.name_of(i) for i in ids]
    chat = server.post("/tokenize", {"messages": CHATS[2]}).json()
    assert chat["tokens"] == tokenizer.encode_chat(CHATS[2])


def test_metrics_count_what_was_asked(client, server) -> None:
    before = server.metrics()
    for _ in range(2):
        client.completions.create(prompt="word " * 40, **GREEDY)
    after = server.metrics()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more("request_success_total") == 2
    assert more("generation_tokens_total") == 48
    assert more("prompt_tokens_total") == more("prefix_cache_queries_total") > 80
    assert more("prefix_cache_hits_total") >= 32
    assert more("time_to_first_token_seconds_count") == 2
    assert more("request_queue_time_seconds_count") == 2
    assert more("e2e_request_latency_seconds_count") == 2
    assert more("inter_token_latency_seconds_count") == 46
    assert after["time_to_first_token_seconds_sum"] > 0
    assert math.isclose(after["kv_cache_usage_perc"], 0.0)
    assert server.is_empty()
