"""The chat as a program: its input from a pipe and from a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_course.chat import main
from tests.notebook_tools import clean_env

pytestmark = pytest.mark.slow

CHAT = [sys.executable, "-m", "llm_course.chat"]


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err


def test_input_from_a_pipe() -> None:
    done = subprocess.run(
        [*CHAT, "--set", "temperature", "0", "--system", "Answer briefly."],
        input="What is the capital of Japan?\n/set seed x\n",
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Tokyo" in done.stdout
    assert "seed = 'x': must be a whole number" in done.stdout
    assert ">" not in done.stdout


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "q4_1", "file"])
def test_weights_in_fewer_bits(weights: str) -> None:
    done = subprocess.run(
        [*CHAT, "--set", "temperature", "0", "--weights", weights, "--threads", "1"],
        input="What is the capital of France?\n",
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--system", " ", "--set", "seed", "x"], "seed = 'x': must be a whole number"),
        (["--weights", "file", "--model", "."], "needs a .gguf file"),
    ],
)
def test_options_that_cannot_be(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--threads", "0"], "--threads: '0': must be a whole number from 1 to 1024"),
        (["--threads", "\x1b[2J"], "--threads: '\\x1b[2J': must be a whole number"),
        (["--weights", "int3"], "--weights: invalid choice: 'int3'"),
    ],
)
def test_options_that_are_no_values(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_weights_are_those_of_the_engine() -> None:
    from llm_course.engine.quantize import WEIGHTS as PREPARED
    from llm_course.programs import WEIGHTS

    assert (*PREPARED, "file") == WEIGHTS


def test_any_bytes_come_in_and_any_text_goes_out() -> None:
    done = subprocess.run(
        [*CHAT, "--set", "greedy", "on"],
        input=b"\xff\nRepeat: caf\xc3\xa9\n",
        env=clean_env() | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert b"half a character" in done.stdout
    assert done.stdout.decode().count("; prompt: ") == 1


def test_a_reader_that_leaves_ends_the_chat_quietly() -> None:
    with subprocess.Popen(
        CHAT,
        env=clean_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdin.write(b"/help\n/help\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("CHAT", " ".join(CHAT))],
        env=clean_env(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams as a shell does")
@pytest.mark.parametrize(
    ("command", "status", "complaint"),
    [
        ("CHAT <&-", 1, "The standard input is closed"),
        ("echo Hi | CHAT >&-", 1, "The standard output is closed"),
        ("echo /help | CHAT >/dev/full", 1, "No space left on device"),
        ("CHAT 0>/dev/null", 1, "Bad file descriptor"),
        ("CHAT --model nope 2>&-", 1, ""),
        ("CHAT --model nope <&- >&- 2>&-", 1, ""),
        ("CHAT $'\\e[2J'", 2, r"unrecognized arguments: \x1b[2J"),
        ("CHAT --model $'\\e[2J'", 1, r"\x1b[2J"),
    ],
)
def test_streams_that_are_closed_or_full_are_one_sentence(
    command: str, status: int, complaint: str
) -> None:
    done = shell(command)
    assert done.returncode == status
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "\x1b" not in done.stderr
    assert complaint == "" or done.stderr.strip().splitlines()[-1:] == [
        line for line in done.stderr.splitlines() if complaint in line
    ]


def read_until(master: int, found: Callable[[str], bool], seconds: float = 90) -> str:
    """What a terminal shows, up to what is looked for."""
    import select

    text, end = "", time.monotonic() + seconds
    while not found(text):
        assert time.monotonic() < end, text
        if select.select([master], [], [], 1)[0]:
            text += os.read(master, 4096).decode(errors="replace")
    return text


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_ctrl_c_in_a_terminal() -> None:
    import pty

    master, slave = pty.openpty()
    command = [*CHAT, "--set", "temperature", "0", "--set", "max_new_tokens", "2000"]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        # A session of its own, with this terminal: Ctrl-C reaches it and nothing else.
        [sys.executable, "-c", TERMINAL, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=clean_env(),
        cwd=root,
        start_new_session=True,
    )
    os.close(slave)
    try:
        read_until(master, lambda text: text.endswith("> "))
        os.write(
            master, b"Write a very long story about the sea, with many chapters.\n"
        )
        read_until(master, lambda text: len(text) > 120)
        os.write(master, b"\x03")
        read_until(master, lambda text: ", stopped]" in text and text.endswith("> "))
        # readline overlooks a signal between its prompt and its wait for a key, until
        # there is a key: let it come to its wait.
        time.sleep(0.5)
        os.write(master, b"\x03")
        os.write(master, b"\n")
        read_until(
            master,
            lambda text: (
                "Ctrl-C again, Ctrl-D or /quit" in text and text.endswith("> ")
            ),
        )
        os.write(master, b"/quit\n")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
