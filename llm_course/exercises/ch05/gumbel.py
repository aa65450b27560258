"""The check of 05.gumbel: a draw from softmax as the largest of noisy logits."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise, normal


def gumbel(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    noise = -torch.log(-torch.log(u))
    return (logits / temperature + noise).argmax(dim=-1, keepdim=True)


def cases() -> Cases:
    """Among many rows each wrong version draws some other tokens."""
    yield Case(torch.tensor([[1.0, 0.0, 0.0]]), 1.0, torch.tensor([[0.5, 0.1, 0.9]]))
    for seed, temperature in enumerate((1.0, 0.5, 2.0)):
        u = torch.rand(200, 8, generator=torch.Generator().manual_seed(seed))
        yield Case(2 * normal(200, 8, seed=seed), temperature, u)
    filtered = torch.tensor([0.0, -torch.inf, 1.0, -torch.inf]).expand(50, -1)
    u = torch.rand(50, 4, generator=torch.Generator().manual_seed(3))
    yield Case(filtered, 1.5, u, name="after a filter")


WRONG = """
with the noise log(-log u), without the minus in front
    = -torch -> = torch
with the noise -log u; there are two logarithms
    torch.log(-torch.log(u)) -> torch.log(u)
that adds u itself
    -torch.log(-torch.log(u)) -> u
whose temperature does nothing: only the logits are divided by it, not the noise
    (logits / temperature + noise) -> ((logits + noise) / temperature)
that adds the noise to probabilities, not to logits
    logits / temperature -> (logits / temperature).softmax(-1)
whose rows all get the noise of the first
    + noise -> + noise[:1]
that draws random numbers of its own and does not use u
    log(u) -> log(torch.rand(u.shape))
that looks where a running sum of probabilities passes u, which is another way to draw
    (logits / temperature + noise) ->
        ((logits / temperature).softmax(-1).cumsum(-1) > u[:, :1]).int()
"""

CHECK = Exercise("05.gumbel", gumbel, cases, WRONG)
