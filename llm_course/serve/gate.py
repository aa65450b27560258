"""What a call has to pass before it is looked into: who sends it, and how large it
is."""

from __future__ import annotations

import asyncio
import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_course.serve.refusals import Refusal
from llm_course.serve.service import Service

OPEN = ("/", "/health", "/page.css", "/page.js")  # without a key
BODY_SECONDS = 30.0  # in which a body has to arrive


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Gate:
    """An ASGI application in front of another one."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_sender(scope["path"], headers)
            if scope["method"] == "POST":
                self.service.check_open()
                receive = await self._whole_body(headers, receive)
        except Refusal as refusal:
            # what is left of the body would be read as the next call
            refusal.headers["Connection"] = "close"
            await refusal.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_sender(self, path: str, headers: Headers) -> None:
        key = self.service.options.api_key
        if key is None:
            self._check_host(headers.get("host", ""))
        elif path not in OPEN:
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(shown.strip().encode(), key.encode())
            if scheme.lower() != "bearer" or not same:
                raise Refusal(
                    401,
                    "This server wants its API key: Authorization: Bearer KEY.",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )

    def _check_host(self, given: str) -> None:
        """A page of the web may have a name that it lets point to this machine; its
        scripts would then pass for ours. They cannot change what they were called
        by."""
        if not is_loopback(self.service.options.host):
            return
        try:
            host = urlsplit(f"//{given}").hostname or ""
        except ValueError:
            host = ""
        if not is_loopback(host):
            raise Refusal(
                403,
                "This server answers to localhost alone: give it --host, or an API key,"
                " to serve under another name.",
            )

    async def _whole_body(self, headers: Headers, receive: Receive) -> Receive:
        """Read the body -> a `receive` that gives it first."""
        limit = self.service.options.max_body
        too_long = Refusal(
            413,
            f"The body has more than {limit} bytes, which is this server's limit.",
            code="request_too_large",
        )
        stated = headers.get("content-length", "0")
        if stated.isdecimal() and int(stated[:20]) > limit:
            raise too_long
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return receive
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise too_long
        except TimeoutError:
            raise Refusal(
                408, f"The body did not arrive within {BODY_SECONDS:g} seconds."
            ) from None
        first: list[Message] = [
            {"type": "http.request", "body": bytes(body), "more_body": False}
        ]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        return replay
