# Exported from notebooks/08_batching.ipynb; edit there, then run its last cell.
"""Which sequences compute how many tokens in the next step."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

from llm_course.arguments import at_least, checked
from llm_course.engine.paged_cache import PagePool, PageTable

__all__ = ["Row", "Scheduler"]


@dataclass(eq=False)
class Row:
    """A sequence as the scheduler sees it."""

    order: tuple[int, int]  # when its request came, and which of its branches it is
    ids: list[int]  # the prompt, and what was generated so far
    table: PageTable
    width: int = 1  # how many continuations it splits into after its prompt
    cached: int | None = None  # tokens that were found in pages when it first ran

    @property
    def missing(self) -> int:
        """Tokens not yet computed: their keys and values are not in its pages."""
        return len(self.ids) - self.table.length


class Scheduler:
    """First come, first served, as far as rows, pages and tokens a step suffice.

    Rows that run come first, each with its tokens not yet computed: 1 while it
    generates, a chunk of its prompt before. Rows that wait follow while there is room.
    When pages run out, the youngest row gives up its own and waits again; what they
    held is computed anew.

    Source: Agrawal et al. 2024, "Sarathi-Serve", section 4 (chunks under a budget);
    Kwon et al. 2023, section 4.5 (recomputation).
    """

    @checked
    def __init__(self, pool: PagePool, max_rows: int, max_step_tokens: int) -> None:
        """Raises ValueError for max_rows < 1, and where not every row could have a
        token in each step."""
        at_least(1, max_rows=max_rows)
        if max_step_tokens < max_rows:
            raise ValueError(
                f"max_step_tokens = {max_step_tokens}: must be at least max_rows ="
                f" {max_rows}, so that every row gets a token"
            )
        self.pool, self.max_rows = pool, max_rows
        self.max_step_tokens = max_step_tokens
        self.waiting: list[Row] = []  # both lists in order
        self.running: list[Row] = []
        self.preemptions = 0

    def add(self, row: Row) -> None:
        """Let a row wait for its turn."""
        insort(self.waiting, row, key=lambda row: row.order)

    def start(self, row: Row) -> None:
        """Let a row run at once: a branch of one that runs."""
        insort(self.running, row, key=lambda row: row.order)

    def remove(self, row: Row) -> None:
        """Forget a row that is finished, wherever it stands, and free its pages."""
        (self.running if row in self.running else self.waiting).remove(row)
        row.table.release()

    def schedule(self) -> list[tuple[Row, int]]:
        """(row, tokens) of the next step, with room for the tokens reserved; empty
        when there is nothing to do."""
        plan, left = [], self.max_step_tokens
        for row in [*self.running]:
            n = min(row.missing, left)
            if n == 0:  # the budget is spent: a prompt goes on in the next step
                continue
            while row in self.running and row.table.shortage(n) > 0:
                self._preempt()
            if row in self.running:
                row.table.reserve(n)
                plan.append((row, n))
                left -= n
        while left and (new := self._admit()):
            n = min(new.missing, left)
            new.table.reserve(n)
            plan.append((new, n))
            left -= n
        return plan

    def _admit(self) -> Row | None:
        """Move the first waiting row to those that run, if it fits as a whole."""
        rows = sum(row.width for row in self.running)
        if not self.waiting or rows + self.waiting[0].width > self.max_rows:
            return None
        row = self.waiting[0]
        found = row.table.match(row.ids)
        if row.table.shortage(row.missing) > 0:
            row.table.release()
            return None
        row.cached = found if row.cached is None else row.cached
        self.start(self.waiting.pop(0))
        return row

    def _preempt(self) -> None:
        """The youngest row gives up its pages, and waits."""
        row = self.running.pop()
        row.table.release()
        self.add(row)
        self.preemptions += 1
