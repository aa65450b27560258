"""Text that others wrote is made fit for a terminal in one place."""

from __future__ import annotations

import pickle

import pytest

from llm_course.errors import CheckpointError, readable

OBEYED = ["\x1b[2J", "\x07", "\r", "\x00", "\x9b1m", "\x7f"]
TURNING = ["\u202e", "\u2066", "\u2069", "\u200f", "\u061c", "\u2028"]


@pytest.mark.parametrize("text", [*OBEYED, *TURNING, "\ud800"])
def test_what_a_terminal_obeys_is_spelt_out(text):
    shown = readable(f"a{text}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert str(CheckpointError(f"a{text}b")) == shown


def test_other_text_is_left_alone():
    text = "Grüße\n\t日本語 שלום 👩‍🚀 e\u0301 \\x1b"
    assert readable(text) == text
    assert readable(readable("\x1b")) == readable("\x1b")


def test_long_text_loses_its_middle():
    shown = readable("start " + "x" * 10**6 + " fix", 100)
    assert len(shown) < 120
    assert shown.startswith("start ")
    assert shown.endswith(" fix")
    assert len(str(CheckpointError("\x1b" * 10**6))) < 10_000
    assert readable("x" * 10**6, None) == "x" * 10**6


def test_errors_survive_pickling():
    error = CheckpointError("a\x1bb")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a\\x1bb"
