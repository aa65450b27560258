# Exported from notebooks/05_generate.ipynb; edit there, then run its last cell.
"""From logits to one token per row: the filters and the choice."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llm_course.arguments import (
    above,
    at_least,
    axes_agree,
    checked,
    ids_below,
    within,
)
from llm_course.config import GenerationConfig
from llm_course.types import Logits, TokenIds

__all__ = [
    "NEVER",
    "top_k_filtering",
    "in_float64",
    "top_p_filtering",
    "min_p_filtering",
    "apply_repetition_penalty",
    "filtered_logits",
    "check_finite",
    "choose_token",
    "sample_next_token",
]


NEVER = float("-inf")  # the logit of a token that must not be drawn


@checked
def top_k_filtering(logits: Logits, top_k: int | None) -> Logits:
    """Keep the `top_k` largest logits of each row, and ties with the last of them.

    logits [..., V] -> [..., V] with -inf elsewhere. None or 0 keeps all, as does a
    top_k of V or more. The input is never changed in place; it is returned itself when
    nothing is cut. Raises ValueError for a negative top_k.

    Source: Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.4.
    """
    at_least(0, top_k=top_k)
    if not top_k or top_k >= logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(top_k, dim=-1).values[..., -1:]  # [..., 1]
    return logits.masked_fill(logits < smallest_kept, NEVER)


def in_float64(logits: Logits) -> Tensor:
    """The same numbers in float64; on the CPU where the device has none."""
    has_none = logits.device.type == "mps"  # Apple's GPUs
    return (logits.cpu() if has_none else logits).double()


@checked
def top_p_filtering(logits: Logits, top_p: float) -> Logits:
    """Keep the fewest tokens of each row whose probabilities add up to at least
    `top_p`.

    logits [..., V] -> [..., V] with -inf elsewhere. At least one token stays, whatever
    the p; p = 1 keeps all. The input is never changed in place; it is returned itself
    when p = 1. Raises ValueError for a top_p outside 0 to 1.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration",
    section 3.1.
    """
    within(0, 1, top_p=top_p)
    if top_p >= 1.0:
        return logits
    # float64: thousands of small float32 probabilities do not add up to what they
    # should.
    probs = torch.softmax(in_float64(logits), dim=-1)
    probs, order = probs.sort(dim=-1, descending=True)
    # [..., V]: what the more probable tokens hold
    mass_before = probs.cumsum(dim=-1) - probs
    # float32 logits cannot place a boundary more finely
    drop = mass_before >= top_p - 1e-7
    drop[..., 0] = False
    drop = drop.scatter(-1, order, drop).to(logits.device)
    return logits.masked_fill(drop, NEVER)


@checked
def min_p_filtering(logits: Logits, min_p: float) -> Logits:
    """Keep the tokens at least `min_p` times as probable as the most probable one.

    logits [..., V] -> [..., V] with -inf elsewhere; 0 keeps all. The input is never
    changed in place; it is returned itself when min_p is 0. Raises ValueError for a
    min_p outside 0 to 1.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    within(0, 1, min_p=min_p)
    if min_p <= 0.0:
        return logits
    probs = torch.softmax(logits.float(), dim=-1)
    return logits.masked_fill(probs < min_p * probs.amax(dim=-1, keepdim=True), NEVER)


@checked
def apply_repetition_penalty(
    logits: Logits,
    input_ids: TokenIds,
    penalty: float,
    attention_mask: Tensor | None = None,
) -> Logits:
    """Make every token already in the row less likely: positive logits are divided by
    `penalty`, negative ones multiplied.

    logits [B, V], input_ids [B, S] -> [B, V]. Positions where attention_mask [B, S] is
    0 are padding. The input is never changed; it is returned itself if penalty is 1.
    Raises ValueError for a penalty of 0 or less and for shapes that do not agree.

    Source: Keskar et al. 2019, "CTRL", section 4.1, which only divides; the
    multiplication of negative logits is as in the `transformers` library.
    """
    if penalty == 1.0:
        return logits
    counts = (
        torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
    )
    axes_agree("B V, B S, B S", logits=logits, ids=input_ids, mask=counts)
    ids_below(logits.shape[-1], input_ids=input_ids)
    above(0, penalty=penalty)
    seen = torch.zeros(logits.shape, dtype=torch.long, device=logits.device)
    seen = seen.scatter_add(-1, input_ids, counts) > 0  # [B, V]
    return torch.where(
        seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits
    )


def filtered_logits(
    logits: Logits,
    temperature: float,
    top_k: int | None,
    top_p: float,
    *,
    min_p: float = 0.0,
) -> Logits:
    """Temperature, top-k, top-p and min-p, in this order: logits [..., V] -> [..., V],
    float32.

    The temperature is above 0. Softmax of the result gives the probabilities to draw
    from.
    """
    # Shifting a row does not change its softmax. float64, so that a tiny temperature
    # does not round to 0 and give 0/0 at the maximum; what overflows becomes -inf,
    # which is right.
    device, logits = logits.device, in_float64(logits)
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    logits = (shifted / temperature).float()
    logits = top_k_filtering(logits, top_k)
    logits = top_p_filtering(logits, top_p)
    return min_p_filtering(logits, min_p).to(device)


def check_finite(best: Tensor) -> None:
    """Raise ValueError when a row's largest logit, best [B], is NaN or infinite."""
    for row, logit in enumerate(best.tolist()):
        if not math.isfinite(logit):
            raise ValueError(
                f"no token can be chosen in row {row}: its largest logit is {logit}."
                " The weights are damaged, or too large for their dtype (float16: use"
                " bfloat16 or float32)"
            )


@checked
def choose_token(
    logits: Logits,
    config: GenerationConfig,
    *,
    generator: torch.Generator | None = None,
) -> TokenIds:
    """Choose one token per row as `config` asks: temperature, top-k, top-p, min-p, a
    draw.

    logits [B, V] -> ids [B, 1]. `do_sample` False or `temperature` 0 takes the most
    probable token. Rows draw independently, from `generator` (None: torch's global
    one). The repetition penalty needs the text so far: apply it to the logits first.
    Raises ValueError for logits that are not finite.
    """
    best = logits.max(dim=-1)  # values and indices [B]; NaN counts as the largest
    check_finite(best.values)
    if not config.do_sample or config.temperature == 0:
        return best.indices[:, None]  # [B, 1]
    t, k, p = config.temperature, config.top_k, config.top_p
    kept = filtered_logits(logits, t, k, p, min_p=config.min_p)  # [B, V]
    return torch.multinomial(torch.softmax(kept, dim=-1), 1, generator=generator)


@checked
def sample_next_token(
    logits: Logits,
    temperature: float = 1.0,
    top_k: int | None = 50,
    top_p: float = 1.0,
    do_sample: bool = True,
    *,
    min_p: float = 0.0,
    generator: torch.Generator | None = None,
) -> TokenIds:
    """`choose_token` with the settings as arguments: logits [B, V] -> ids [B, 1].

    Raises ValueError for settings that a GenerationConfig refuses, such as a negative
    temperature, and for logits that are not finite.
    """
    config = GenerationConfig(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        do_sample=do_sample,
        min_p=min_p,
    )
    return choose_token(logits, config, generator=generator)
