"""The check of 08.lru: what a cache of few pages still knows."""

import numpy as np

from llm_course.exercises import Case, Cases, Exercise


def pages_found(requests: list[list[str]], capacity: int) -> int:
    held: dict[str, None] = {}  # the least recently used name first
    found = 0
    for names in requests:
        known = 0
        while known < len(names) and names[known] in held:
            known += 1
        found += known
        for name in reversed(names):
            held.pop(name, None)
            held[name] = None
        while len(held) > capacity:
            del held[next(iter(held))]
    return found


def trace(seed: int, conversations: int, turns: int) -> list[list[str]]:
    """Turns of some conversations in random order, each a page or two longer than the
    one before, all after one system prompt."""
    rng = np.random.default_rng(seed)
    length, requests = [1] * conversations, []
    for _ in range(turns):
        one = int(rng.integers(conversations))
        length[one] += int(rng.integers(1, 3))
        requests.append(["system", *(f"{one}.{i}" for i in range(length[one] - 1))])
    return requests


def cases() -> Cases:
    yield Case([["a", "b"], ["a", "b"]], 2, name="the same request twice")
    yield Case([["a", "b"], ["a", "c"], ["a", "b"]], 3, name="room for all")
    yield Case([["a", "b", "c"], ["d"], ["a", "b", "c"]], 3, name="the end goes first")
    yield Case(
        [["a"], ["b"], ["a"], ["c"], ["a"], ["b"]], 2, name="one is used all the time"
    )
    yield Case([["a", "b"], ["c", "d"], ["a", "b"]], 2, name="no room for both")
    for seed, capacity in enumerate((9, 8, 12, 11)):
        yield Case(trace(seed, 3, 9), capacity)


WRONG = """
that gives up what was stored first, even if it was used since
    held.pop(name, None)
                held[name] = None -> held.setdefault(name)
that gives up the beginning of a request before its end
    reversed(names) -> names
that gives up the page that was used last
    next(iter(held)) -> next(reversed(held))
that forgets everything when there are too many
    while len(held) > capacity:
                del held[next(iter(held))] -> if len(held) > capacity: held.clear()
that gives up one page at most after a request
    while len(held) > capacity -> if len(held) > capacity
that keeps a page more than there is room for
    len(held) > capacity -> len(held) > capacity + 1
that keeps a page less than there is room for
    len(held) > capacity -> len(held) >= capacity
that never gives up a page
    while len(held) > capacity -> while False
that counts requests that find something, not pages
    found += known -> found += known > 0
that counts the pages that are computed
    found += known -> found += len(names) - known
"""

CHECK = Exercise("08.lru", pages_found, cases, WRONG)
