"""The paths of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi import Request as Call
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from llm_course.errors import readable
from llm_course.serve.forms import ChatForm, Form, TextForm
from llm_course.serve.gate import Gate
from llm_course.serve.refusals import Refusal, failed
from llm_course.serve.schema import ChatCompletion, Completion, Refused, Tokenize
from llm_course.serve.service import Service
from llm_course.serve.worker import Job

T = TypeVar("T")
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused} for status in (400, 401, 403, 404, 413, 429, 500, 503)
}
PIECE = {"type": "string", "description": "A piece as JSON; [DONE] at the end."}
EVENT = {"type": "object", "properties": {"data": PIECE}, "required": ["data"]}
STREAM = {"text/event-stream": {"schema": EVENT}}
COMPLETIONS = {**REFUSALS, 200: {"content": STREAM, "description": "An answer."}}
PAGE = {"/": ("index.html", "text/html"), "/page.css": ("page.css", "text/css")}
PAGE["/page.js"] = ("page.js", "text/javascript")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:;"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def make_app(service: Service) -> FastAPI:
    """The ASGI application that serves `service`; its engine runs while it does."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await service.worker.stop()

    # the pages that FastAPI would show load their scripts from elsewhere
    app = FastAPI(title="llm_course", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, service=service)
    _refuse_in_one_form(app)
    _add_completions(app, service)
    _add_what_tells(app, service)
    _add_page(app)
    return app


def _add_completions(app: FastAPI, service: Service) -> None:
    async def answer(
        call: Call, body: ChatCompletion | Completion, form: Form, answers: int
    ) -> Response:
        async with AsyncExitStack() as stack:
            visit = service.enter(answers)
            stack.callback(visit.close)
            requests = await asyncio.to_thread(service.requests, body)
            job = Job(requests, streams=bool(body.stream))
            await visit.submit(job)
            if body.stream:
                return EventStream(events(job, form), stack.pop_all())
            await unless_gone(call, finished(job))
            # not in the event loop: thousands of log-probabilities take a while
            data = await asyncio.to_thread(lambda: json.dumps(form.whole(job)).encode())
            return Response(data, media_type="application/json")

    @app.post("/v1/chat/completions", responses=COMPLETIONS)
    async def chat_completions(call: Call, body: ChatCompletion) -> Response:
        service.check_model(body.model)
        form = ChatForm(service.name, service.tokenizer, body.wants_usage)
        return await answer(call, body, form, body.n or 1)

    @app.post("/v1/completions", responses=COMPLETIONS)
    async def completions(call: Call, body: Completion) -> Response:
        service.check_model(body.model)
        form = TextForm(service.name, service.tokenizer, body.wants_usage)
        return await answer(call, body, form, (body.n or 1) * len(body.prompts))

    @app.post("/tokenize", responses=REFUSALS)
    async def tokenize(body: Tokenize) -> dict[str, Any]:
        service.check_model(body.model)
        with service.enter(1):
            if body.messages is not None:
                given: tuple[Any, ...] = (body.messages, body.add_generation_prompt)
                ids = await asyncio.to_thread(service.chat_ids, *given)
            else:
                ids = await asyncio.to_thread(service.text_ids, body.prompt or "")
        found = {"count": len(ids), "max_model_len": service.context, "tokens": ids}
        if body.return_token_strs:
            found["token_strs"] = [service.tokenizer.name_of(i) for i in ids]
        return found


def _add_what_tells(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses=REFUSALS)
    async def models() -> dict[str, Any]:
        model = {
            "id": service.name,
            "object": "model",
            "created": service.created,
            "owned_by": "llm_course",
            "max_model_len": service.context,
        }
        return {"object": "list", "data": [model]}

    @app.get("/health", responses={503: {"model": Refused}})
    async def health() -> dict[str, Any]:
        service.check_open()
        return {"status": "ok"}

    @app.get("/metrics", responses=REFUSALS, response_class=Response)
    async def metrics() -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(service.metrics.text(), headers={"Content-Type": kind})


def _add_page(app: FastAPI) -> None:
    """The page to chat, whose files come with the package."""

    def add(path: str, data: bytes, kind: str) -> None:
        @app.get(path, include_in_schema=False)
        async def page() -> Response:
            return Response(data, media_type=kind, headers=PAGE_HEADERS)

    for path, (name, kind) in PAGE.items():
        add(path, files("llm_course.serve").joinpath("page", name).read_bytes(), kind)


def _refuse_in_one_form(app: FastAPI) -> None:
    """All errors are OpenAI's objects, those of the framework too."""

    @app.exception_handler(Refusal)
    async def refusal(_call: Call, error: Refusal) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def wrong_values(_call: Call, error: RequestValidationError) -> Response:
        return as_refusal(error).response()

    @app.exception_handler(HTTPException)
    async def http_error(call: Call, error: HTTPException) -> Response:
        path = readable(call.url.path, 100)
        text = {
            404: f"There is nothing at {path}.",
            405: f"{path} is not for {readable(call.method, 20)}.",
        }.get(error.status_code, error.detail)
        return Refusal(error.status_code, text, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def fault(_call: Call, _error: Exception) -> Response:
        return failed().response()

    describe = app.openapi

    def without_422() -> dict[str, Any]:
        described = describe()
        for methods in described["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        return described

    app.openapi = without_422  # type: ignore[method-assign]


def as_refusal(error: RequestValidationError) -> Refusal:
    """The first thing that is wrong with a body, and where."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "The body is not JSON.")
    place = [str(part) for part in first["loc"][1:]]
    if not place and first["type"] in ("missing", "model_attributes_type"):
        return Refusal(
            400,
            "The body must be a JSON object, sent as Content-Type: application/json.",
        )
    message = first["msg"].removeprefix("Value error, ")
    where = ".".join(place)
    if place and first["type"] != "missing":
        message = f"{where} = {readable(repr(first['input']), 60)}: {message}"
    elif place:
        message = f"{where} is missing"
    return Refusal(400, message, param=place[0] if place else None)


class EventStream(StreamingResponse):
    """Server-sent events. `held` is closed at the end, however it comes."""

    def __init__(self, content: AsyncIterator[str], held: AsyncExitStack) -> None:
        super().__init__(content, media_type="text/event-stream")
        self.headers["Cache-Control"] = "no-cache"
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.held:
            await super().__call__(scope, receive, send)


async def events(job: Job, form: Form) -> AsyncIterator[str]:
    """An answer in pieces; a failure on the way is the last of them."""

    def event(data: dict[str, Any]) -> str:
        return f"data: {json.dumps(data)}\n\n"

    try:
        for piece in form.opening(job.count):
            yield event(piece)
        async for delta in job.deltas():
            if added := form.added(delta):
                yield event(added)
        for piece in form.closing(job):
            yield event(piece)
    except Refusal as refusal:
        yield event(refusal.body)
    yield "data: [DONE]\n\n"


async def finished(job: Job) -> None:
    async for _delta in job.deltas():
        pass


async def unless_gone(call: Call, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises Refusal if the client goes away before."""

    async def gone() -> None:
        while (await call.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refusal(499, "The client went away.")  # nobody reads this
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
