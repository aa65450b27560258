"""The check of 08.goodput: requests a second that were served as users expect."""

from llm_course.exercises import Case, Cases, Exercise


def goodput(
    times: list[tuple[float, float, float, int]], wait: float, gap: float
) -> float:
    good = 0
    for arrived, first, ended, tokens in times:
        each = (ended - first) / (tokens - 1) if tokens > 1 else 0.0
        good += first - arrived <= wait and each <= gap
    start = min(arrived for arrived, _, _, _ in times)
    return good / (max(ended for _, _, ended, _ in times) - start)


def cases() -> Cases:
    yield Case([(0.0, 0.5, 2.5, 5)], 1.0, 0.5, name="one request, just in time")
    yield Case([(0.0, 0.5, 2.5, 5)], 1.0, 0.45, name="gaps of half a second")
    yield Case([(1.0, 1.5, 2.5, 3), (1.0, 4.0, 5.0, 3)], 1.0, 1.0, name="one waits")
    yield Case([(2.0, 2.5, 6.5, 3), (3.0, 3.5, 4.0, 2)], 1.0, 1.0, name="one is slow")
    yield Case([(0.0, 0.25, 0.25, 1)], 0.25, 0.1, name="a single token")
    yield Case(
        [
            (3.0, 3.5, 9.0, 12),
            (2.0, 3.5, 4.5, 9),
            (4.0, 4.5, 8.0, 8),
            (5.0, 7.0, 7.5, 2),
        ],
        1.75,
        0.5,
        name="in no order",
    )
    yield Case([(0.0, 4.0, 8.0, 3), (1.0, 5.0, 9.0, 3)], 1.0, 1.0, name="none in time")


WRONG = """
that divides by all tokens: between n tokens there are n - 1 gaps
    (tokens - 1) if tokens > 1 else 0.0 -> tokens
in which a gap is counted from the arrival
    (ended - first) -> (ended - arrived)
in which one limit is enough
    <= wait and each -> <= wait or each
that looks at the wait alone
    and each <= gap ->
that looks at the gaps alone
    first - arrived <= wait and each -> each
in which a request that just keeps a limit is too late
    arrived <= wait and each <= gap -> arrived < wait and each < gap
that counts every request: throughput, not goodput
    good += first - arrived <= wait and each <= gap -> good += 1
that gives a share of the requests, not a number in a second
    (max(ended for _, _, ended, _ in times) - start) -> len(times)
that begins at time 0, not with the first arrival
    start = min(arrived for arrived, _, _, _ in times) -> start = 0.0
that ends with the last request of the list, not with the one that ended last
    max(ended for _, _, ended, _ in times) -> times[-1][2]
that ends with the last first token
    max(ended for _, _, ended, _ in times) -> max(first for _, first, _, _ in times)
that begins with the first request of the list, not with the first to arrive
    min(arrived for arrived, _, _, _ in times) -> times[0][0]
that counts tokens, where requests belong
    first - arrived <= wait and each <= gap ->
        tokens * (first - arrived <= wait and each <= gap)
"""

CHECK = Exercise("08.goodput", goodput, cases, WRONG)
