"""The server's command line: each wrong value is one sentence, with the value and the
fix."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from llm_course.serve.gate import is_loopback
from llm_course.serve.options import KEY_VARIABLE, parse
from llm_course.serve.program import main
from llm_course.serve.schema import ChatCompletion, Completion
from llm_course.serve.service import name_of
from tests.notebook_tools import clean_env


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--port", "70000"],
            "--port: '70000': must be a whole number from 0 to 65535",
        ),
        (["--port", "x"], "--port: 'x': must be"),
        (["--rows", "0"], "--rows: '0': must be a whole number from 1"),
        (["--queue", "-1"], "--queue: '-1': must be"),
        (["--cache", "0.5"], "--cache: '0.5': must be"),
        (["--threads", "0"], "--threads: '0': must be"),
        (["--max-body", "0"], "--max-body: '0'"),
        (["--max-prompt", "0"], "--max-prompt: '0'"),
        (["--grace", "nan"], "--grace: 'nan': must be a number of seconds"),
        (["--grace", "-1"], "--grace: '-1': must be a number of seconds"),
        (["--api-key", ""], "--api-key: must be ASCII characters, and at least one"),
        (["--api-key", "schlüssel"], "--api-key: must be ASCII"),
        (["--rows", "300"], "--step-tokens 256: must be at least --rows 300"),
        (["--weights", "int3"], "invalid choice: 'int3'"),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_wrong_value_is_one_sentence(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("llm_course.serve: error: ")
    assert complaint in last


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--model", "/no/such/folder"], "no such folder: /no/such/folder"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid --port 0"),
        (["--host", "203.0.113.1"], "an address of this machine"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", "0", *options]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert complaint in line


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["--port", port, "--model", "never loaded"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"--port {port}: " in line
    assert "Give another port" in line


def test_the_key_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert parse([]).api_key is None
    monkeypatch.setenv(KEY_VARIABLE, "k")
    assert parse([]).api_key == "k"
    assert parse(["--api-key", "other"]).api_key == "other"


def test_loopback_is_the_default() -> None:
    assert is_loopback(parse([]).host)
    assert is_loopback("::1")
    for host in ("0.0.0.0", "example.org", "", "127.0.0.1.evil.example"):
        assert not is_loopback(host)


def test_a_model_is_called_by_its_name_or_its_files(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").touch()
    assert name_of("smollm2-135m-instruct") == "smollm2-135m-instruct"
    assert name_of("org/name") == "org/name"
    assert name_of(str(tmp_path)) == tmp_path.name
    assert name_of(str(tmp_path / "x.gguf")) == "x"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Completion, {"prompt": [1.5] * 1000}),
        (Completion, {"prompt": [[]] * 1000}),
        (Completion, {"prompt": [["a"] * 1000] * 100}),
        (ChatCompletion, {"messages": [{}] * 1000}),
        (ChatCompletion, {"messages": [{"role": "user", "content": [{}] * 1000}]}),
        (ChatCompletion, {"messages": [{"role": "user", "content": "a"}], "stop": [1]}),
    ],
)
def test_of_many_faults_few_are_collected(kind: type[BaseModel], body: Any) -> None:
    """A body of a thousand faults must not take a thousand times as long."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert caught.value.error_count() < 10


@pytest.mark.slow
def test_without_the_extra_one_sentence_says_how_to_get_it() -> None:
    hide = "import sys, runpy; sys.modules['uvicorn'] = None;"
    run = "runpy.run_module('llm_course.serve', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", hide + run],
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert done.stderr.startswith("uvicorn is not installed, which the server needs:")
    assert done.stderr.count("\n") == 1
