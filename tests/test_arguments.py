"""`checked` says which argument has a wrong type, and lets everything else through."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llm_course.arguments import (
    Must,
    above,
    at_least,
    axes_agree,
    boolean_mask,
    checked,
    ids_below,
    shaped,
    within,
)
from llm_course.types import Logits

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


def test_what_an_annotation_asks_beside_the_type() -> None:
    @checked
    def best(logits: Logits, n: Annotated[int, Must("be even", is_even)] = 2) -> Tensor:
        return logits

    best(torch.zeros(3))
    with pytest.raises(ValueError, match=r"best: n = 3: must be even"):
        best(torch.zeros(3), 3)
    with pytest.raises(ValueError, match=r"logits = \[\] of torch.float32: must be"):
        best(torch.zeros(()))
    with pytest.raises(ValueError, match=r"logits = \[2\] of torch.int64: must be"):
        best(torch.zeros(2).long())
    with pytest.raises(TypeError, match="n = 'x' is a str; give an int"):
        best(torch.zeros(3), "x")


def is_even(n: int) -> bool:
    return n % 2 == 0


def test_a_context_manager_refuses_where_it_is_called() -> None:
    @checked
    @contextmanager
    def opened(x: Tensor) -> Iterator[Tensor]:
        yield x

    with pytest.raises(TypeError, match="x = 3 is an int; give a Tensor"):
        opened(3)


def test_annotations_of_a_notebook_are_types_and_no_text() -> None:
    def count(n):
        return n

    count.__annotations__ = {"n": int, "return": int}
    with pytest.raises(TypeError, match="n = 'x' is a str; give an int"):
        checked(count)("x")


def test_numbers_have_bounds() -> None:
    at_least(1, n=1, m=None)
    within(0, 1, p=0, q=1.0)
    above(0, p=1e-9)
    for low, value in [(1, 0), (0.0, -1e-9), (0, float("nan"))]:
        with pytest.raises(ValueError, match=rf"n = {value}: must be at least {low}"):
            at_least(low, m=low, n=value)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"p = {value}: must be from 0 to 1"):
            within(0, 1, p=value)
    for value in (0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"p = {value}: must be above 0"):
            above(0, p=value)


def test_ids_are_whole_numbers_below_a_limit() -> None:
    ids_below(4, ids=torch.tensor([0, 3]), none=torch.zeros(1, 0).long())
    for bad, text in [([0, 4], "0 to 4"), ([-1, 3], "-1 to 3"), ([0.5], "0.5 to 0.5")]:
        with pytest.raises(ValueError, match=rf"ids are {text}, .* from 0 to 3"):
            ids_below(4, ids=torch.tensor(bad))


@pytest.mark.parametrize(
    ("shape", "good", "bad", "text"),
    [
        ((..., 4), [(4,), (2, 3, 4)], [(3,), (4, 1), ()], "[..., 4]"),
        ((None, 3), [(1, 3), (5, 3)], [(3,), (1, 1, 3), (3, 1)], "[_, 3]"),
        ((1, 2), [(1, 2)], [(2, 2), (1, 2, 1)], "[1, 2]"),
    ],
)
def test_tensors_have_shapes(
    shape: Any, good: list[Any], bad: list[Any], text: str
) -> None:
    for size in good:
        shaped(shape, x=torch.zeros(size))
    for size in bad:
        with pytest.raises(ValueError, match="x has shape") as caught:
            shaped(shape, x=torch.zeros(size))
        assert str(caught.value) == f"x has shape {[*size]}: must be {text}"


@pytest.mark.parametrize(
    ("x", "y", "fits"),
    [
        ((2, 3, 8), (2, 4), True),
        ((2, 3, 8), (1, 4), True),
        ((1, 3, 8), (2, 4), False),
        ((2, 3, 8), (3, 4), False),
        ((2, 3, 8), (2, 8), False),
        ((2, 3, 7), (2, 4), False),
        ((3, 8), (2, 4), False),
        ((2, 3, 8), (2, 3, 4), False),
    ],
)
def test_a_letter_means_one_size(x: Any, y: Any, fits: bool) -> None:
    given = {"x": torch.zeros(x), "y": torch.zeros(y)}
    if fits:
        axes_agree("B H D, b D/2", **given)
        return
    text = f"x has shape {[*x]}, y has shape {[*y]}: must be [B H D], [b D/2]"
    with pytest.raises(ValueError, match=re.escape(text)):
        axes_agree("B H D, b D/2", **given)


def test_a_mask_is_boolean_and_broadcastable() -> None:
    for shape in [(1, 1, 3, 5), (2, 4, 3, 5), (3, 5), (1,)]:
        boolean_mask((2, 4, 3, 5), mask=torch.zeros(shape).bool(), none=None)
    for bad in [(3, 3), (1, 3, 3, 5), (1, 1, 1, 3, 5)]:
        with pytest.raises(ValueError, match=r"mask has shape \[.*: must be broadcast"):
            boolean_mask((2, 4, 3, 5), mask=torch.zeros(bad).bool())
    with pytest.raises(ValueError, match=r"mask is torch.int64: must be boolean"):
        boolean_mask((2, 4, 3, 5), mask=torch.zeros(3, 5).long())
