"""The client's lines in docs/serve.md, against a server; and what the page says of the
options and the metrics."""

from __future__ import annotations

import re

import pytest

from llm_course.serve.options import parse
from tests.doc_tools import ROOT, blocks
from tests.serve.tools import NAME, Server

PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_lines_of_the_page_run_as_they_are_written(server: Server) -> None:
    printed: list[tuple[object, ...]] = []
    scope = {"print": lambda *words: printed.append(words)}
    mine = [block for block in blocks("python") if block.page == "serve.md"]
    for block in mine:
        text = block.text.replace("http://127.0.0.1:8000", server.url)
        exec(text.replace("smollm2-135m-instruct", NAME), scope)
    assert len(printed) == len(mine) == 2
    assert printed[0][1] == 32


@pytest.mark.slow
def test_the_paths_of_the_page_are_those_of_the_server(server: Server) -> None:
    table = PAGE.partition("| path |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(/[\w/.]*)`", table)) - {"/openapi.json"}
    assert named == set(server.get("/openapi.json").json()["paths"])


@pytest.mark.slow
def test_the_metrics_of_the_page_are_those_of_the_server(server: Server) -> None:
    server.post("/v1/completions", {"prompt": "Hi"})
    section = PAGE.partition("## Metrics")[2].partition("## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    ends = r"_(bucket|count|sum|created)$"
    assert named == {re.sub(ends, "", name) for name in server.metrics()}


def test_the_defaults_of_the_page_are_those_of_the_options() -> None:
    options = vars(parse([]))
    table = PAGE.partition("## Limits")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = re.findall(r"`--([\w-]+)` \| (\d+)", table)
    assert len(rows) == 6
    for name, number in rows:
        assert options[name.replace("-", "_")] == int(number)
