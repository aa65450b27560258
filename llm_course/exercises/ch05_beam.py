"""The check of exercise 05.beam: several texts at once, the most probable ones kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import nlargest

import torch
from torch import Tensor

from llm_course.exercises.records import Case, Exercise, case

LogProbs = Callable[[list[int]], Tensor]
Beams = list[tuple[list[int], float]]


def score(beam: tuple[list[int], float]) -> float:
    return beam[1]


def extended(beam: tuple[list[int], float], log_probs: LogProbs) -> Beams:
    ids, total = beam
    return [([*ids, i], total + value) for i, value in enumerate(log_probs(ids).tolist())]


def ended(beam: tuple[list[int], float], prompt: list[int], eos: int) -> bool:
    return len(beam[0]) > len(prompt) and beam[0][-1] == eos


def beam_search(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    beams: Beams = [(list(prompt), 0.0)]
    for _ in range(steps):
        candidates: Beams = []
        for beam in beams:
            candidates += [beam] if ended(beam, prompt, eos) else extended(beam, next_log_probs)
        beams = nlargest(width, candidates, key=score)
    return beams


def greedy(next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int) -> Beams:
    return beam_search(next_log_probs, prompt, 1, steps, eos)


def each_its_best(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    """The first step takes `width` tokens; after it the beams do not compete."""
    beams = beam_search(next_log_probs, prompt, width, 1, eos)
    for _ in range(steps - 1):
        beams = [
            beam if ended(beam, prompt, eos) else max(extended(beam, next_log_probs), key=score)
            for beam in beams
        ]
    return nlargest(width, beams, key=score)


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
            width, [new for beam in going for new in extended(beam, next_log_probs)], key=score
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


def copies(next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int) -> Beams:
    """`width` equal prompts at the start: their continuations are equal too."""
    beams: Beams = [(list(prompt), 0.0)] * width
    for _ in range(steps):
        candidates: Beams = []
        for beam in beams:
            candidates += [beam] if ended(beam, prompt, eos) else extended(beam, next_log_probs)
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
            candidates += [beam] if ended(beam, prompt, eos) else extended(fresh, next_log_probs)
        beams = nlargest(width, candidates, key=score)
    return beams


# --- models: a table, and random numbers that depend on all ids

TREE = {  # by the new ids so far; the exercise prints this table
    (): [0.5, 0.4, 0.1],
    (0,): [0.5, 0.3, 0.2],
    (1,): [0.04, 0.06, 0.9],
}


def tree(ids: list[int]) -> Tensor:
    return torch.tensor(TREE[tuple(ids[1:])]).log()


def scattered(vocabulary: int) -> LogProbs:
    def next_log_probs(ids: list[int]) -> Tensor:
        seed = sum((i + 1) * 31**place for place, i in enumerate(ids)) % 2**31
        numbers = torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed))
        return (1.5 * numbers).log_softmax(-1)

    return next_log_probs


def beam_cases() -> Iterator[Case]:
    yield case(tree, [0], 1, 2, 2, name="width 1 is greedy")
    yield case(tree, [0], 2, 2, 2, name="the less probable first token is better in the end")
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
        "whose beams do not compete: each keeps its own best continuation": each_its_best,
        "that extends a text after its end": past_the_end,
        "that takes eos in the prompt for an end": end_in_prompt,
        "that loses the texts that have ended": ended_lost,
        "that stops when the first text has ended": first_end,
        "that adds probabilities; the score is a sum of their logarithms": probabilities_added,
        "that starts with `width` copies of the prompt, which stay equal": copies,
        "that ranks by the last token alone; the score is a sum over all new tokens": last_score,
    },
    properties=(calls,),
)
