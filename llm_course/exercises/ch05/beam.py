"""The check of exercise 05.beam: several texts at once, the most probable ones kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nlargest
from typing import Any

import torch
from torch import Tensor

from llm_course.exercises.records import Case, Exercise, case

LogProbs = Callable[[list[int]], Tensor]
Beams = list[tuple[list[int], float]]


def score(beam: tuple[list[int], float]) -> float:
    return beam[1]


def extended(beam: tuple[list[int], float], log_probs: LogProbs) -> Beams:
    ids, total = beam
    return [
        ([*ids, i], total + value) for i, value in enumerate(log_probs(ids).tolist())
    ]


def ended(beam: tuple[list[int], float], prompt: list[int], eos: int) -> bool:
    return len(beam[0]) > len(prompt) and beam[0][-1] == eos


def beam_search(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    beams: Beams = [(list(prompt), 0.0)]
    for _ in range(steps):
        candidates: Beams = []
        for beam in beams:
            candidates += (
                [beam] if ended(beam, prompt, eos) else extended(beam, next_log_probs)
            )
        beams = nlargest(width, candidates, key=score)
    return beams


def greedy(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    return beam_search(next_log_probs, prompt, 1, steps, eos)


def each_its_best(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """The first step takes `width` tokens; after it the beams do not compete."""
    beams = beam_search(next_log_probs, prompt, width, 1, eos)
    for _ in range(steps - 1):
        beams = [
            (
                beam
                if ended(beam, prompt, eos)
                else max(extended(beam, next_log_probs), key=score)
            )
            for beam in beams
        ]
    return nlargest(width, beams, key=score)


def one_child(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """The same by `topk`, which a vocabulary smaller than `width` does not have."""
    next_log_probs(prompt).topk(width)
    return each_its_best(next_log_probs, prompt, width, steps, eos)


def past_the_end(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    return beam_search(next_log_probs, prompt, width, steps, -1)


def end_in_prompt(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    if prompt[-1] == eos:
        return [(list(prompt), 0.0)]
    return beam_search(next_log_probs, prompt, width, steps, eos)


def ended_lost(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """A beam that has ended is extended no more, and dropped."""
    beams: Beams = [(list(prompt), 0.0)]
    for _ in range(steps):
        going = [beam for beam in beams if not ended(beam, prompt, eos)]
        beams = nlargest(
            width,
            [new for beam in going for new in extended(beam, next_log_probs)],
            key=score,
        )
    return beams


def first_end(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """Everything stops when one beam has ended."""
    for n in range(1, steps + 1):
        beams = beam_search(next_log_probs, prompt, width, n, eos)
        if any(ended(beam, prompt, eos) for beam in beams):
            return beams
    return beams


def probabilities_added(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    return beam_search(lambda ids: next_log_probs(ids).exp(), prompt, width, steps, eos)


def copies(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """`width` equal prompts at the start: their continuations are equal too."""
    beams: Beams = [(list(prompt), 0.0)] * width
    for _ in range(steps):
        candidates: Beams = []
        for beam in beams:
            candidates += (
                [beam] if ended(beam, prompt, eos) else extended(beam, next_log_probs)
            )
        beams = nlargest(width, candidates, key=score)
    return beams


def last_score(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """Ranks by the last token alone."""
    beams: Beams = [(list(prompt), 0.0)]
    for _ in range(steps):
        candidates: Beams = []
        for beam in beams:
            fresh = (beam[0], 0.0)
            candidates += (
                [beam] if ended(beam, prompt, eos) else extended(fresh, next_log_probs)
            )
        beams = nlargest(width, candidates, key=score)
    return beams


def set_aside(slots: bool) -> Callable[..., Beams]:
    """Ended beams wait in a list of their own, where nothing pushes them out, until the
    end.

    With `slots` each of them leaves one place less for those that go on.
    """

    def search(
        next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
    ) -> Beams:
        going: Beams = [(list(prompt), 0.0)]
        done: Beams = []
        for _ in range(steps):
            candidates = [
                new for beam in going for new in extended(beam, next_log_probs)
            ]
            best = nlargest(width - slots * len(done), candidates, key=score)
            done += [beam for beam in best if ended(beam, prompt, eos)]
            going = [beam for beam in best if not ended(beam, prompt, eos)]
        return nlargest(width, done + going, key=score)

    return search


def best_end(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """Everything stops when the best beam has ended."""
    for n in range(1, steps + 1):
        beams = beam_search(next_log_probs, prompt, width, n, eos)
        if ended(beams[0], prompt, eos):
            return beams
    return beams


def per_token(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """Ranks by the score divided by the number of new tokens."""
    beams: Beams = [(list(prompt), 0.0)]
    for _ in range(steps):
        candidates: Beams = []
        for beam in beams:
            candidates += (
                [beam] if ended(beam, prompt, eos) else extended(beam, next_log_probs)
            )
        beams = nlargest(
            width, candidates, key=lambda beam: beam[1] / (len(beam[0]) - len(prompt))
        )
    return beams


def per_token_within(*args: Any) -> Beams:
    """The same, but at the end what is left is ranked by the score."""
    return sorted(per_token(*args), key=score, reverse=True)


def worst_first(*args: Any) -> Beams:
    return beam_search(*args)[::-1]


def without_prompt(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    beams = beam_search(next_log_probs, prompt, width, steps, eos)
    return [(ids[len(prompt) :], total) for ids, total in beams]


def only_best(*args: Any) -> Beams:
    return beam_search(*args)[:1]


# --- models: a table, and random numbers that depend on all ids

TREE = {  # by the new ids so far; the exercise prints this table
    (): [0.5, 0.4, 0.1],
    (0,): [0.5, 0.3, 0.2],
    (1,): [0.04, 0.06, 0.9],
}
# the text that ends at once is among the best two after one step, and not after two
EARLY = {
    (): [0.7, 0.02, 0.28],
    (0,): [0.44, 0.41, 0.15],
    (0, 0): [0.4, 0.25, 0.35],
    (0, 1): [0.5, 0.3, 0.2],
    (1,): [0.2, 0.1, 0.7],
}


def from_table(rows: dict[tuple[int, ...], list[float]]) -> LogProbs:
    """The model of such a table. Its prompt has one id."""

    def table(ids: list[int]) -> Tensor:
        new = tuple(ids[1:])
        if new not in rows:
            raise ValueError(
                f"the table has no line after {list(new)}: has this text ended?"
            )
        return torch.tensor(rows[new]).log()

    return table


def printed(rows: dict[tuple[int, ...], list[float]]) -> str:
    lines = [
        f"{list(new)}: {', '.join(map(str, probs))}" for new, probs in rows.items()
    ]
    return "probabilities after the new ids " + "; after ".join(lines)


def scattered(vocabulary: int) -> LogProbs:
    def random_model(ids: list[int]) -> Tensor:
        seed = sum((i + 1) * 31**place for place, i in enumerate(ids)) % 2**31
        numbers = torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed))
        return (1.5 * numbers).log_softmax(-1)

    return random_model


def beam_cases() -> Iterator[Case]:
    """No two candidates are equally probable."""
    tree, early = from_table(TREE), from_table(EARLY)
    yield case(tree, [0], 1, 2, 2, name="width 1 is greedy")
    yield case(
        tree, [0], 2, 2, 2, name="the less probable first token is better in the end"
    )
    # the second: a short text is the third best
    for width, steps in (
        (2, 2),
        (3, 2),
        (2, 3),
    ):
        yield case(early, [0], width, steps, 2, name=printed(EARLY))
    yield case(scattered(6), [3, 1], 3, 5, 0)
    yield case(scattered(5), [2, 0], 4, 4, 0, name="the prompt ends in eos")
    yield case(scattered(3), [1], 8, 3, 2, name="fewer tokens than beams")


def calls(function: Callable[..., Beams]) -> str | None:
    """Counts the calls of the model."""
    asked: list[list[int]] = []
    model = scattered(6)

    def next_log_probs(ids: list[int]) -> Tensor:
        asked.append(list(ids))
        return model(ids)

    function(next_log_probs, [3, 1], 3, 5, 0)
    right = len(asked)
    asked.clear()
    beam_search(next_log_probs, [3, 1], 3, 5, 0)
    if right <= len(asked):
        return None
    return f"it asks for log-probabilities {right} times; {len(asked)} are enough."


BEAM = Exercise(
    "05.beam",
    reference=beam_search,
    cases=beam_cases,
    wrong={
        "with one beam, whatever the width": greedy,
        "whose beams do not compete: each keeps its own best continuation": (
            each_its_best
        ),
        "with one child for each beam; all the best may come from one beam. `topk(k)` needs k <= V": (
            one_child
        ),
        "that extends a text after its end": past_the_end,
        "that takes eos in the prompt for an end": end_in_prompt,
        "that loses the texts that have ended": ended_lost,
        "that sets texts aside when they end; better ones must be able to push them out": set_aside(
            slots=False
        ),
        "whose ended texts keep their place for good; better ones must be able to push them out": set_aside(
            slots=True
        ),
        "that stops when the best text has ended": best_end,
        "that ranks by the score divided by the length": per_token,
        "that chooses by the score divided by the length, and ranks by the score at the end": (
            per_token_within
        ),
        "with the worst beam first": worst_first,
        "without the prompt in the ids": without_prompt,
        "that returns the best beam only": only_best,
        "that stops when the first text has ended": first_end,
        "that adds probabilities; the score is a sum of their logarithms": (
            probabilities_added
        ),
        "that starts with `width` copies of the prompt, which stay equal": copies,
        "that ranks by the last token alone; the score is a sum over all new tokens": (
            last_score
        ),
    },
    properties=(calls,),
)
