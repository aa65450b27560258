"""Calls that a fuzzer makes of the server's own description."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serve.tools import NAME, Server

pytestmark = pytest.mark.slow

CALLS = {
    "/v1/chat/completions": 20, "/v1/completions": 30, "/tokenize": 15,
    "/v1/models": 5, "/health": 5,
}  # fmt: skip
BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def described(server: Server) -> Any:
    """The description, in which the model is the one that is served."""
    schema = server.get("/openapi.json").json()
    for kind in ("ChatCompletion", "Completion", "Tokenize"):
        body = schema["components"]["schemas"][kind]
        body["properties"]["model"] = {"enum": [NAME]}
        few = {"type": "integer", "minimum": 1, "maximum": 8}
        body["properties"]["max_tokens"] = few
        body.setdefault("required", []).append("max_tokens")
        if "n" in body["properties"]:
            body["properties"]["n"] = few
    text = {"type": "string", "pattern": "^[ -~]{1,40}$"}  # the vocabulary has these
    schemas = schema["components"]["schemas"]
    for kind, name in (("Message", "content"), ("Completion", "prompt")):
        schemas[kind]["properties"][name] = text
    loaded = schemathesis.openapi.from_dict(schema)
    loaded.config.update(base_url=server.url)
    return loaded


@pytest.mark.parametrize("path", CALLS)
def test_no_call_breaks_the_server(server: Server, path: str) -> None:
    load_all_checks()
    schema = described(server)
    (method,) = schema[path]
    operation = schema[path][method]
    strategy = st.one_of(operation.as_strategy())

    @settings(BOUNDED, max_examples=CALLS[path])
    @given(case=strategy)
    def call(case: Any) -> None:
        answer = case.call(timeout=20)
        # no schema can say what a vocabulary spells, and what a context holds
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        seen.append(answer.status_code)

    seen: list[int] = []
    call()
    assert 200 in seen
    assert max(seen) < 500
    assert server.is_empty()
    assert "Traceback" not in server.log, server.log
