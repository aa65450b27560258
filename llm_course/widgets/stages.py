"""A next-token distribution after each filter in turn, by the engine's functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llm_course.config import GenerationConfig
from llm_course.engine.sampling import (
    NEVER,
    apply_repetition_penalty,
    filtered_logits,
    min_p_filtering,
    top_k_filtering,
    top_p_filtering,
)
from llm_course.viz.sampling import LEAST

TOP = 14  # tokens in the chart


@dataclass(frozen=True)
class Stage:
    """What one filter leaves: `probs` [V], how many tokens can still be drawn, and the
    share of the probability before it that it keeps."""

    name: str
    probs: Tensor
    left: int
    kept: float


def stages(
    logits: Tensor, seen: Sequence[int], config: GenerationConfig
) -> list[Stage]:
    """The distribution of the model, then after each filter, in the engine's order.

    logits [V] follow the text whose ids are `seen`. The last one is what
    `choose_token` draws from.
    """
    penalised = penalised_logits(logits, seen, config)
    steps: list[tuple[str, Callable[[Tensor], Tensor]]] = [
        ("the model", lambda _: logits),
        ("repetition penalty", lambda _: penalised),
        ("temperature", lambda x: _at_temperature(x, config)),
        ("top-k", lambda x: top_k_filtering(x, config.top_k)),
        ("top-p", lambda x: top_p_filtering(x, config.top_p)),
        ("min-p", lambda x: min_p_filtering(x, config.min_p)),
    ]
    found: list[Stage] = []
    now = before = logits
    for name, step in steps:
        before, now = now, step(now)
        if found and now is before:  # switched off
            last = found[-1]
            found.append(Stage(name, last.probs, last.left, 1.0))
            continue
        probs, left = torch.softmax(now, dim=-1), now > NEVER
        cuts = found and name not in ("repetition penalty", "temperature")
        kept = float(found[-1].probs[left].double().sum()) if cuts else 1.0
        found.append(Stage(name, probs, int((probs > 0).sum()), min(kept, 1.0)))
    return found


def penalised_logits(
    logits: Tensor, seen: Sequence[int], config: GenerationConfig
) -> Tensor:
    """Logits [V] after the repetition penalty for the tokens `seen`."""
    ids = torch.tensor([list(seen)], dtype=torch.long)
    return apply_repetition_penalty(logits[None], ids, config.repetition_penalty)[0]


def distribution(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The probabilities [V] from which `choose_token` draws, for logits [V] after the
    repetition penalty."""
    if config.temperature == 0:
        return torch.softmax(_at_temperature(logits, config), dim=-1)
    kept = filtered_logits(
        logits, config.temperature, config.top_k, config.top_p, min_p=config.min_p
    )
    return torch.softmax(kept, dim=-1)


def _at_temperature(logits: Tensor, config: GenerationConfig) -> Tensor:
    if config.temperature == 0:  # greedy: all probability on the largest logit
        only = torch.full_like(logits, NEVER)
        only[logits.argmax()] = 0.0
        return only
    return filtered_logits(logits, config.temperature, None, 1.0)


def chart(
    found: Sequence[Stage],
    tokens: Callable[[list[int]], list[str]],
    chosen: int | None = None,
) -> dict[str, Any]:
    """What the page draws of `stages`: the `TOP` most probable tokens, with `chosen`
    among them, one probability a stage, and what all others hold."""
    order = found[0].probs.argsort(descending=True)[:TOP].tolist()
    if chosen is not None and chosen not in order:
        order[-1] = chosen
    table = torch.stack([stage.probs[order] for stage in found])  # [stages, TOP]
    rows = [
        {"id": i, "label": f"“{label}”", "probs": column, "cut": _cut_by(column)}
        for i, label, column in zip(order, tokens(order), table.T.tolist(), strict=True)
    ]
    others = [
        float(stage.probs.double().index_fill(0, torch.tensor(order), 0.0).sum())
        for stage in found
    ]
    return {
        "rows": rows,
        "others": others,
        "chosen": chosen,
        "least": LEAST,
        "stages": [
            {"name": s.name, "left": s.left, "kept": s.kept, "cut": 1 - s.kept}
            for s in found
        ],
    }


def _cut_by(probs: list[float]) -> int | None:
    """The stage at which a token's probability became 0."""
    return next((i for i, p in enumerate(probs) if p == 0.0), None)
