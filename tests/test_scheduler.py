"""The scheduler without a model: each row's pages fill, and a token follows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.engine import PagePool, PageTable, Row, Scheduler
from tests.batch_tools import check_plan, check_scheduler

derandomized = settings(max_examples=80, deadline=None, derandomize=True)


def row(scheduler: Scheduler, number: int, length: int, token: int = 0) -> Row:
    return Row((number, 0), [token] * length, PageTable(scheduler.pool))


def step(scheduler: Scheduler) -> list[tuple[tuple[int, int], int]]:
    """One step as the engine does it -> (order, tokens) of its plan."""
    plan = scheduler.schedule()
    check_plan(scheduler, plan)
    for one, n in plan:
        one.table.advance(n)
        one.table.remember(one.ids)
        if one.missing == 0:
            one.ids.append(len(one.ids) % 3)
    check_scheduler(scheduler)
    return [(one.order, n) for one, n in plan]


@derandomized
@given(st.data())
def test_every_row_gets_its_tokens_in_the_end(data: st.DataObject):
    size, pages = data.draw(st.integers(1, 4)), data.draw(st.integers(3, 12))
    max_rows = data.draw(st.integers(1, 4))
    pool = PagePool(pages, size)
    scheduler = Scheduler(pool, max_rows, max_rows + data.draw(st.integers(0, 6)))
    room = pages * size
    lengths = data.draw(st.lists(st.integers(1, room - 1), min_size=1, max_size=6))
    rows = [row(scheduler, i, n, i % 2) for i, n in enumerate(lengths)]
    ends = [data.draw(st.integers(n + 1, room + 1)) for n in lengths]
    gaps = [data.draw(st.integers(0, 9)) for _ in rows]
    for now in range(1000):
        for i, one in enumerate(rows):
            if sum(gaps[: i + 1]) == now:
                scheduler.add(one)
        step(scheduler)
        for one, end in zip(rows, ends, strict=True):
            if one in scheduler.running and len(one.ids) >= end:
                scheduler.remove(one)
        if now > sum(gaps) and not (scheduler.running or scheduler.waiting):
            break
    assert [len(one.ids) for one in rows] == ends
    assert pool.used == 0


def test_rows_that_generate_come_before_a_long_prompt():
    scheduler = Scheduler(PagePool(40, 4), 3, 8)
    for number, length in enumerate((3, 4, 20)):
        scheduler.add(row(scheduler, number, length, number))
    assert step(scheduler) == [((0, 0), 3), ((1, 0), 4), ((2, 0), 1)]
    for expected in (6, 6, 6):
        assert step(scheduler) == [((0, 0), 1), ((1, 0), 1), ((2, 0), expected)]
    assert step(scheduler)[2] == ((2, 0), 1)


def test_a_row_waits_until_it_fits_as_a_whole_and_nobody_overtakes_it():
    scheduler = Scheduler(PagePool(4, 4), 4, 64)
    for number, length in enumerate((9, 8, 1)):
        scheduler.add(row(scheduler, number, length, number))
    assert step(scheduler) == [((0, 0), 9)]
    assert [one.order[0] for one in scheduler.waiting] == [1, 2]
    scheduler.remove(scheduler.running[0])
    assert step(scheduler) == [((1, 0), 8), ((2, 0), 1)]


def test_the_youngest_row_gives_up_its_pages():
    scheduler = Scheduler(PagePool(4, 2), 3, 8)
    for number in range(2):
        scheduler.add(row(scheduler, number, 4, number))
    assert step(scheduler) == [((0, 0), 4), ((1, 0), 4)]
    # all four pages are full, and the older row takes one: too few are left
    assert step(scheduler) == [((0, 0), 1)]
    assert scheduler.preemptions == 1
    (waits,) = scheduler.waiting
    assert (waits.order, len(waits.ids), waits.table.length) == ((1, 0), 5, 0)
    scheduler.remove(scheduler.running[0])
    # one of its two pages had been taken meanwhile: it is computed anew
    assert step(scheduler) == [((1, 0), 3)]
    assert waits.table.length == 5


def test_a_row_takes_no_more_pages_than_are_free_when_it_is_alone():
    scheduler = Scheduler(PagePool(3, 2), 1, 8)
    scheduler.add(row(scheduler, 0, 3))
    for _ in range(4):
        step(scheduler)
    assert scheduler.pool.used == 3
    assert scheduler.preemptions == 0


def test_rows_that_a_request_will_become_are_counted():
    for widths in ((3, 1), (1, 3)):
        scheduler = Scheduler(PagePool(9, 2), 3, 8)
        for number, width in enumerate(widths):
            scheduler.add(row(scheduler, number, 2, number))
            scheduler.waiting[-1].width = width
        assert step(scheduler) == [((0, 0), 2)]
        assert len(scheduler.waiting) == 1


@pytest.mark.parametrize(
    ("rows", "tokens", "message"),
    [(0, 4, "max_rows = 0"), (4, 3, "max_step_tokens = 3: must be at least max_rows")],
)
def test_limits_that_starve_a_row_are_refused(rows, tokens, message):
    with pytest.raises(ValueError, match=message):
        Scheduler(PagePool(1, 1), rows, tokens)
