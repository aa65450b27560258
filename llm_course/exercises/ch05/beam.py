"""The check of 05.beam: several texts at once, the most probable ones kept."""

from collections.abc import Callable
from heapq import nlargest
from operator import itemgetter
from unittest.mock import Mock

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, normal

LogProbs = Callable[[list[int]], Tensor]
Beams = list[tuple[list[int], float]]
score = itemgetter(1)
# Probabilities by the new ids so far; the exercise prints this table.
TREE = {(): [0.5, 0.4, 0.1], (0,): [0.5, 0.3, 0.2], (1,): [0.04, 0.06, 0.9]}
# The text that ends at once is among the best two after one step, and not after two.
EARLY = {
    (): [0.7, 0.02, 0.28],
    (0,): [0.44, 0.41, 0.15],
    (0, 0): [0.4, 0.25, 0.35],
    (0, 1): [0.5, 0.3, 0.2],
    (1,): [0.2, 0.1, 0.7],
}


def search(
    next_log_probs: LogProbs, prompt: list[int], width: int, steps: int, eos: int
) -> Beams:
    beams: Beams = [(list(prompt), 0.0)]
    for _ in range(steps):
        candidates: Beams = []
        for ids, total in beams:
            if ids[-1] == eos and len(ids) > len(prompt):
                candidates.append((ids, total))
                continue
            log_probs = next_log_probs(ids).tolist()
            candidates += [([*ids, i], total + x) for i, x in enumerate(log_probs)]
        beams = nlargest(width, candidates, key=score)
    return beams


def from_table(rows: dict[tuple[int, ...], list[float]]) -> LogProbs:
    """The model of such a table. Its prompt has one id."""

    def table(ids: list[int]) -> Tensor:
        new = ids[1:]
        if tuple(new) not in rows:
            raise ValueError(f"the table has no line after {new}: has this text ended?")
        return torch.tensor(rows[tuple(new)]).log()

    return table


def printed(rows: dict[tuple[int, ...], list[float]]) -> str:
    lines = [f"{[*new]}: {', '.join(map(str, rows[new]))}" for new in rows]
    return "probabilities after the new ids " + "; after ".join(lines)


def scattered(vocabulary: int) -> LogProbs:  # random numbers that depend on all ids
    def random_model(ids: list[int]) -> Tensor:
        seed = sum((i + 1) * 31**place for place, i in enumerate(ids)) % 2**31
        return (1.5 * normal(vocabulary, seed=seed)).log_softmax(-1)

    return random_model


def cases() -> Cases:
    """No two candidates are equally probable."""
    tree, early = from_table(TREE), from_table(EARLY)
    yield Case(tree, [0], 1, 2, 2, name="width 1 is greedy")
    name = "the less probable first token is better in the end"
    yield Case(tree, [0], 2, 2, 2, name=name)
    for width, steps in ((2, 2), (3, 2), (2, 3)):  # a short text is the third best
        yield Case(early, [0], width, steps, 2, name=printed(EARLY))
    yield Case(scattered(6), [3, 1], 3, 5, 0)
    yield Case(scattered(5), [2, 0], 4, 4, 0, name="the prompt ends in eos")
    yield Case(scattered(3), [1], 8, 3, 2, name="fewer tokens than beams")


def calls(function: Function) -> Complaints:
    """Counts the calls of the model."""
    asked, needed = Mock(side_effect=scattered(6)), Mock(side_effect=scattered(6))
    function(asked, [3, 1], 3, 5, 0)
    search(needed, [3, 1], 3, 5, 0)
    times, enough = asked.call_count, needed.call_count
    if times > enough:
        yield f"it asks for log-probabilities {times} times; {enough} are enough."


# At the first step there is one beam, and its best `width` tokens are taken.
ITS_BEST = """+= [( -> += nlargest(1 if len(beams) > 1 else width, [(
    enumerate(log_probs)] -> enumerate(log_probs)], key=score)"""
SET_ASIDE = """beams: Beams = -> done: Beams = []; beams =
    candidates.append( -> done.append(
    return beams -> return nlargest(width, done + beams, key=score)"""
PER_TOKEN = "key=score -> key=lambda beam: beam[1] / (len(beam[0]) - len(prompt))"
WRONG = f"""
with one beam, whatever the width
    nlargest(width -> nlargest(1
whose beams do not compete: each keeps its own best continuation
    {ITS_BEST}
with one child for each beam; all the best may come from one beam. `topk(k)` needs
k <= V
    {ITS_BEST}
    beams: Beams = -> next_log_probs(prompt).topk(width); beams =
that extends a text after its end
    ids[-1] == eos and -> False and
that takes eos in the prompt for an end
    and len(ids) > len(prompt) ->
that loses the texts that have ended
    candidates.append((ids, total)) -> pass
that sets texts aside when they end; better ones must be able to push them out
    {SET_ASIDE}
whose ended texts keep their place for good; better ones must be able to push them out
    {SET_ASIDE} ;; nlargest(width, cand -> nlargest(width - len(done), cand
that stops when the best text has ended
    key=score) -> key=score)
            if beams[0][0][-1] == eos: break
that ranks by the score divided by the length
    {PER_TOKEN}
that chooses by the score divided by the length, and ranks by the score at the end
    {PER_TOKEN} ;; return -> beams.sort(key=score, reverse=True); return
with the worst beam first
    return beams -> return beams[::-1]
without the prompt in the ids
    return beams -> return [(ids[len(prompt) :], x) for ids, x in beams]
that returns the best beam only
    return beams -> return beams[:1]
that stops when the first text has ended
    key=score) -> key=score)
            if any(ids[-1] == eos for ids, _ in beams): break
that adds probabilities; the score is a sum of their logarithms
    next_log_probs(ids) -> next_log_probs(ids).exp()
that starts with `width` copies of the prompt, which stay equal
    [(list(prompt), 0.0)] -> [(list(prompt), 0.0)] * width
that ranks by the last token alone; the score is a sum over all new tokens
    total + x -> x
"""

CHECK = Exercise("05.beam", search, cases, WRONG, rule=calls)
