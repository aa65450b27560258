"""Checks of the exercises of 05_generate."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch05.beam import BEAM
from llm_course.exercises.ch05.hunt import HUNT
from llm_course.exercises.ch05.stop import STOP
from llm_course.exercises.ch05.typical import TYPICAL
from llm_course.exercises.records import Case, Exercise, case

NEVER = float("-inf")


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- 05.frequency


def counted(logits: Tensor, generated: Tensor) -> Tensor:
    """How often each id occurs in each row: [B, V]."""
    return torch.stack([row.bincount(minlength=logits.shape[-1]) for row in generated])


def frequency(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return logits - alpha * counted(logits, generated)


def frequency_once(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return logits - alpha * (counted(logits, generated) > 0)


def frequency_pooled(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return logits - alpha * counted(logits, generated).sum(0)


def frequency_reward(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return logits + alpha * counted(logits, generated)


def frequency_share(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return logits - alpha * counted(logits, generated) / max(1, generated.shape[-1])


def frequency_last(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return frequency(logits, generated[..., -1:], alpha)


def frequency_short(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    """`bincount` without `minlength` ends at the largest id of the row."""
    counts = torch.stack([row.bincount() for row in generated])
    return logits - alpha * counts


def frequency_whole(logits: Tensor, generated: Tensor, alpha: float) -> Tensor:
    return frequency(logits, generated, int(alpha))


def frequency_cases() -> Iterator[Case]:
    yield case(torch.tensor([[2.0, 1.0, 0.0, -1.0]]), torch.tensor([[0, 3, 3]]), 0.5)
    yield case(normal(2, 6), torch.tensor([[1, 1, 1, 4, 0], [2, 5, 2, 5, 5]]), 0.7)
    ids = torch.randint(20, (3, 50), generator=torch.Generator().manual_seed(0))
    yield case(normal(3, 20), ids, 0.1)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    yield case(normal(2, 4), nothing, 1.0, name="nothing is generated yet")


FREQUENCY = Exercise(
    "05.frequency",
    reference=frequency,
    cases=frequency_cases,
    wrong={
        "that takes alpha off once for each id; an id that came three times loses 3 alpha": (
            frequency_once
        ),
        "that counts the ids of all rows together": frequency_pooled,
        "that adds instead of subtracting": frequency_reward,
        "that divides the count by the number of generated tokens": frequency_share,
        "that counts the last token only": frequency_last,
        "that calls bincount without minlength: its result ends at the row's largest id": (
            frequency_short
        ),
        "whose alpha is cut to a whole number; a tensor of int64 cannot hold 0.5": (
            frequency_whole
        ),
    },
)

# --- 05.gumbel


def best(scores: Tensor) -> Tensor:
    return scores.argmax(dim=-1, keepdim=True)


def gumbel(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return best(logits / temperature - torch.log(-torch.log(u)))


def gumbel_minus(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return best(logits / temperature + torch.log(-torch.log(u)))


def gumbel_one_log(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return best(logits / temperature - torch.log(u))


def gumbel_uniform(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return best(logits / temperature + u)


def gumbel_divided(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return gumbel(logits, 1.0, u)


def gumbel_probs(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return best((logits / temperature).softmax(-1) - torch.log(-torch.log(u)))


def gumbel_shared(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return gumbel(logits, temperature, u[:1])


def gumbel_own(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    return gumbel(logits, temperature, torch.rand(u.shape))


def gumbel_cumulated(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    """The other way to draw: where the running sum of the probabilities passes one
    number a row."""
    mass = (logits / temperature).softmax(-1).cumsum(-1)
    return best((mass > u[:, :1]).int())


def gumbel_cases() -> Iterator[Case]:
    """Among many rows each wrong version draws some other tokens."""
    yield case(torch.tensor([[1.0, 0.0, 0.0]]), 1.0, torch.tensor([[0.5, 0.1, 0.9]]))
    for seed, temperature in enumerate((1.0, 0.5, 2.0)):
        u = torch.rand(200, 8, generator=torch.Generator().manual_seed(seed))
        yield case(2 * normal(200, 8, seed=seed), temperature, u)
    filtered = torch.tensor([0.0, NEVER, 1.0, NEVER]).expand(50, -1)
    u = torch.rand(50, 4, generator=torch.Generator().manual_seed(3))
    yield case(filtered, 1.5, u, name="after a filter")


GUMBEL = Exercise(
    "05.gumbel",
    reference=gumbel,
    cases=gumbel_cases,
    wrong={
        "with the noise log(-log u), without the minus in front": gumbel_minus,
        "with the noise -log u; there are two logarithms": gumbel_one_log,
        "that adds u itself": gumbel_uniform,
        "whose temperature does nothing: only the logits are divided by it, not the noise": (
            gumbel_divided
        ),
        "that adds the noise to probabilities, not to logits": gumbel_probs,
        "whose rows all get the noise of the first": gumbel_shared,
        "that draws random numbers of its own and does not use u": gumbel_own,
        "that looks where a running sum of probabilities passes u, which is another way to draw": (
            gumbel_cumulated
        ),
    },
)

EXERCISES = (FREQUENCY, GUMBEL, TYPICAL, STOP, BEAM, HUNT)
