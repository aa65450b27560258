"""What the server does not do, in OpenAI's form of an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from llm_course.errors import readable

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Refusal(Exception):
    """A request is not answered, or not to its end: the status, and a sentence for
    whoever sent it."""

    def __init__(
        self,
        status: int,
        message: object,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": readable(self, 500),
                "type": KINDS.get(self.status, usual),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def shutting_down() -> Refusal:
    return Refusal(
        503,
        "The server is shutting down: ask another one, or this one later.",
        code="shutting_down",
        headers={"Retry-After": "10"},
    )


def failed() -> Refusal:
    return Refusal(
        500, "The engine failed over this request. The server's log says how."
    )


def damaged() -> Refusal:
    return Refusal(
        500,
        "The model's logits for this request are not finite: its weights are damaged,"
        " or too large for their dtype.",
        code="logits_not_finite",
    )
