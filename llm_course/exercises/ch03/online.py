"""The check of 03.online: a softmax over scores that come block by block."""

import weakref
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal
from llm_course.exercises.watch import watched

Block = tuple[Tensor, Tensor]
Blocks = Iterable[Block]
NEVER, LOWEST = -torch.inf, torch.finfo(torch.float32).min


class Once(Iterator[Block]):
    """An iterator that says so when it is asked for a second pass."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.used_up = iter(blocks), False

    def __next__(self) -> Block:
        for block in self.blocks:
            return block
        if self.used_up:
            used_up = "the blocks are used up: an iterator gives each of them once"
            raise RuntimeError(used_up)
        self.used_up = True
        raise StopIteration


def once(function: Function, blocks: Blocks) -> Tensor:
    """The blocks one after the other: there is no second pass."""
    return function(Once(blocks))


def at_once(blocks: Blocks) -> Tensor:
    """The reference: all scores beside one another, in float64."""
    scores, values = zip(*blocks, strict=True)
    weights = torch.cat(scores, dim=1).double().softmax(-1).nan_to_num(0.0)  # [Q, K]
    return (weights @ torch.cat(values).double()).to(values[0].dtype)


def merged(blocks: Blocks) -> Tensor:
    total, mixed, largest = torch.tensor(0.0), torch.tensor(0.0), torch.tensor(LOWEST)
    for scores, values in blocks:
        here = scores.amax(dim=-1, keepdim=True)
        new = torch.maximum(largest, here)
        shrink, e = (largest - new).exp(), (scores - new).exp()
        total = total * shrink + e.sum(dim=-1, keepdim=True)
        mixed = mixed * shrink + e @ values
        largest = new
    return mixed / total.masked_fill(total == 0, 1.0)


def by_logarithm(blocks: Blocks) -> Tensor:
    """Max and sum as one logarithm, in which the sum is lost beside -3e9 in float32."""
    mean, total = torch.tensor(0.0), torch.tensor(NEVER)
    for scores, values in blocks:
        here = scores.logsumexp(dim=-1, keepdim=True)
        new = torch.logaddexp(total, here)
        base = new.clamp(min=LOWEST)
        mean = (total - base).exp() * mean + (scores - base).exp() @ values
        total = new
    return mean


def cases() -> Cases:
    def cut(name: str, scores: Tensor, *sizes: int) -> Case:
        values = normal(scores.shape[1], 2, seed=1)
        parts = zip(scores.split(sizes, dim=1), values.split(sizes), strict=True)
        return Case([(s.clone(), v.clone()) for s, v in parts], name=name)

    first = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    second = torch.tensor([[3.0]]).log(), torch.tensor([[5.0]])
    yield Case([first, second], name="the weights are 1/4 and 3/4")
    yield cut("", 2 * normal(3, 9), 4, 2, 3)
    yield cut("", 100 + normal(3, 4), 2, 2)
    falling = normal(2, 6) - torch.tensor([0.0, 0.0, 200.0, 200.0, 400.0, 400.0])
    yield cut("scores that fall by 200 from block to block", falling, 2, 2, 2)
    yield cut("scores that rise by 200 from block to block", falling.flip(1), 2, 2, 2)
    low = normal(2, 4) - torch.tensor([[0.0], [300.0]])
    yield cut("all scores of one query far below the other's", low, 2, 2)
    yield cut("all scores near -300", normal(1, 4) - 300, 2, 2)
    yield cut("all scores -3e9", torch.full((2, 4), -3e9), 2, 2)
    yield cut("no key in the last block", torch.tensor([[0.0, NEVER]]), 1, 1)
    yield cut("no key in the first block", torch.tensor([[NEVER, 0.0]]), 1, 1)
    empty = torch.tensor([[0.0, 0.0], [NEVER, NEVER]])
    yield cut("a query without any key", empty, 1, 1)
    holed = normal(4, 15)
    holed[1, :5] = holed[2, 5:] = holed[3] = NEVER
    yield cut("", holed, 5, 4, 6)


def memory(function: Function) -> Complaints:
    seen: list[weakref.ref[Tensor]] = []
    kept = 0

    def arriving() -> Iterator[Block]:
        nonlocal kept
        for i in range(32):
            kept = max(kept, sum(ref() is not None for ref in seen[:-2]))
            block = normal(4, 16, seed=i), normal(16, 2, seed=i)
            seen.extend(map(weakref.ref, block))
            yield block

    most = watched(function, Once(arriving())).largest
    if kept > 2:
        old = f"{kept // 2} old ones"
        yield f"of 32 blocks it still holds {old} when it asks for the next."
    if most >= 4 * 16 * 32:
        yield f"it makes a tensor of {most} numbers; all scores of all blocks are 2048."


OWN_SOFTMAX = """(largest - new).exp(), (scores - new).exp() ->
        1.0, scores.softmax(-1).nan_to_num(0.0)"""
FROM_FIRST = """if total.ndim == 0: largest = here.clamp(min=LOWEST)
            new ="""
SOFTMAXES = "(scores - base).exp() -> (here - base).exp() * scores.softmax(-1)"
WRONG = f"""
that gives each block its own softmax and takes the mean
    {OWN_SOFTMAX} ;; e.sum(dim=-1, keepdim=True) -> 1.0
that gives each block its own softmax and adds them up
    {OWN_SOFTMAX} ;; / total.masked_fill(total == 0, 1.0) ->
that forgets to scale the weighted sum when the largest score grows
    mixed * shrink -> mixed
that forgets to scale the sum of exponentials when the largest score grows
    total * shrink -> total
that scales neither sum when the largest score grows
    mixed * shrink -> mixed ;; total * shrink -> total
that scales by e^(new - old), which is upside down
    largest - new -> new - largest
that scales by e^(new - old), which is upside down, and starts at -inf
    largest - new -> new - largest ;; tensor(LOWEST) -> tensor(NEVER)
that scales by e^(new - old) from the second block on, which is upside down
    largest - new -> new - largest ;; new = -> {FROM_FIRST}
that scales by e^(new - old), which is upside down, and starts at 0
    largest - new -> new - largest ;; tensor(LOWEST) -> tensor(0.0)
that subtracts no largest score: the exponentials overflow
    tensor(LOWEST) -> tensor(0.0) ;; torch.maximum(largest, here) -> largest
that subtracts no largest score: the exponentials overflow, or all become 0
    tensor(LOWEST) -> tensor(0.0) ;; torch.maximum(largest, here) -> largest
    .masked_fill(total == 0, 1.0) ->
that keeps the largest score of the first block: a later one may be larger
    new = torch.maximum(largest, here) -> {FROM_FIRST} largest
that starts with 0 as the largest score: where all are far below, all become 0
    tensor(LOWEST) -> tensor(0.0)
that starts with 0 as the largest score, and divides 0 by 0 where all are far below
    tensor(LOWEST) -> tensor(0.0) ;; .masked_fill(total == 0, 1.0) ->
that starts with -1e9 as the largest score: scores may be lower
    tensor(LOWEST) -> tensor(-1e9)
that starts with -1e9 as the largest score, and divides 0 by 0 below it
    tensor(LOWEST) -> tensor(-1e9) ;; .masked_fill(total == 0, 1.0) ->
that carries max and sum as one logarithm: -3e9 + ln 2 is -3e9 in float32, and the sum
is lost
    by_logarithm
that carries max and sum as one logarithm (-3e9 + ln 2 is -3e9 in float32), and makes
NaN of -inf - (-inf)
    by_logarithm ;; new.clamp(min=LOWEST) -> new
that merges softmaxes by logarithms of their sums: -3e9 + ln 2 is -3e9 in float32
    by_logarithm ;; {SOFTMAXES} ;; max(-1) -> max(-1).nan_to_num(0.0)
that merges softmaxes by logarithms of their sums (-3e9 + ln 2 is -3e9 in float32), and
makes NaN of -inf - (-inf)
    by_logarithm ;; {SOFTMAXES} ;; new.clamp(min=LOWEST) -> new
that subtracts the largest score of the block, where that so far belongs
    torch.maximum(largest, here) -> here.clamp(min=LOWEST)
with one largest score for all queries
    amax(dim=-1, keepdim=True) -> amax()
in which a query without a key in a block becomes NaN: -inf - (-inf), or 0 / 0
    tensor(LOWEST) -> tensor(NEVER)
that turns NaN into 0 at the end: a query has lost its other blocks by then
    tensor(LOWEST) -> tensor(NEVER)
    mixed / -> (mixed / ;; 1.0) -> 1.0)).nan_to_num(0.0)
that divides 0 by 0 for a query without a key
    .masked_fill(total == 0, 1.0) ->
without the division at the end
    / total.masked_fill(total == 0, 1.0) ->
"""

CHECK = Exercise("03.online", at_once, cases, WRONG, merged, call=once, rule=memory)
