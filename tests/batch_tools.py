"""What the tests of pages, scheduler and engine share: what must hold after each
step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from llm_course.config import GenerationConfig
from llm_course.engine import generate
from llm_course.engine.batch import Engine
from llm_course.engine.paged_cache import PagePool, PageTable
from llm_course.engine.scheduler import Scheduler
from llm_course.models import DecoderOnlyModel
from tests.helpers import CPU


def check_pool(pool: PagePool, tables: Iterable[PageTable]) -> None:
    """Every page is owned or free, and owned as often as it stands in a table."""
    counted = Counter(page for table in tables for page in table.pages)
    assert pool.owners == [counted[page] for page in range(pool.num_pages)]
    assert set(pool.free) == set(range(pool.num_pages)) - set(counted)
    assert pool.used == len(counted)
    assert {name: page for page, name in pool.hash_of.items()} == pool.page_of


def check_scheduler(scheduler: Scheduler) -> None:
    """Between steps: pages, order, limits; a row that waits holds nothing."""
    running, waiting = scheduler.running, scheduler.waiting
    check_pool(scheduler.pool, [row.table for row in [*running, *waiting]])
    assert not any(row.table.pages for row in waiting)
    # all but the youngest generate, so in order they come before any prompt
    assert all(row.missing == 1 for row in running[:-1])
    assert sum(row.width for row in running) <= scheduler.max_rows
    for rows in (running, waiting):
        assert [row.order for row in rows] == sorted(row.order for row in rows)
    size = scheduler.pool.page_size
    for row in running:
        assert row.table.length <= len(row.table.pages) * size


def check_plan(scheduler: Scheduler, plan: list) -> None:
    """Before a pass: no page is written that another reads, or whose content is
    known."""
    pool, written = scheduler.pool, []
    for row, n in plan:
        assert n >= 1
        first, last = row.table.length, row.table.length + n - 1
        pages = row.table.pages[first // pool.page_size : last // pool.page_size + 1]
        assert len(row.table.pages) * pool.page_size > last
        written += pages
        assert all(pool.owners[page] == 1 for page in pages)
        assert not any(page in pool.hash_of for page in pages)
    assert len(set(written)) == len(written)
    assert sum(n for _, n in plan) <= scheduler.max_step_tokens


def watched(engine: Engine) -> Engine:
    """The same engine, which checks its plan before each pass."""
    logits = engine.logits

    def checked(model, cache, plan):
        check_plan(engine.scheduler, plan)
        return logits(model, cache, plan)

    engine.logits = checked
    return engine


def alone(
    model: DecoderOnlyModel,
    prompt: list[int],
    config: GenerationConfig,
    eos: tuple[int, ...] = (),
) -> list[int]:
    """The new tokens of a prompt by `generate`, as its only row."""
    ids = torch.tensor([prompt])
    found = generate(model, ids, model.config, CPU, config, eos or None)
    return found[0, len(prompt) :].tolist()
