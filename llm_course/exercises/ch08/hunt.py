"""The bug hunt of chapter 08: names of pages that tell too little of what stands
before."""

from llm_course.exercises import BugHunt


def right(ids: list[int], size: int) -> list[int]:
    names, name = [], 0
    for start in range(0, len(ids) - size + 1, size):
        name = hash((name, *ids[start : start + size]))
        names.append(name)
    return names


PLANTED = "name, *ids[start : -> start, *ids[max(start - size, 0) :"
KIND = "two pages after different texts get one name"
OTHERS = """
the name is made of the page's own tokens alone
    hash((name, *ids[start : start + size])) -> hash((*ids[start : start + size],))
of what stands before, only its length counts
    hash((name, *ids -> hash((start, *ids
of what stands before, only the first page counts
    hash((name, -> hash((start, *ids[:size],
the order of the tokens in a page does not count
    *ids[start : start + size] -> *sorted(ids[start : start + size])
only the last token of a page counts
    *ids[start : start + size] -> ids[start + size - 1]
only the first token of a page counts
    *ids[start : start + size] -> ids[start]
a page that is not full has a name
    range(0, len(ids) - size + 1, size) -> range(0, len(ids), size)
the last page has none, although it is full
    range(0, len(ids) - size + 1, size) -> range(0, len(ids) - size, size)
a name tells what comes after the page
    hash((name, *ids[start : start + size])) -> hash((start, *ids))
a name tells how long the whole text is
    hash((name, *ids -> hash((name, len(ids), *ids
the order of the pages does not count
    name = hash((name, *ids[start : start + size])) ->
        name ^= hash((*ids[start : start + size],))
"""

CHECK = BugHunt("08.hunt", right, PLANTED, KIND, OTHERS)
