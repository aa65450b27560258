"""`checked` says which argument has a wrong type, and lets everything else through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llm_course.arguments import checked

if TYPE_CHECKING:
    from nowhere import Unknown


@checked
def public(
    x: Tensor | None = None,
    n: int = 1,
    p: float = 1.0,
    flag: bool = True,
    ids: Sequence[int] = (),
    path: str | Path = "x",
    settings: dict[str, Any] | None = None,
    anything: Any = None,
    unknown: Unknown = None,
    *,
    many: Iterable[int] = (),
) -> str:
    """What it says of itself."""
    return "ran"


GOOD = [
    {"x": torch.ones(1), "n": np.int64(3), "p": np.float32(0.5), "flag": False},
    {"p": 2, "ids": [1], "path": Path("y"), "settings": {}, "many": {1, 2}},
    {"ids": range(3), "many": torch.ones(3), "anything": "x", "unknown": 7},
]
BAD = [
    ({"x": [1.0]}, "public: x = [1.0] is a list; give a Tensor or None"),
    ({"n": 1.5}, "n = 1.5 is a float; give an int"),
    ({"n": True}, "n = True is a bool; give an int"),
    ({"n": None}, "n = None is a NoneType; give an int"),
    ({"p": "x"}, "p = 'x' is a str; give a float"),
    ({"flag": 1}, "flag = 1 is an int; give a bool"),
    ({"ids": "abc"}, "ids = 'abc' is a str; give a Sequence"),
    ({"ids": 3}, "ids = 3 is an int; give a Sequence"),
    ({"path": b"x"}, "path = b'x' is a bytes; give a str or a Path"),
    ({"settings": []}, "settings = [] is a list; give a dict or None"),
    ({"many": 3}, "many = 3 is an int; give an Iterable"),
]


@pytest.mark.parametrize("arguments", GOOD)
def test_what_fits_is_let_through(arguments: dict[str, Any]) -> None:
    assert public(**arguments) == "ran"


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        public(**arguments)
    assert str(caught.value).endswith(message)


def test_arguments_by_position_are_named_too() -> None:
    with pytest.raises(TypeError, match=r"public: n = 'x' is a str; give an int"):
        public(None, "x")


def test_a_long_value_is_cut() -> None:
    with pytest.raises(TypeError) as caught:
        public("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_function_stays_what_it_was() -> None:
    assert public.__doc__ == "What it says of itself."
    assert public.__name__ == "public"


def test_a_generator_refuses_where_it_is_called() -> None:
    @checked
    def count(n: int) -> Iterator[int]:
        yield n

    with pytest.raises(TypeError, match="n = 'x'"):
        count("x")
    assert list(count(2)) == [2]


def test_methods_and_constructors() -> None:
    class Box:
        @checked
        def __init__(self, size: int) -> None:
            self.size = size

        @classmethod
        @checked
        def of(cls, text: str) -> Box:
            return cls(len(text))

    assert Box.of("abc").size == 3
    with pytest.raises(TypeError, match=r"Box: size = 'x' is a str"):
        Box("x")
    with pytest.raises(TypeError, match=r"Box.of: text = 3 is an int; give a str"):
        Box.of(3)
