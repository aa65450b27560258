"""The check of 08.pages: how many pages requests with one beginning need."""

from llm_course.exercises import Case, Cases, Exercise


def pages_needed(beginning: int, tails: list[int], size: int) -> int:
    shared, rest = divmod(beginning, size)
    return shared + sum(-(-(rest + tail) // size) for tail in tails)


def cases() -> Cases:
    yield Case(8, [3], 4, name="one request")
    yield Case(8, [3, 5], 4, name="a beginning of two full pages")
    yield Case(10, [3, 2], 4, name="a beginning that ends in the middle of a page")
    yield Case(10, [2, 6], 4, name="pages that are just full")
    yield Case(3, [1, 1, 2], 16, name="everything within a page")
    yield Case(0, [5, 9, 4], 4, name="no common beginning")
    yield Case(500, [31, 12, 77, 100], 16)


SUM = "sum(-(-(rest + tail) // size) for tail in tails)"
WRONG = f"""
in which nothing is shared
    return shared + -> return shared * len(tails) +
that shares the page in which the beginning ends, too: each request goes on in a copy of
its own
    return shared + {SUM} ->
        return -(-beginning // size) + sum(-(-tail // size) for tail in tails)
that loses the tokens of the beginning after its last full page
    (rest + tail) -> (tail)
that counts full pages only
    -(-(rest + tail) // size) -> (rest + tail) // size
that takes a page ahead, also where the last one is just full
    -(-(rest + tail) // size) -> (rest + tail) // size + 1
that leaves out the shared pages
    return shared + -> return
that lets the requests share the pages of their own tokens
    {SUM} -> -(-sum(rest + tail for tail in tails) // size)
that counts tokens, not pages
    return shared + {SUM} -> return beginning + sum(tails)
that counts the request with the longest tail alone
    {SUM} -> -(-(rest + max(tails)) // size)
"""

CHECK = Exercise("08.pages", pages_needed, cases, WRONG)
