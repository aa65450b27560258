"""The check of exercise 05.typical: a filter that keeps the tokens of about average
surprise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.records import Case, Exercise, case

NEVER = float("-inf")


def entropy(probs: Tensor) -> Tensor:
    """[..., V] -> [..., 1]; a probability of 0 adds nothing."""
    return torch.special.entr(probs).sum(-1, keepdim=True)


def distance(probs: Tensor) -> Tensor:
    return (-probs.log() - entropy(probs)).abs()


def nearest_first(probs: Tensor, keys: Tensor, mass: float, extra: int = 0) -> Tensor:
    """What to keep of [..., V]: in the order of `keys`, until `mass` is reached."""
    order = keys.argsort(dim=-1)
    sorted_probs = probs.gather(-1, order)
    keep = sorted_probs.cumsum(-1) - sorted_probs < mass
    if extra:  # negative: one token less, but never none
        keep &= keep.roll(extra, dims=-1)
        keep[..., 0] = True
    return torch.zeros_like(keep).scatter(-1, order, keep)


def by_key(key: Callable[[Tensor], Tensor]) -> Callable[[Tensor, float], Tensor]:
    """The filter that sorts by `key(probs)`."""

    def filtered(logits: Tensor, mass: float) -> Tensor:
        probs = logits.double().softmax(-1)
        return logits.masked_fill(~nearest_first(probs, key(probs), mass), NEVER)

    return filtered


typical = by_key(distance)


def without_the_crossing(logits: Tensor, mass: float) -> Tensor:
    probs = logits.double().softmax(-1)
    return logits.masked_fill(~nearest_first(probs, distance(probs), mass, -1), NEVER)


def not_put_back(logits: Tensor, mass: float) -> Tensor:
    probs = logits.double().softmax(-1)
    order = distance(probs).argsort(dim=-1)
    keep = nearest_first(probs, distance(probs), mass).gather(-1, order)
    return logits.masked_fill(~keep, NEVER)


def put_back_twice(logits: Tensor, mass: float) -> Tensor:
    """`gather` sorts what is sorted already; only `scatter` brings it back."""
    probs = logits.double().softmax(-1)
    order = distance(probs).argsort(dim=-1)
    sorted_probs = probs.gather(-1, order)
    keep = (sorted_probs.cumsum(-1) - sorted_probs < mass).gather(-1, order)
    return logits.masked_fill(~keep, NEVER)


def none_kept(logits: Tensor, mass: float) -> Tensor:
    """Drops where the sum has reached `mass`, the crossing token and maybe the first
    included."""
    probs = logits.double().softmax(-1)
    order = distance(probs).argsort(dim=-1)
    drop = probs.gather(-1, order).cumsum(-1) >= mass
    return logits.masked_fill(drop.scatter(-1, order, drop), NEVER)


def as_log_probs(logits: Tensor, mass: float) -> Tensor:
    return typical(logits.log_softmax(-1), mass)


def nan_entropy(probs: Tensor) -> Tensor:
    return (-probs.log() + (probs * probs.log()).sum(-1, keepdim=True)).abs()


def bits(probs: Tensor) -> Tensor:
    return (-probs.log() - entropy(probs) / math.log(2)).abs()


def entropy_of_all(probs: Tensor) -> Tensor:
    return (-probs.log() - entropy(probs).mean()).abs()


def entropy_summed(probs: Tensor) -> Tensor:
    return (-probs.log() - entropy(probs).sum()).abs()


def nan_summed(probs: Tensor) -> Tensor:
    return (-probs.log() + (probs * probs.log()).sum()).abs()


def typical_cases() -> Iterator[Case]:
    """No two tokens are equally near, and no sum of probabilities is near `mass`."""
    four = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    yield case(four, 0.25, name="probabilities 0.4, 0.3, 0.2, 0.1")
    yield case(four, 0.45, name="the same")
    yield case(four, 0.85, name="the same")
    unlike = torch.tensor([[0.1, 0.62, 0.28], [0.36, 0.3, 0.34]]).log() + 3
    yield case(unlike, 0.3, name="two rows")
    yield case(
        torch.tensor([0.2, NEVER, 2.0, NEVER, 1.1, -0.4]), 0.6, name="after a filter"
    )
    logits = 2 * torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(0))
    yield case(logits, 0.5)
    yield case(logits, 0.001, name="each row keeps one token")


TYPICAL = Exercise(
    "05.typical",
    reference=typical,
    cases=typical_cases,
    wrong={
        "that keeps the most probable tokens: what counts is the distance to H, without its sign": by_key(
            torch.neg
        ),
        "that drops the token with which the mass is reached": without_the_crossing,
        "that drops the token with which the mass is reached, and keeps none where that is the first": (
            none_kept
        ),
        "with H in bits; -log p is a natural logarithm": by_key(bits),
        "with one H for all rows, the mean of theirs": by_key(entropy_of_all),
        "with one H for all rows, the sum of theirs; it needs dim=-1": by_key(
            entropy_summed
        ),
        "whose H is NaN when a probability is 0": by_key(nan_entropy),
        "that takes a place in sorted order for a token id": not_put_back,
        "with one H, summed over all rows, and NaN when a probability is 0": by_key(
            nan_summed
        ),
        "that puts its decision back with gather(-1, order); that is scatter's work": (
            put_back_twice
        ),
        "that keeps log-probabilities instead of the logits": as_log_probs,
        "that starts with the tokens farthest from H": by_key(
            lambda probs: -distance(probs)
        ),
    },
)
