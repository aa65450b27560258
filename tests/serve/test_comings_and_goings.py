"""Clients that leave, that read slowly, that come all at once; servers that are
ended."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from openai import AsyncOpenAI

from llm_course.bench.load import call
from tests.serve.tools import NAME, PATIENCE, Server, in_a_loop, running, wait_until

pytestmark = pytest.mark.slow

LONG: dict[str, Any] = {
    "model": NAME,
    "prompt": "Once upon a time",
    "max_tokens": 500,
    "temperature": 0,
    "ignore_eos": True,
}
posix = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")


def raw_call(server: Server, body: bytes, path: str = "/v1/completions"):
    """A connection on which a request was sent, and nothing read."""
    host, port = server.url.removeprefix("http://").split(":")
    line = socket.socket()
    line.settimeout(30)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect((host, int(port)))
    line.sendall(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        f"\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return line


def body_of(**changes: Any) -> bytes:
    return httpx.Request("POST", "http://a", json=LONG | changes).content


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_pages(server: Server, stream: bool) -> None:
    before = server.metrics()
    line = raw_call(server, body_of(stream=stream, n=4))
    wait_until(lambda: server.metrics()["num_requests_running"] == 1)
    line.close()
    wait_until(server.is_empty)
    after = server.metrics()
    made = after["generation_tokens_total"] - before["generation_tokens_total"]
    assert made < 4 * 500  # it did not go on to the end
    assert after["request_success_total"] == before["request_success_total"] + 1


def test_a_client_that_waits_in_the_queue_may_leave(server: Server) -> None:
    lines = [raw_call(server, body_of(n=8)) for _ in range(2)]
    wait_until(lambda: server.metrics()["num_requests_waiting"] == 1)
    lines[1].close()
    wait_until(lambda: server.metrics()["num_requests_waiting"] == 0)
    assert server.metrics()["num_requests_running"] == 1
    lines[0].close()
    wait_until(server.is_empty)


def test_a_client_that_does_not_read_holds_up_nobody(server: Server) -> None:
    line = raw_call(server, body_of(stream=True, n=4, max_tokens=100, logprobs=20))
    quick = server.client().completions.create(model=NAME, prompt="Hi", max_tokens=5)
    assert quick.usage.completion_tokens <= 5
    wait_until(server.is_empty)  # its answer was computed without it
    text = b""
    while b"[DONE]" not in text[-100:]:
        piece = line.recv(2**20)
        assert piece, "the answer ended before its end"
        text += piece
    assert text.count(b'"finish_reason": "length"') == 4
    line.close()


def test_a_client_that_sends_half_a_request(server: Server) -> None:
    line = raw_call(server, b"")
    line.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Le")
    assert server.get("/health").status_code == 200
    line.close()
    assert server.get("/health").status_code == 200


def test_many_clients_at_once(server: Server, tiny_model) -> None:
    """Each gets what it would have got alone."""
    prompts = [f"{word} {i}" for i in range(50) for word in ("a", "b", "c", "d")]

    async def ask(client: AsyncOpenAI, i: int) -> str:
        asked = {"model": NAME, "prompt": prompts[i], "max_tokens": 8}
        asked |= {"temperature": 0}
        if i % 2:
            answer = await client.completions.create(**asked)
            return answer.choices[0].text
        stream = await client.completions.create(stream=True, **asked)
        return "".join([piece.choices[0].text async for piece in stream])

    async def ask_all() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        web = httpx.AsyncClient(limits=limits, timeout=60)
        url = f"{server.url}/v1"
        async with AsyncOpenAI(base_url=url, api_key="none", http_client=web) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(200)))

    answers = in_a_loop(ask_all())
    alone = server.client()
    for i in range(0, 200, 23):
        asked = {"model": NAME, "prompt": prompts[i], "max_tokens": 8}
        one = alone.completions.create(temperature=0, **asked)
        assert one.choices[0].text == answers[i]
    wait_until(server.is_empty)


def test_clients_that_come_and_go_leave_nothing_behind(server: Server) -> None:
    def visit(i: int) -> None:
        line = raw_call(server, body_of(stream=bool(i % 2), n=1 + i % 3))
        time.sleep(0.005 * (i % 7))
        line.close()

    visitors = [threading.Thread(target=visit, args=(i,)) for i in range(60)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    wait_until(server.is_empty)
    assert "Traceback" not in server.log
    assert server.client().completions.create(model=NAME, prompt="Hi").choices


def test_a_thousand_clients_of_whom_many_leave(server: Server) -> None:
    """Pages, threads and memory are as before; an answer came whole or not at
    all."""
    chance, ends = random.Random(0), Counter[str]()
    process = psutil.Process(server.process.pid)

    async def visit(room: asyncio.Semaphore) -> None:
        prompt = chance.choices(range(300, 400), k=chance.randint(1, 60))
        body = LONG | {
            "prompt": prompt,
            "max_tokens": 12,
            "stream": chance.random() < 0.5,
        }
        patience = chance.choice((0.001, 0.01, 0.03, PATIENCE))
        async with room:
            try:
                async with asyncio.timeout(patience):
                    lines = [x async for x in call(server.url, "/v1/completions", body)]
                ends["whole" if b"length" in b"".join(lines) else "torn"] += 1
            except TimeoutError:
                ends["left"] += 1

    async def visits(number: int) -> None:
        room = asyncio.Semaphore(24)
        await asyncio.gather(*(visit(room) for _ in range(number)))

    in_a_loop(visits(100))  # now the threads that wait for work are there
    wait_until(server.is_empty)
    threads, memory = process.num_threads(), process.memory_info().rss
    in_a_loop(visits(900))
    wait_until(server.is_empty)
    assert ends["torn"] == 0
    assert min(ends["whole"], ends["left"]) > 100
    assert process.num_threads() <= threads + 8  # the pool of `to_thread` may grow
    assert process.memory_info().rss < memory + 30 * 2**20
    assert "Traceback" not in server.log


class Asked:
    """A call in a thread of its own, and what comes of it."""

    def __init__(self, server: Server, **changes: Any) -> None:
        def ask() -> None:
            url, asked = f"{server.url}/v1/completions", LONG | changes
            with server.web.stream("POST", url, json=asked) as answer:
                for piece in answer.iter_text():
                    self.text += piece
                self.status = answer.status_code

        self.status, self.text = 0, ""
        self.thread = threading.Thread(target=ask)
        self.thread.start()

    def end(self) -> tuple[int, str]:
        self.thread.join(60)
        return self.status, self.text


@posix
def test_a_signal_lets_the_answers_come_to_their_end(
    tiny_served: Path, tmp_path: Path
) -> None:
    with running(tiny_served, tmp_path / "log", "--cache", "8") as server:
        calls = [Asked(server, stream=stream, n=2) for stream in (True, False)]
        wait_until(lambda: server.metrics()["num_requests_running"] == 2)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/health").status_code == 503)
        late = server.post("/v1/completions", LONG)
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "shutting_down"
        assert late.headers["retry-after"]
        (status, streamed), (whole_status, whole) = [call.end() for call in calls]
        assert (status, whole_status) == (200, 200)
        assert streamed.endswith("data: [DONE]\n\n")
        assert '"finish_reason": "length"' in streamed
        assert '"completion_tokens": 1000' in whole
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log


@posix
def test_answers_that_take_longer_than_the_grace_are_ended(
    tiny_served: Path, tmp_path: Path
) -> None:
    options = ("--cache", "64", "--grace", "0.2", "--rows", "64")
    with running(tiny_served, tmp_path / "log", *options) as server:
        calls = [Asked(server, stream=stream, n=32) for stream in (True, False)]
        wait_until(lambda: server.metrics()["num_requests_running"] == 2)
        assert server.end(signal.SIGTERM) == 0
        (_, streamed), (status, whole) = [call.end() for call in calls]
        assert status == 503
        assert "shutting down" in whole
        assert re.search(r"shutting down.*\n\ndata: \[DONE\]\n\n$", streamed)
        assert "Traceback" not in server.log


@posix
def test_a_server_that_was_killed_starts_again_and_ends_by_ctrl_c(
    tiny_served: Path, tmp_path: Path
) -> None:
    with running(tiny_served, tmp_path / "log", "--cache", "8") as server:
        call = raw_call(server, body_of())
        wait_until(lambda: server.metrics()["num_requests_running"] == 1)
        port = server.url.rpartition(":")[2]
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        with suppress(ConnectionResetError):
            assert call.recv(1) == b""
    with running(tiny_served, tmp_path / "again", "--port", port) as again:
        assert again.url.endswith(f":{port}")
        assert again.client().completions.create(model=NAME, prompt="Hi").choices
        with pytest.raises(openai.BadRequestError):
            again.client().completions.create(model=NAME, prompt="")
        assert again.end(signal.SIGINT) == 0
        assert "Traceback" not in again.log
