"""What the server refuses, and how it says so."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serve.tools import NAME, Server, running

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HI = [{"role": "user", "content": "Hi"}]


def fault(answer) -> dict[str, Any]:
    """The error of an answer, which has to have OpenAI's form."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": "Hi"}, "messages = 'Hi'"),
        (CHAT, {"messages": [{"role": "cook", "content": ""}]}, "messages.0.role"),
        (CHAT, {"messages": [{"role": "user"}]}, "content"),
        (CHAT, {"messages": [{"role": "user", "content": "\ud800"}]}, "half a char"),
        (CHAT, {"max_tokens": 0}, "max_tokens = 0"),
        (CHAT, {"max_tokens": "5"}, "max_tokens = '5'"),
        (CHAT, {"max_tokens": True}, "max_tokens = True"),
        (CHAT, {"max_tokens": 10**30}, "max_tokens"),
        (CHAT, {"max_tokens": 600}, "context of 512"),
        (CHAT, {"temperature": -0.1}, "temperature = -0.1"),
        (CHAT, {"temperature": 2.1}, "temperature = 2.1"),
        (CHAT, {"top_p": 0}, "top_p = 0"),
        (CHAT, {"min_p": 1.5}, "min_p = 1.5"),
        (CHAT, {"top_k": -2}, "top_k = -2"),
        (CHAT, {"repetition_penalty": 0}, "repetition_penalty = 0"),
        (CHAT, {"repetition_penalty": 1e-300}, "repetition_penalty = 1e-300"),
        (CHAT, {"seed": 2**63}, "seed"),
        (CHAT, {"n": 0}, "n = 0"),
        (CHAT, {"n": 9}, "n = 9: must be from 1 to 8"),
        (CHAT, {"stop": [""]}, "stop"),
        (CHAT, {"stop": ["a"] * 17}, "stop"),
        (CHAT, {"top_logprobs": 2}, "only with logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs = 21"),
        (CHAT, {"stream_options": {"include_usage": True}}, "only with stream"),
        (CHAT, {"tools": [{"type": "function"}]}, "tools"),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (CHAT, {"presence_penalty": 0.5}, "presence_penalty = 0.5: not done here"),
        (CHAT, {"messages": [{"role": "user", "content": "a " * 600}]}, "shorten"),
        (TEXT, {"prompt": ""}, "an empty prompt"),
        (TEXT, {"prompt": []}, "prompt"),
        (TEXT, {"prompt": [49152]}, "prompt = 49152: ids are whole numbers"),
        (TEXT, {"prompt": [-1]}, "prompt"),
        (TEXT, {"prompt": [[1], []]}, "prompt"),
        (TEXT, {"prompt": ["a"] * 300}, "places"),
        (TEXT, {"echo": True}, "echo = True: not done here"),
        (TEXT, {"prompt": None}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": HI}, "not both"),
        ("/tokenize", {}, "not both"),
    ],
)
def test_wrong_values_are_named(server: Server, path, change, words) -> None:
    usual = {CHAT: {"messages": HI}, TEXT: {"prompt": "Hi"}}.get(path, {})
    answer = server.post(path, usual | change)
    assert answer.status_code == 400, answer.text
    error = fault(answer)
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"5", b'"text"', b"\xff\xfe", b"[" * 50_000,
        b'{"messages": 1e999}', b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [CHAT, TEXT, "/tokenize"])
def test_a_body_that_is_no_request(server: Server, path: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = server.post(path, content=body, headers=headers)
    if not (path == "/tokenize" and b"temperature" in body):  # which it ignores
        assert answer.status_code == 400, answer.text
        fault(answer)


def test_a_form_of_a_web_page_is_no_request(server: Server) -> None:
    """Other sites' scripts can send text, but not JSON."""
    body = json.dumps({"messages": HI})
    answer = server.post(CHAT, content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400
    assert "application/json" in fault(answer)["message"]
    assert "access-control-allow-origin" not in answer.headers


def test_the_most_extreme_settings_harm_nobody(server: Server) -> None:
    least = {"temperature": 5e-324, "top_p": 5e-324, "min_p": 5e-324, "top_k": 1}
    most = {"temperature": 2, "top_p": 1, "min_p": 1, "top_k": 2**31 - 1}
    for settings in (least, most):
        for penalty in (0.1, 2):
            asked = {"messages": HI, "max_tokens": 3, "repetition_penalty": penalty}
            answer = server.post(CHAT, asked | settings)
            assert answer.status_code == 200, answer.text
    assert "Traceback" not in server.log


def test_an_unknown_model_or_path(server: Server) -> None:
    answer = server.post(CHAT, {"model": "other", "messages": HI})
    assert answer.status_code == 404
    assert fault(answer)["code"] == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="There is no model 'other'"):
        server.client().completions.create(model="other", prompt="Hi")
    for path in ("/v1/nothing", "/docs", "/page/../x"):
        assert server.get(path).status_code == 404
        fault(server.get(path))
    wrong_method = server.get(CHAT)
    assert wrong_method.status_code == 405
    assert wrong_method.headers["allow"] == "POST"
    fault(wrong_method)


def test_a_body_that_is_too_large(server: Server) -> None:
    body = json.dumps({"prompt": "a" * 70_000}).encode()
    headers = {"Content-Type": "application/json"}
    pieces = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
    for content in (body, pieces):  # the pieces come without a Content-Length
        answer = server.post(TEXT, content=content, headers=headers)
        assert answer.status_code == 413
        assert "65536" in fault(answer)["message"]


def test_a_stated_length_alone_is_enough_to_be_refused(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_another_name_for_this_machine_is_refused(server: Server) -> None:
    for name, status in (("evil.example", 403), ("localhost:1", 200), ("[::1]", 200)):
        answer = server.get("/v1/models", headers={"Host": name})
        assert answer.status_code == status
    assert "localhost alone" in fault(server.get("/", headers={"Host": "a"}))["message"]


@pytest.fixture(scope="module")
def guarded(
    tiny_served: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a key, two rows, and a queue of two."""
    log = tmp_path_factory.mktemp("guarded") / "server.log"
    options = ("--rows", "2", "--queue", "2", "--max-prompt", "100", "--log-prompts")
    key = {"LLM_COURSE_API_KEY": "the key"}
    with running(tiny_served, log, *options, env=key) as server:
        yield server


def test_without_the_key_nothing_is_told(guarded: Server) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic the key"},
        {"Authorization": b"Bearer \xff"},
    ):
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            answer = guarded.get(path, headers=headers)
            assert answer.status_code == 401
            assert fault(answer)["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = guarded.post(CHAT, {"messages": HI}, headers=headers)
        assert answer.status_code == 401
    assert guarded.get("/health").status_code == 200
    assert guarded.get("/").status_code == 200
    with pytest.raises(openai.AuthenticationError):
        guarded.client("wrong").models.list()
    assert [model.id for model in guarded.client("the key").models.list()] == [NAME]


def test_a_full_house_says_when_to_come_again(guarded: Server) -> None:
    client = guarded.client("the key")
    asked: dict[str, Any] = {"model": NAME, "max_tokens": 400, "stream": True}
    more = {"extra_body": {"ignore_eos": True}}
    streams = [
        client.completions.create(prompt="Hi", **asked, **more) for _ in range(4)
    ]
    with pytest.raises(openai.RateLimitError, match="All 4 places") as caught:
        client.completions.create(model=NAME, prompt="Hi")
    assert caught.value.response.headers["retry-after"] == "1"
    for stream in streams:
        stream.close()
    patient = guarded.client("the key", max_retries=8)
    assert patient.completions.create(model=NAME, prompt="Hi").choices


def test_a_limit_on_prompts(guarded: Server) -> None:
    client = guarded.client("the key")
    with pytest.raises(openai.BadRequestError, match="this server takes 100"):
        client.completions.create(model=NAME, prompt="a " * 150)


def test_prompts_are_logged_only_if_asked_for(guarded: Server, server: Server) -> None:
    said = "a secret \x1b[31m word"
    guarded.client("the key").completions.create(model=NAME, prompt=said, max_tokens=1)
    server.client().completions.create(model=NAME, prompt=said, max_tokens=1)
    assert r"a secret \x1b[31m word" in guarded.log
    assert "secret" not in server.log
    assert "prompt tokens" in server.log
    assert "the key" not in guarded.log
