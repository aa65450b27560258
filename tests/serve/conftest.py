"""One server for all tests of the folder, on a tiny model with a real tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_course.checkpoints import load_pretrained
from tests.serve.tools import Server, running, write_tiny_model


@pytest.fixture(scope="session")
def tiny_served(smollm2, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny model."""
    return write_tiny_model(tmp_path_factory.mktemp("served") / "tiny", smollm2[1])


@pytest.fixture(scope="session")
def tiny_model(tiny_served: Path):
    """(model, tokenizer) of the same folder."""
    return load_pretrained(tiny_served)


@pytest.fixture(scope="session")
def server(
    tiny_served: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    options = ("--rows", "8", "--cache", "8", "--max-body", "65536")
    with running(tiny_served, log, *options) as server:
        yield server
