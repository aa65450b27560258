"""The check of exercise 02.ntk: the base with which no pair meets a new angle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from llm_course.exercises.records import Case, Exercise, case


def first_slow(theta: float, head_dim: int, context: int) -> int | None:
    """The number of the first pair that completes no turn within the context."""
    turns = (2 * math.pi * theta ** (2 * i / head_dim) for i in range(head_dim // 2))
    return next((i for i, turn in enumerate(turns) if turn > context), None)


def raised(exponent: Callable[[int, int], float]) -> Callable[..., float]:
    """theta' = theta * s^exponent(D, i), where i is the first slow pair."""

    def base(theta: float, head_dim: int, context: int, factor: float) -> float:
        i = first_slow(theta, head_dim, context)
        return theta if i is None else theta * factor ** exponent(head_dim, i)

    return base


right = raised(lambda dim, i: dim / (2 * i))


def base_without_pi(theta: float, head_dim: int, context: int, factor: float) -> float:
    """It takes 1 / omega positions for a turn."""
    i = first_slow(theta, head_dim, round(2 * math.pi * context))
    return theta if i is None else theta * factor ** (head_dim / (2 * i))


def base_long_turns(theta: float, head_dim: int, context: int, factor: float) -> float:
    """It asks for a full turn within the long context."""
    i = first_slow(theta, head_dim, round(factor * context))
    return theta if i is None else theta * factor ** (head_dim / (2 * i))


def base_always(theta: float, head_dim: int, context: int, factor: float) -> float:
    i = first_slow(theta, head_dim, context) or head_dim // 2 - 1
    return theta * factor ** (head_dim / (2 * i))


def base_cases() -> Iterator[Case]:
    """In the first, turns of pairs 0 to 3 take 6.28, 62.8, 628 and 6,283 positions."""
    yield case(10_000.0, 8, 100, 2.0)
    yield case(100_000.0, 64, 8192, 8.0)
    yield case(10_000.0, 128, 2048, 1.5)
    yield case(10_000.0, 64, 4096, 1.0, name="factor 1 changes nothing")
    yield case(10_000.0, 8, 10_000, 4.0, name="every pair completes a turn")


NTK = Exercise(
    "02.ntk",
    reference=right,
    cases=base_cases,
    wrong={
        "with theta s^(D/(D-2)), the paper's formula: it fits the slowest pair only, and raises theta even where that completes a turn": lambda theta, head_dim, context, factor: (
            theta * factor ** (head_dim / (head_dim - 2))
        ),
        "that multiplies theta by the factor": raised(lambda dim, i: 1.0),
        "that looks at the slowest pair alone: those before it that complete no turn meet new angles too": raised(
            lambda dim, i: dim / (dim - 2)
        ),
        "with the exponent upside down": raised(lambda dim, i: 2 * i / dim),
        "that makes theta smaller: then the pairs are faster": raised(
            lambda dim, i: -dim / (2 * i)
        ),
        "that slows the last pair that does complete a turn; the first that does not is the next": raised(
            lambda dim, i: dim / (2 * (i - 1))
        ),
        "in which pair 1 decides, though it completes a turn": raised(
            lambda dim, i: dim / 2
        ),
        "in which pair 1 always decides: the first pair that completes no turn does, if there is one": lambda theta, head_dim, context, factor: (
            theta * factor ** (head_dim / 2)
        ),
        "that asks for a full turn within s L: what has met every angle was trained on, up to L": (
            base_long_turns
        ),
        "that counts pairs from 1": raised(lambda dim, i: dim / (2 * (i + 1))),
        "in which pair i has the exponent i / D: it is 2i / D": raised(
            lambda dim, i: dim / i
        ),
        "with // for /: the exponent is seldom a whole number": raised(
            lambda dim, i: dim // (2 * i)
        ),
        "that takes theta^(2i/D) positions for a turn: it is 2π times that": (
            base_without_pi
        ),
        "that raises theta although every pair completes a turn": base_always,
        "that returns what theta is multiplied by": (
            lambda theta, head_dim, context, factor: (
                right(theta, head_dim, context, factor) / theta
            )
        ),
    },
    rtol=1e-5,
)
