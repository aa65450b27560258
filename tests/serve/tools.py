"""What the tests of the server share: a tiny model in a folder, and a server in a
process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch
from openai import OpenAI

from llm_course.checkpoints import save_pretrained
from llm_course.config import ModelConfig
from llm_course.models import build_decoder_only_model
from llm_course.text import Tokenizer
from tests.helpers import CPU
from tests.notebook_tools import clean_env

NAME = "tiny"
CONTEXT = 512
PATIENCE = 30.0  # seconds for what takes one at most
START = 240.0  # for a server that has to compile its kernels, on a busy machine


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` in an event loop of its own, on a thread of its own: playwright leaves
    one running on the thread of the tests."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def write_tiny_model(
    folder: Path, tokenizer: Tokenizer, context: int = CONTEXT
) -> Path:
    """A model with random weights that are large enough for it to say all sorts of
    things, and a real tokenizer."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_dim=32,
        intermediate_dim=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = build_decoder_only_model(config, CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.ndim > 1 else 1.0)
    save_pretrained(model, tokenizer, folder)
    return folder


class Server:
    """A server that runs, and ways to talk with it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log_file = process, log
        self.url = ""
        # one for all: each new one reads all certificates
        no_reuse = httpx.Limits(max_keepalive_connections=0)
        self.web = httpx.Client(limits=no_reuse, timeout=PATIENCE)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            found = re.search(r" at (http://\S+)", self.log)
            self.url = found[1] if found else ""
            if not found:
                return False
            try:
                return self.web.get(f"{self.url}/health").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, START)

    def client(self, key: str = "none", **options: Any) -> OpenAI:
        """The official client."""
        options = {"max_retries": 0, "timeout": PATIENCE} | options
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.web.get(self.url + path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:  # httpx could not write half a character
            options["content"] = json.dumps(body)
            options["headers"] = {
                "Content-Type": "application/json",
                **options.get("headers", {}),
            }
        return self.web.post(self.url + path, **options)

    def metrics(self, headers: Mapping[str, str] | None = None) -> dict[str, float]:
        """The numbers of /metrics, summed over labels; without the prefix."""
        found: dict[str, float] = {}
        for line in self.get("/metrics", headers=headers).text.splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.partition("{")[0].removeprefix("vllm:")
                found[name] = found.get(name, 0.0) + float(value)
        return found

    def is_empty(self) -> bool:
        """No request is in the engine, and no page is in use."""
        now = self.metrics()
        names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        return not any(now[name] for name in names)

    def end(self, sign: int = signal.SIGTERM) -> int:
        """Send a signal -> the exit status."""
        self.process.send_signal(sign)
        return self.process.wait(PATIENCE)


@contextmanager
def running(
    folder: Path, log: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server on `folder`; what it writes goes to the file `log`."""
    command = [sys.executable, "-m", "llm_course.serve", "--model", str(folder)]
    if "--port" not in options:
        command += ["--port", "0"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--name", NAME, "--threads", "1", *options],
            env=clean_env(**(env or {})),
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
        )
    server = Server(process, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        process.kill()
        process.wait()


def wait_until(ready: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def events(answer: httpx.Response) -> list[Any]:
    """The objects of a whole event stream."""
    parts = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert parts[-1] == "[DONE]"
    return [json.loads(part) for part in parts[:-1]]
