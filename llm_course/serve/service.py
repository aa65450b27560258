"""The model that is served: what it takes, who is in, and what a call means to the
engine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from llm_course.checkpoints import PINNED_MODELS
from llm_course.config import GenerationConfig
from llm_course.engine.batch import Engine
from llm_course.engine.request import Request
from llm_course.errors import CheckpointError, readable
from llm_course.models import DecoderOnlyModel
from llm_course.serve.metrics import Metrics
from llm_course.serve.refusals import Refusal, shutting_down
from llm_course.serve.schema import ChatCompletion, Completion, Message
from llm_course.serve.worker import Job, Worker
from llm_course.text import Tokenizer

log = logging.getLogger("llm_course.serve")
MIB = 2**20


class Service:
    """One model, its engine, and the limits of the options."""

    def __init__(
        self, model: DecoderOnlyModel, tokenizer: Tokenizer, options: argparse.Namespace
    ) -> None:
        """Raises ValueError for limits that the engine cannot keep."""
        self.tokenizer, self.options = tokenizer, options
        engine = Engine(
            model,
            tokenizer,
            budget=options.cache * MIB,
            max_rows=options.rows,
            max_step_tokens=options.step_tokens,
        )
        warm_up(engine)
        room = engine.cache.num_pages * engine.cache.page_size
        # of prompt and answer together; the last token of an answer is not kept
        self.context = min(model.config.max_position_embeddings, room + 1)
        self.name = options.name or name_of(options.model)
        self.created = int(time.time())
        self.metrics = Metrics(engine, self.name)
        self.worker = Worker(engine, self.metrics, self._die)
        self.draining = self.ended = self.dead = False
        self.on_death: Callable[[], None] = lambda: None
        self.answers = 0  # in the house: computed, or waiting
        self.visits: set[Visit] = set()
        self.quiet = asyncio.Event()
        self.quiet.set()

    def enter(self, answers: int) -> Visit:
        """Take places for so many answers. Raises Refusal where there are none."""
        places = self.options.rows + self.options.queue
        if answers > places:
            raise Refusal(
                400,
                f"The call asks for {answers} answers, and this server has {places}"
                " places: ask for fewer at once.",
            )
        if self.answers + answers > places:
            raise Refusal(
                429,
                f"All {places} places of this server are taken: try again soon.",
                code="server_busy",
                headers={"Retry-After": "1"},
            )
        return Visit(self, answers)

    def end_all(self) -> None:
        """Tell whoever is in that nothing more will come."""
        self.ended = True
        for visit in self.visits:
            if visit.job:
                visit.job.refuse(shutting_down())

    def check_open(self) -> None:
        """Raises Refusal while the server is shutting down."""
        if self.draining:
            raise shutting_down()

    def check_model(self, name: str | None) -> None:
        if name not in (None, self.name):
            raise Refusal(
                404,
                f"There is no model {readable(name, 100)!r}; there is {self.name!r}.",
                param="model",
                code="model_not_found",
            )

    def chat_ids(
        self, messages: list[Message], add_generation_prompt: bool = True
    ) -> list[int]:
        """The ids of a chat. Raises Refusal for one that the template or the vocabulary
        does not take."""
        try:
            chat = [message.plain() for message in messages]
            return self.tokenizer.encode_chat(chat, add_generation_prompt)
        except CheckpointError as error:  # the template's fault
            raise Refusal(500, error) from error
        except ValueError as error:
            raise Refusal(400, error, param="messages") from error

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text, in which the names of special tokens count as these."""
        try:
            return self.tokenizer.encode(text)
        except ValueError as error:
            raise Refusal(400, error, param="prompt") from error

    def requests(self, body: ChatCompletion | Completion) -> list[Request]:
        """What the engine is asked for; takes a while, so it is not for the event
        loop."""
        if isinstance(body, ChatCompletion):
            prompts = [self.chat_ids(body.messages)]
        else:
            prompts = [
                self.text_ids(one) if isinstance(one, str) else one
                for one in body.prompts
            ]
        return [self._request(body, ids) for ids in prompts]

    def _request(self, body: ChatCompletion | Completion, ids: list[int]) -> Request:
        param = "messages" if isinstance(body, ChatCompletion) else "prompt"
        limit = min(self.options.max_prompt or self.context, self.context - 1)
        new = body.wanted_tokens or self.context - len(ids)
        problem = None
        if len(ids) > limit:
            problem = f"The prompt has {len(ids)} tokens, and this server takes {limit}"
        elif len(ids) + new > self.context:
            problem = (
                f"The prompt has {len(ids)} tokens and max_tokens is {new}, together"
                f" more than this server's context of {self.context}"
            )
        if problem:
            fix = f"{problem}: shorten one of them."
            raise Refusal(400, fix, param=param, code="context_length_exceeded")
        return Request(
            ids,
            body.settings(new),
            () if body.ignore_eos else self.tokenizer.eos_token_ids,
            body.stops,
            body.n or 1,
            body.wanted_logprobs,
        )

    def _die(self) -> None:
        self.draining = self.dead = True
        self.on_death()


class Visit:
    """A call while it is in the house. `close` shows it out, and ends what it has
    begun."""

    def __init__(self, service: Service, answers: int) -> None:
        self.service, self.answers = service, answers
        self.job: Job | None = None
        self.start = time.monotonic()
        service.answers += answers
        service.visits.add(self)
        service.quiet.clear()

    async def submit(self, job: Job) -> None:
        """Raises Refusal for what the engine does not take."""
        if self.service.ended:
            raise shutting_down()
        self.job = job
        await self.service.worker.submit(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        service = self.service
        if self.job:
            service.worker.abort(self.job)
            self._log(self.job)
        service.answers -= self.answers
        service.visits.remove(self)
        if not service.visits:
            service.quiet.set()

    def _log(self, job: Job) -> None:
        reasons = [choice.finish_reason or "left" for choice in job.choices]
        prompt = sum(len(request.prompt) for request in job.requests)
        new = sum(len(choice.token_ids) for choice in job.choices)
        seconds = time.monotonic() - self.start
        log.info(
            "%d prompt tokens, %d new ones, %s, %.2f s",
            prompt, new, ", ".join(reasons) or "refused", seconds,
        )  # fmt: skip
        if self.service.options.log_prompts:
            for request in job.requests:
                text = self.service.tokenizer.decode(request.prompt)
                log.info("prompt: %s", readable(text))


def warm_up(engine: Engine) -> None:
    """Answer once, with a prompt of more than a token, so that no client waits for what
    is compiled at its first use."""
    settings = GenerationConfig(max_new_tokens=2, do_sample=False)
    engine.add(Request((0, 0), settings))
    engine.run()
    engine.counts.clear()
    engine.ended.clear()


def name_of(model: str) -> str:
    """What clients call a model that was given by name or by path."""
    path = Path(model).resolve()
    if model in PINNED_MODELS or not path.exists():  # a name on the hub
        return model
    return path.stem if path.suffix == ".gguf" else path.name
