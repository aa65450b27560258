"""Without numba, whatever needs no compiled kernels works as with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.notebook_tools import clean_env

BLOCKED = """
import sys
sys.modules["numba"] = None  # importing it is an ImportError from here on
sys.modules["llvmlite"] = None
"""
MODEL = "smollm2-135m-instruct"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + program],
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_needs_no_kernels() -> None:
    """All else imports; a model as built generates."""
    run(f"""
import pkgutil, importlib, llm_course
kernels = ("llm_course.engine", "llm_course.bench", "llm_course.checkpoints.packed")
for module in pkgutil.walk_packages(llm_course.__path__, "llm_course."):
    if not module.name.startswith(kernels):
        importlib.import_module(module.name)
from llm_course.checkpoints import load_pretrained
from llm_course.engine import Conversation
model, tokenizer = load_pretrained({MODEL!r})
assert len(list(Conversation(model).stream(tokenizer.encode("Hello")))) > 0
""")


def test_the_chat_has_a_help() -> None:
    text = run("""
from llm_course.chat import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
""")
    assert "--weights" in text


def test_the_blocked_import_is_blocked() -> None:
    with pytest.raises(AssertionError, match="numba"):
        run("import numba")
