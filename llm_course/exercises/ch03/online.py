"""The check of exercise 03.online: a softmax over scores that come block by block."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from llm_course.exercises.ch03.steps import LOWEST, NEVER, normal
from llm_course.exercises.records import Case, Exercise, case
from llm_course.exercises.watch import largest_tensor

Blocks = Iterable[tuple[Tensor, Tensor]]
Merge = Callable[[Blocks], Tensor]


class Once:
    """An iterator that says so when it is asked for a second pass."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.used_up = iter(blocks), False

    def __iter__(self) -> Once:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        if self.used_up:
            raise RuntimeError(
                "the blocks are used up: an iterator gives each of them once"
            )
        try:
            return next(self.blocks)
        except StopIteration:
            self.used_up = True
            raise


def once(function: Merge, blocks: Blocks) -> Tensor:
    """The blocks one after the other: there is no second pass."""
    return function(Once(blocks))


def online(blocks: Blocks) -> Tensor:
    pairs = list(blocks)
    scores = torch.cat([scores for scores, _ in pairs], dim=1)  # [Q, K]
    values = torch.cat([values for _, values in pairs])  # [K, D]
    return (scores.double().softmax(-1).nan_to_num(0.0) @ values.double()).to(
        values.dtype
    )


def merger(
    shrink_sum: bool = True,
    shrink_mean: bool = True,
    start: float | None = LOWEST,
    last_largest: bool = False,
    shared_largest: bool = False,
    zero_rows: bool = True,
    divide: bool = True,
    upside_down: bool = False,
) -> Merge:
    """The merging loop, or one with a mistake. `start` None begins with the first
    block's largest."""

    def merge(blocks: Blocks) -> Tensor:
        total, mixed, largest = torch.tensor(0.0), torch.tensor(0.0), None
        for scores, values in blocks:
            here = (
                scores.amax() if shared_largest else scores.amax(dim=-1, keepdim=True)
            )
            if largest is None:
                largest = (
                    here.clamp(min=LOWEST) if start is None else torch.tensor(start)
                )
            new = (
                here.clamp(min=start) if last_largest else torch.maximum(largest, here)
            )
            shrink = (new - largest if upside_down else largest - new).exp()
            e = (scores - new).exp()
            total = total * (shrink if shrink_sum else 1.0) + e.sum(
                dim=-1, keepdim=True
            )
            mixed = mixed * (shrink if shrink_mean else 1.0) + e @ values
            largest = new
        if not divide:
            return mixed
        return mixed / (total.masked_fill(total == 0, 1.0) if zero_rows else total)

    return merge


def first_largest(blocks: Blocks) -> Tensor:
    """Everything is compared with the largest score of the first block."""
    total, mixed, largest = torch.tensor(0.0), torch.tensor(0.0), None
    for scores, values in blocks:
        if largest is None:
            largest = scores.amax(dim=-1, keepdim=True).clamp(min=LOWEST)
        e = (scores - largest).exp()
        total, mixed = total + e.sum(dim=-1, keepdim=True), mixed + e @ values
    return mixed / total.masked_fill(total == 0, 1.0)


def logarithm(alone: bool, guarded: bool) -> Merge:
    """Carries the logarithm of the sum, which is lost beside -3e9 in float32.

    With `alone`, each block has its own softmax before it is merged.
    """

    def merge(blocks: Blocks) -> Tensor:
        mean, total = torch.tensor(0.0), torch.tensor(NEVER)
        for scores, values in blocks:
            here = scores.logsumexp(dim=-1, keepdim=True)
            new = torch.logaddexp(total, here)
            base = new.clamp(min=LOWEST) if guarded else new
            if alone:
                own = scores.softmax(-1)
                own = (own.nan_to_num(0.0) if guarded else own) @ values
                added = (here - base).exp() * own
            else:
                added = (scores - base).exp() @ values
            mean, total = (total - base).exp() * mean + added, new
        return mean

    return merge


def naive(guarded: bool) -> Merge:
    """No score is subtracted."""

    def merge(blocks: Blocks) -> Tensor:
        total, mixed = torch.tensor(0.0), torch.tensor(0.0)
        for scores, values in blocks:
            total = total + scores.exp().sum(dim=-1, keepdim=True)
            mixed = mixed + scores.exp() @ values
        return mixed / (total.masked_fill(total == 0, 1.0) if guarded else total)

    return merge


def each_alone(blocks: Blocks) -> Tensor:
    """[blocks, Q, D]: every block with a softmax of its own."""
    return torch.stack(
        [scores.softmax(-1).nan_to_num(0.0) @ values for scores, values in blocks]
    )


def online_cases() -> Iterator[Case]:
    def cut(scores: Tensor, *sizes: int) -> Case:
        values = normal(scores.shape[1], 2, seed=1)
        parts = zip(scores.split(sizes, dim=1), values.split(sizes), strict=True)
        return case([(s.clone(), v.clone()) for s, v in parts])

    first = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    second = torch.tensor([[torch.log(torch.tensor(3.0))]]), torch.tensor([[5.0]])
    yield Case(([first, second],), "the weights are 1/4 and 3/4")
    yield cut(2 * normal(3, 9), 4, 2, 3)
    yield cut(100 + normal(3, 4), 2, 2)
    falling = normal(2, 6) - torch.tensor([0.0, 0.0, 200.0, 200.0, 400.0, 400.0])
    yield Case(
        cut(falling, 2, 2, 2).args, "scores that fall by 200 from block to block"
    )
    yield Case(
        cut(falling.flip(1), 2, 2, 2).args,
        "scores that rise by 200 from block to block",
    )
    yield Case(
        cut(normal(2, 4) - torch.tensor([[0.0], [300.0]]), 2, 2).args,
        "all scores of one query far below the other's",
    )
    yield Case(cut(normal(1, 4) - 300, 2, 2).args, "all scores near -300")
    yield Case(cut(torch.full((2, 4), -3e9), 2, 2).args, "all scores -3e9")
    yield Case(cut(torch.tensor([[0.0, NEVER]]), 1, 1).args, "no key in the last block")
    yield Case(
        cut(torch.tensor([[NEVER, 0.0]]), 1, 1).args, "no key in the first block"
    )
    empty = torch.tensor([[0.0, 0.0], [NEVER, NEVER]])
    yield Case(cut(empty, 1, 1).args, "a query without any key")
    holed = normal(4, 15)
    holed[1, :5] = holed[2, 5:] = holed[3] = NEVER
    yield cut(holed, 5, 4, 6)


def online_memory(function: Merge) -> str | None:
    seen: list[weakref.ref[Tensor]] = []
    kept = 0

    def arriving() -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal kept
        for i in range(32):
            kept = max(kept, sum(ref() is not None for ref in seen[:-2]))
            block = normal(4, 16, seed=i), normal(16, 2, seed=i)
            seen.extend(map(weakref.ref, block))
            yield block

    most = largest_tensor(function, Once(arriving()))
    if kept > 2:
        return (
            f"of 32 blocks it still holds {kept // 2} old ones when it asks for the"
            " next."
        )
    if most >= 4 * 16 * 32:
        return (
            f"it makes a tensor of {most} numbers; all scores of all blocks are"
            f" {4 * 16 * 32}."
        )
    return None


ONLINE = Exercise(
    "03.online",
    reference=online,
    cases=online_cases,
    call=once,
    wrong={
        "that gives each block its own softmax and takes the mean": lambda blocks: (
            each_alone(blocks).mean(0)
        ),
        "that gives each block its own softmax and adds them up": lambda blocks: (
            each_alone(blocks).sum(0)
        ),
        "that forgets to scale the weighted sum when the largest score grows": merger(
            shrink_mean=False
        ),
        "that forgets to scale the sum of exponentials when the largest score grows": (
            merger(shrink_sum=False)
        ),
        "that scales neither sum when the largest score grows": merger(
            shrink_sum=False, shrink_mean=False
        ),
        "that scales by e^(new - old), which is upside down": merger(upside_down=True),
        "that scales by e^(new - old), which is upside down, and starts at -inf": (
            merger(upside_down=True, start=NEVER)
        ),
        "that scales by e^(new - old) from the second block on, which is upside down": (
            merger(upside_down=True, start=None)
        ),
        "that scales by e^(new - old), which is upside down, and starts at 0": merger(
            upside_down=True, start=0.0
        ),
        "that subtracts no largest score: the exponentials overflow": naive(
            guarded=True
        ),
        "that subtracts no largest score: the exponentials overflow, or all become 0": (
            naive(guarded=False)
        ),
        "that keeps the largest score of the first block: a later one may be larger": (
            first_largest
        ),
        "that starts with 0 as the largest score: where all are far below, all become 0": merger(
            start=0.0
        ),
        "that starts with 0 as the largest score, and divides 0 by 0 where all are far below": merger(
            start=0.0, zero_rows=False
        ),
        "that starts with -1e9 as the largest score: scores may be lower": merger(
            start=-1e9
        ),
        "that starts with -1e9 as the largest score, and divides 0 by 0 below it": (
            merger(start=-1e9, zero_rows=False)
        ),
        "that carries max and sum as one logarithm: -3e9 + ln 2 is -3e9 in float32, and the sum is lost": logarithm(
            alone=False, guarded=True
        ),
        "that carries max and sum as one logarithm (-3e9 + ln 2 is -3e9 in float32), and makes NaN of -inf - (-inf)": logarithm(
            alone=False, guarded=False
        ),
        "that merges softmaxes by logarithms of their sums: -3e9 + ln 2 is -3e9 in float32": logarithm(
            alone=True, guarded=True
        ),
        "that merges softmaxes by logarithms of their sums (-3e9 + ln 2 is -3e9 in float32), and makes NaN of -inf - (-inf)": logarithm(
            alone=True, guarded=False
        ),
        "that subtracts the largest score of the block, where that so far belongs": (
            merger(last_largest=True)
        ),
        "with one largest score for all queries": merger(shared_largest=True),
        "in which a query without a key in a block becomes NaN: -inf - (-inf), or 0 / 0": merger(
            start=NEVER
        ),
        "that turns NaN into 0 at the end: a query has lost its other blocks by then": (
            lambda blocks: merger(start=NEVER)(blocks).nan_to_num(0.0)
        ),
        "that divides 0 by 0 for a query without a key": merger(zero_rows=False),
        "without the division at the end": merger(divide=False),
    },
    properties=(online_memory,),
)
