"""The program: load, listen, and leave in order."""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from llm_course.chat.terminal import load_model
from llm_course.errors import readable
from llm_course.programs import complain
from llm_course.serve.app import make_app
from llm_course.serve.gate import is_loopback
from llm_course.serve.options import KEY_VARIABLE, parse
from llm_course.serve.service import Service

log = logging.getLogger("llm_course.serve")
LAST_WORDS = 2  # seconds for what is written when the engine has ended


class Server(uvicorn.Server):
    """Uvicorn, which on a signal first lets the answers come to their end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service
        self.leaving: asyncio.Task[None] | None = None
        service.on_death = self._leave_at_once

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets no more calls in; the second waits for nobody."""
        if self.service.draining:
            self._leave_at_once()
            self.force_exit = True
        else:
            self.service.draining = True
            if loop := self.service.worker.loop:
                loop.call_soon_threadsafe(self._leave)
            else:  # nobody was served yet
                self._leave_at_once()

    def _leave(self) -> None:
        self.leaving = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        service, grace = self.service, self.service.options.grace
        log.info("No more calls are taken; %d go on", len(service.visits))
        try:
            await asyncio.wait_for(service.quiet.wait(), grace)
        except TimeoutError:
            log.info("After %g s, %d calls are ended", grace, len(service.visits))
            service.end_all()
        self.should_exit = True

    def _leave_at_once(self) -> None:
        self.should_exit = True


def load(options: argparse.Namespace) -> Service:
    """Raises CheckpointError for a model that cannot be had, ValueError for an option
    that is wrong."""
    model, tokenizer = load_model(options.model, options.weights, options.threads)
    if tokenizer is None:
        raise ValueError(
            f"{options.model} has no tokenizer, and clients send text: give a model"
            " that has one."
        )
    return Service(model, tokenizer, options)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ValueError for a place where it cannot."""
    try:
        family, _, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family)
        try:
            if sys.platform != "win32":  # there it would share a port that is in use
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
        except BaseException:
            made.close()
            raise
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"--host {readable(host, 100)} --port {port}: {error}. Give another port"
            " (0: any that is free), or an address of this machine."
        ) from error
    made.listen(2048)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 when the model cannot be served, or its engine
    fails for good."""
    options = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        place = listen(options.host, options.port)  # before the model is loaded
        service = load(options)
    except (ValueError, RuntimeError) as error:  # CheckpointError is a RuntimeError
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    host = f"[{options.host}]" if ":" in options.host else options.host
    log.info("%s at http://%s:%d", service.name, host, place.getsockname()[1])
    if not is_loopback(options.host) and options.api_key is None:
        log.warning("Whoever reaches this port may use it: set %s", KEY_VARIABLE)
    config = uvicorn.Config(
        make_app(service),
        log_config=None,
        access_log=False,
        lifespan="on",
        proxy_headers=False,
        timeout_graceful_shutdown=LAST_WORDS,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    Server(config, service).run(sockets=[place])
    if service.dead:
        complain("The engine failed, and cannot go on: the log says how. Start anew.")
    return 1 if service.dead else 0
