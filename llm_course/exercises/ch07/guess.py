"""The check of 07.guess: how many guesses a pass should judge."""

from llm_course.exercises import Case, Cases, Exercise


def best(p: float, times: list[float]) -> tuple[int, float, float]:
    found = 0, 1.0, 1.0
    for k in range(0, len(times)):
        tokens = sum(p**i for i in range(k + 1))
        speed_up = tokens * times[0] / times[k]
        if speed_up > found[2]:
            found = k, tokens, speed_up
    return found


def cases() -> Cases:
    yield Case(0.5, [10.0, 11.0], name="one guess costs 1 ms")
    yield Case(0.5, [10.0, 16.0, 22.0], name="rows cost too much")
    yield Case(0.8, [20.0, 21.0, 22.5, 24.0, 30.0, 38.0, 39.0, 46.0])
    yield Case(0.6, [5.0, 5.5, 9.0, 9.2, 9.4, 9.6], name="a step in the times")
    yield Case(0.9, [5.0, 12.0, 12.2, 12.5, 13.0, 13.2], name="slow at first")
    yield Case(0.0, [4.0, 4.0, 4.0], name="every guess is wrong")
    yield Case(1.0, [4.0, 5.0, 6.0, 7.0], name="every guess is right")
    yield Case(0.3, [7.0], name="no room for a guess")


TOKENS = "sum(p**i for i in range(k + 1))"
WRONG = f"""
that counts the right guesses alone: the model's own token comes on top
    {TOKENS} -> sum(p**i for i in range(1, k + 1)) if k else 1.0
that counts k tokens when all k guesses are right; then there are k + 1
    {TOKENS} -> sum(p**i for i in range(max(k, 1)))
that counts right guesses behind a wrong one: 1 + k p
    {TOKENS} -> 1 + k * p
in which all k guesses are right, or none counts
    {TOKENS} -> 1 + k * p**k
that counts a right guess only if the next one is wrong
    {TOKENS} -> 1 + sum(i * p**i * (1 - p) for i in range(1, k + 1))
that divides 0 by 0 where p is 1
    {TOKENS} -> (1 - p ** (k + 1)) / (1 - p)
that takes 1 token for the answer of the formula where p is 1
    {TOKENS} -> (1 - p ** (k + 1)) / (1 - p) if p < 1 else 1.0
that guesses without an end, 1 / (1 - p), whatever k is
    {TOKENS} -> 1 / max(1 - p, 1e-9) if k else 1.0
that looks for the most tokens, whatever the pass takes
    if speed_up > found[2] -> if tokens > found[1]
that looks for the pass with the shortest time for a row
    if speed_up > found[2] -> if (k + 1) / times[k] > (found[0] + 1) / times[found[0]]
in which k guesses take the time of k rows: the token itself is a row too
    times[k] -> times[max(k - 1, 0)]
in which k + 1 rows take k + 1 times as long as one
    / times[k] -> / (times[0] * (k + 1))
in which at least one guess is made: without may be best
    range(0, -> range(1, ;; found = 0, 1.0, 1.0 -> found = 0, 1.0, 0.0
that leaves out the last time of the table
    len(times)): -> len(times) - 1):
that takes the largest of several equally good k
    speed_up > -> speed_up >=
that stops at the first k that is no better than the one before
    found = k, tokens, speed_up -> found = k, tokens, speed_up
            elif k: break
that returns the time for a token, where the speed-up belongs
    return found -> return found[0], found[1], times[found[0]] / found[1]
that returns tokens for each unit of time, where the speed-up belongs
    return found -> return found[0], found[1], found[2] / times[0]
that returns the number of rows, k + 1, for k
    return found -> return found[0] + 1, *found[1:]
"""

CHECK = Exercise("07.guess", best, cases, WRONG)
