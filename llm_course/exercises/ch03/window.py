"""The check of 03.window: the mask of a sliding window with attention sinks."""

import torch
from torch import Tensor

from llm_course.exercises import Case, Cases, Exercise


def window_mask(num_queries: int, num_keys: int, window: int, sinks: int) -> Tensor:
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    key = torch.arange(num_keys)
    return (key <= query) & ((query - key < window) | (key < sinks))


def cases() -> Cases:
    yield Case(3, 3, 2, 0)
    yield Case(2, 5, 2, 0)
    yield Case(1, 8, 3, 2)
    yield Case(4, 4, 1, 2, name="sinks that some queries have not reached")
    yield Case(3, 4, 10, 1, name="a window larger than the text")
    yield Case(5, 9, 4, 3)


WRONG = """
whose window is one key too wide; the query's own position counts as one
    < window -> <= window
whose window is one key too narrow
    < window -> < window - 1
that puts query i at position i: the queries are the last of the keys
    torch.arange(num_keys - num_queries, num_keys) -> torch.arange(num_queries)
whose far edge is not moved by K - Q: only the near edge is
    query - key < window -> torch.arange(num_queries)[:, None] - key < window
that shows a sink to queries before it
    ((query -> (query ;; sinks)) -> sinks)
that never cuts off the future
    return (key <= query) & -> return
whose window reaches as far into the future as into the past
    return (key <= query) & -> return ;; query - key < -> (query - key).abs() <
without sinks
    | (key < sinks) ->
with one sink too many: the first `sinks` keys are 0 to sinks - 1
    < sinks -> <= sinks
that counts the sinks among the last Q keys, not from the start of the text
    (key < sinks) -> (key >= query[0]) & (key < query[0] + sinks)
whose window grows by the number of sinks
    < window -> < window + sinks
that takes the sinks out of the window
    < window -> < window - sinks
with True and False exchanged
    (key <= query) & -> (key > query) | ~
"""

CHECK = Exercise("03.window", window_mask, cases, WRONG)
