"""Pages: who owns them, what is known of them, and keys and values in them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_course.engine import KVCache, OutOfPages, PagedCache, PagePool, PageTable
from llm_course.engine.paged_cache import block_hash
from llm_course.types import Cache
from tests.batch_tools import check_pool
from tests.helpers import random_ids, small_config, small_model

derandomized = settings(max_examples=60, deadline=None, derandomize=True)


def filled(pool: PagePool, ids: list[int]) -> PageTable:
    """A table in which these tokens stand, with its full pages named."""
    table = PageTable(pool)
    table.match(ids)
    table.reserve(len(ids) - table.length)
    table.advance(len(ids) - table.length)
    table.remember(ids)
    return table


@derandomized
@given(st.data())
def test_each_page_is_owned_as_often_as_it_stands_in_a_table(data: st.DataObject):
    pool = PagePool(data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4)))
    tables: list[tuple[PageTable, list[int]]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        act = data.draw(st.sampled_from(["new", "grow", "fork", "release"]))
        if act == "new" or not tables:
            ids = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=12))
            tables.append((PageTable(pool), ids))
            tables[-1][0].match(ids)
            continue
        at = data.draw(st.integers(0, len(tables) - 1))
        table, ids = tables[at]
        if act == "grow":
            n, before = data.draw(st.integers(1, 6)), [*table.pages]
            if table.shortage(n) > 0:
                with pytest.raises(OutOfPages):
                    table.reserve(n)
                assert table.pages == before
            else:
                table.reserve(n)
                table.advance(n)
                ids += [0] * (table.length - len(ids))
                table.remember(ids)
        elif act == "fork":
            tables.append((table.fork(), [*ids]))
        else:
            tables.pop(at)[0].release()
        check_pool(pool, [table for table, _ in tables])


def test_what_was_computed_is_found_again_in_whole_pages():
    pool = PagePool(8, 4)
    first = filled(pool, [*range(10)])
    assert PageTable(pool).match([*range(10)]) == 8
    assert PageTable(pool).match([0, 1, 2, 3, 9, 9, 9, 9, 9]) == 4
    assert PageTable(pool).match([9, *range(1, 10)]) == 0
    second = PageTable(pool)
    second.match([*range(10)])
    assert second.pages == first.pages[:2]
    first.release()
    third = PageTable(pool)  # free pages keep their content
    assert third.match([*range(10)]) == 8


def test_the_last_token_is_never_found():
    pool = PagePool(8, 4)
    filled(pool, [*range(8)])
    assert PageTable(pool).match([*range(8)]) == 4
    assert PageTable(pool).match([*range(9)]) == 8


def test_the_name_of_a_block_tells_what_stands_before_it():
    assert block_hash(block_hash(b"", [1, 2]), [5, 6]) != block_hash(
        block_hash(b"", [3, 4]), [5, 6]
    )
    pool = PagePool(8, 2)
    filled(pool, [1, 2, 5, 6, 7])
    assert PageTable(pool).match([3, 4, 5, 6, 7]) == 0
    filled(pool, [3, 4, 0])
    assert PageTable(pool).match([3, 4, 5, 6, 7]) == 2


def test_unknown_pages_are_taken_first_then_those_that_were_used_longest_ago():
    pool = PagePool(5, 2)
    old, new = filled(pool, [1, 1, 1, 1]), filled(pool, [2, 2, 2])
    old_pages, new_pages = [*old.pages], [*new.pages]
    new.release()
    old.release()
    taken = [pool.take() for _ in range(5)]
    assert set(taken[:2]) == {4, new_pages[1]}  # never used, and not full
    # then the page released longest ago; of one table its end before its beginning
    assert taken[2:] == [new_pages[0], *reversed(old_pages)]
    assert pool.hash_of == pool.page_of == {}


def test_a_page_that_is_taken_is_not_found():
    pool = PagePool(2, 2)
    filled(pool, [1, 2, 3, 4]).release()
    assert PageTable(pool).match([1, 2, 3, 4, 5]) == 4
    pool = PagePool(2, 2)
    filled(pool, [1, 2, 3, 4]).release()
    filled(pool, [5, 6])
    assert PageTable(pool).match([1, 2, 3, 4, 5]) == 2


def test_of_two_pages_with_the_same_content_one_is_known():
    pool = PagePool(4, 2)
    tables = [PageTable(pool), PageTable(pool)]
    for table in tables:  # both began before either was full
        table.reserve(2)
        table.advance(2)
    for table in tables:
        table.remember([7, 7])
    assert [*pool.page_of.values()] == tables[0].pages
    for table in tables:
        table.release()
    check_pool(pool, [])


def test_who_writes_into_a_shared_page_takes_a_copy():
    config = small_config()
    cache = PagedCache(config, 6, 4)
    k = torch.randn(1, 2, 6, 8)
    table = PageTable(cache)
    table.reserve(6)
    for layer in range(config.num_layers):
        table.update(layer, k, -k)
    table.advance(6)
    other = table.fork()
    assert other.pages == table.pages
    other.reserve(1)
    assert other.pages[0] == table.pages[0]
    assert other.pages[1] != table.pages[1]
    new = torch.randn(1, 2, 1, 8)
    table.reserve(1)  # alone by now: no copy
    for layer in range(config.num_layers):
        keys, values = other.update(layer, new, new)
        assert torch.equal(keys[:, :, :6], k)
        assert torch.equal(values[:, :, :6], -k)
        keys, _ = table.update(layer, 2 * new, 2 * new)
        assert torch.equal(keys[:, :, 6:], 2 * new)
        assert torch.equal(cache.gather(layer, other.pages, 7)[0][:, :, 6:], new)
    assert cache.used == 3


@derandomized
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.integers(1, 5),
    st.permutations(range(12)),
)
def test_pages_give_what_a_cache_in_one_piece_gives(pieces, size, order):
    config = small_config()
    cache, whole = PagedCache(config, 40, size), KVCache(config)
    cache.free = dict.fromkeys([*order, *range(12, 40)])  # scattered pages
    cache.free = type(PagePool(1, 1).free)(cache.free)
    table = PageTable(cache)
    assert isinstance(table, Cache)
    for n in pieces:
        table.reserve(n)
        for layer in range(config.num_layers):
            k, v = torch.randn(2, 1, 2, n, 8)
            found, wanted = table.update(layer, k, v), whole.update(layer, k, v)
            assert all(map(torch.equal, found, wanted))
        table.advance(n)
        whole.advance(n)


def test_a_table_serves_a_model_as_its_cache():
    model, ids = small_model(), random_ids(1, 21)
    table = PageTable(PagedCache(model.config, 9, 4))
    found = []
    with torch.inference_mode():
        for start, end in ((0, 5), (5, 6), (6, 21)):
            table.reserve(end - start)
            found.append(model(ids[:, start:end], kv_cache=table))
        assert torch.allclose(torch.cat(found, 1), model(ids), atol=1e-5)


@pytest.mark.parametrize(("pages", "size"), [(0, 4), (4, 0)])
def test_sizes_below_one_are_refused(pages, size):
    with pytest.raises(ValueError, match=r"(num_pages|page_size) = 0: .* at least 1"):
        PagePool(pages, size)
