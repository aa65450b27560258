"""The check of 05.typical: a filter that keeps tokens of about average surprise."""

import torch
from torch import Tensor
from torch.special import entr

from llm_course.exercises import Case, Cases, Exercise, normal


def typical(logits: Tensor, mass: float) -> Tensor:
    probs = logits.double().softmax(-1)  # [..., V]
    entropy = entr(probs).sum(-1, keepdim=True)  # 0 adds nothing
    order = (-probs.log() - entropy).abs().argsort(dim=-1)  # the nearest first
    ordered = probs.gather(-1, order)
    drop = ordered.cumsum(-1) - ordered >= mass
    return logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)


def cases() -> Cases:
    """No two tokens are equally near, and no sum of probabilities is near `mass`."""
    four = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    yield Case(four, 0.25, name="probabilities 0.4, 0.3, 0.2, 0.1")
    yield Case(four, 0.45, name="the same")
    yield Case(four, 0.85, name="the same")
    unlike = torch.tensor([[0.1, 0.62, 0.28], [0.36, 0.3, 0.34]]).log() + 3
    yield Case(unlike, 0.3, name="two rows")
    filtered = torch.tensor([0.2, -torch.inf, 2.0, -torch.inf, 1.1, -0.4])
    yield Case(filtered, 0.6, name="after a filter")
    yield Case(2 * normal(2, 3, 40), 0.5)
    yield Case(2 * normal(2, 3, 40), 0.001, name="each row keeps one token")


WRONG = """
that keeps the most probable tokens: what counts is the distance to H, without its sign
    (-probs.log() - entropy).abs() -> (-probs)
that drops the token with which the mass is reached
    - ordered >= mass -> >= mass; drop[..., 0] = False
that drops the token with which the mass is reached, and keeps none where that is the
first
    - ordered >= mass -> >= mass
with H in bits; -log p is a natural logarithm
    - entropy -> - 1.4427 * entropy
with one H for all rows, the mean of theirs
    (-1, keepdim=True) -> (-1).mean()
with one H for all rows, the sum of theirs; it needs dim=-1
    (-1, keepdim=True) -> ()
whose H is NaN when a probability is 0
    entr(probs) -> (-probs * probs.log())
that takes a place in sorted order for a token id
    drop.scatter(-1, order, drop) -> drop
with one H, summed over all rows, and NaN when a probability is 0
    entr(probs) -> (-probs * probs.log()) ;; (-1, keepdim=True) -> ()
that puts its decision back with gather(-1, order); that is scatter's work
    drop.scatter(-1, order, drop) -> drop.gather(-1, order)
that keeps log-probabilities instead of the logits
    return logits -> return logits.log_softmax(-1)
that starts with the tokens farthest from H
    .abs() -> .abs().neg()
"""

CHECK = Exercise("05.typical", typical, cases, WRONG)
