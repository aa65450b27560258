"""The check of 02.ntk: the base with which no pair meets a new angle."""

import math

from llm_course.exercises import Case, Cases, Exercise


def base(theta: float, head_dim: int, context: int, factor: float) -> float:
    for i in range(head_dim // 2):
        if 2 * math.pi * theta ** (2 * i / head_dim) > context:  # no turn
            return theta * factor ** (head_dim / (2 * i))
    return theta


def cases() -> Cases:
    """In the first, turns of pairs 0 to 3 take 6.28, 62.8, 628 and 6,283 positions."""
    yield Case(10_000.0, 8, 100, 2.0)
    yield Case(100_000.0, 64, 8192, 8.0)
    yield Case(10_000.0, 128, 2048, 1.5)
    yield Case(10_000.0, 64, 4096, 1.0, name="factor 1 changes nothing")
    yield Case(10_000.0, 8, 10_000, 4.0, name="every pair completes a turn")


WRONG = """
with theta s^(D/(D-2)), the paper's formula: it fits the slowest pair only, and raises
theta even where that completes a turn
    range(head_dim // 2) -> [head_dim // 2 - 1] ;; > context -> > 0
that multiplies theta by the factor
    ** (head_dim / (2 * i)) ->
that looks at the slowest pair alone: those before it that complete no turn meet new
angles too
    range(head_dim // 2) -> [head_dim // 2 - 1]
with the exponent upside down
    head_dim / (2 * i) -> 2 * i / head_dim
that makes theta smaller: then the pairs are faster
    theta * factor -> theta / factor
that slows the last pair that does complete a turn; the first that does not is the next
    (2 * i)) -> (2 * (i - 1)))
in which pair 1 decides, though it completes a turn
    / (2 * i) -> / 2
in which pair 1 always decides: the first pair that completes no turn does, if there is
one
    range(head_dim // 2) -> [1] ;; > context -> > 0
that asks for a full turn within s L: what has met every angle was trained on, up to L
    > context -> > factor * context
that counts pairs from 1
    / (2 * i) -> / (2 * (i + 1))
in which pair i has the exponent i / D: it is 2i / D
    / (2 * i) -> / i
with // for /: the exponent is seldom a whole number
    / (2 * i) -> // (2 * i)
that takes theta^(2i/D) positions for a turn: it is 2π times that
    2 * math.pi * theta -> theta ;; > context -> >= context
that raises theta although every pair completes a turn
    > context: -> > context or i == head_dim // 2 - 1:
that returns what theta is multiplied by
    return theta * -> return ;; return theta -> return 1.0
"""

CHECK = Exercise("02.ntk", base, cases, WRONG, rtol=1e-5)
