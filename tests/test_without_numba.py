"""Without numba, whatever needs no compiled kernels works as with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.notebook_tools import clean_env

pytestmark = pytest.mark.slow
BLOCKED = """
import sys
sys.modules["numba"] = None  # importing it is an ImportError from here on
sys.modules["llvmlite"] = None
"""
ROOT = Path(__file__).parents[1]
MODEL = "smollm2-135m-instruct"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + program],
        cwd=ROOT,
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
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


def test_a_model_is_fused_where_kernels_cannot_run() -> None:
    run("""
import warnings
from llm_course.engine import FusedModel, prepare_for_inference
from tests.helpers import small_model
with warnings.catch_warnings(record=True) as seen:
    assert isinstance(prepare_for_inference(small_model()), FusedModel)
assert "pip install numba" in str(seen[0].message)
try:
    prepare_for_inference(small_model(), "int8")
except ValueError as error:
    assert "without Numba" in str(error)
else:
    raise AssertionError("int8 without kernels")
""")


def test_the_chat_answers() -> None:
    run("""
import io, sys
from llm_course.chat import main
sys.stdin = io.StringIO("What is the capital of France?")
assert main(["--set", "max_new_tokens", "2"]) == 0
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
