# Exported from notebooks/08_batching.ipynb; edit there, then run its last cell.
"""Keys and values in pages: who owns which, what is known to stand in them, and the
table of pages of one sequence."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import Self

import numpy as np
import torch
from torch import Tensor

from llm_course.arguments import at_least, checked
from llm_course.config import ModelConfig
from llm_course.models.transformer import resolve_device

__all__ = ["OutOfPages", "block_hash", "PagePool", "PagedCache", "PageTable"]


class OutOfPages(MemoryError):
    """More pages are asked for than are free; nothing was taken."""


def block_hash(parent: bytes, ids: Sequence[int]) -> bytes:
    """A name for a block of tokens that follows a text, whose name is `parent` (b"":
    nothing). Equal names mean equal keys and values."""
    return sha256(parent + np.array(ids, np.int64).tobytes()).digest()


class PagePool:
    """Which pages are free, how many tables own each of the others, and which content
    is known.

    A free page keeps its content, and can be owned again, until it is taken for
    something else. Pages without known content are taken first, then those that have
    been free for the longest time.

    Source: Kwon et al. 2023, "PagedAttention", sections 4.2 to 4.4.
    """

    @checked
    def __init__(self, num_pages: int, page_size: int) -> None:
        """Raises ValueError when a size is below 1."""
        at_least(1, num_pages=num_pages, page_size=page_size)
        self.num_pages, self.page_size = num_pages, page_size
        self.owners = [0] * num_pages
        self.free = OrderedDict.fromkeys(range(num_pages))  # the next one stands first
        self.hash_of: dict[int, bytes] = {}  # of pages with known content
        self.page_of: dict[bytes, int] = {}

    @property
    def used(self) -> int:
        """Pages that somebody owns."""
        return self.num_pages - len(self.free)

    def take(self) -> int:
        """A page to write in, owned once. Raises OutOfPages when none is free."""
        if not self.free:
            raise OutOfPages(f"all {self.num_pages} pages are in use")
        page, _ = self.free.popitem(last=False)
        if page in self.hash_of:
            del self.page_of[self.hash_of.pop(page)]
        self.owners[page] = 1
        return page

    def share(self, page: int) -> None:
        """Own a page once more; it may be a free one with known content."""
        self.free.pop(page, None)
        self.owners[page] += 1

    def release(self, page: int) -> None:
        """Own a page once less."""
        self.owners[page] -= 1
        if self.owners[page] == 0:
            self.free[page] = None
            self.free.move_to_end(page, last=page in self.hash_of)

    def remember(self, page: int, name: bytes) -> None:
        """Say that a page is full, and what stands in it. Of two pages with the same
        content one is known."""
        if name not in self.page_of and page not in self.hash_of:
            self.page_of[name], self.hash_of[page] = page, name

    def copy(self, source: int, target: int) -> None:
        """Copy what stands in a page. A pool has no memory, so there is nothing to
        do."""


class PagedCache(PagePool):
    """The memory of all pages: one tensor [2, pages, Hkv, page size, D] a layer, keys
    and values, as the kernels of `engine.native_attention` read it."""

    @checked
    def __init__(
        self,
        config: ModelConfig,
        num_pages: int,
        page_size: int = 16,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(num_pages, page_size)
        device = resolve_device(str(device))
        shape = (2, num_pages, config.num_kv_heads, page_size, config.head_dim)
        with torch.inference_mode(False):  # as in `KVCache`: usable everywhere
            self.layers = [
                torch.empty(shape, device=device, dtype=dtype)
                for _ in range(config.num_layers)
            ]

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return sum(layer.nbytes for layer in self.layers)

    def copy(self, source: int, target: int) -> None:
        for layer in self.layers:
            layer[:, target] = layer[:, source]

    def write(
        self, layer_idx: int, pages: Sequence[int], start: int, k: Tensor, v: Tensor
    ) -> None:
        """Store k and v [1, Hkv, S, D] at slots start to start + S - 1 of a sequence
        with these pages."""
        slots = torch.arange(start, start + k.shape[2])
        page = torch.tensor(pages)[slots // self.page_size]  # [S]
        layer, at = self.layers[layer_idx], slots % self.page_size
        layer[0, page, :, at] = k[0].detach().transpose(0, 1)  # [S, Hkv, D]
        layer[1, page, :, at] = v[0].detach().transpose(0, 1)

    def gather(
        self, layer_idx: int, pages: Sequence[int], length: int
    ) -> tuple[Tensor, Tensor]:
        """The first `length` keys of a sequence, copied, and values: [1, Hkv, n, D]."""
        held = self.layers[layer_idx][:, torch.tensor(pages)]  # [2, n, Hkv, size, D]
        joined = held.transpose(1, 2).flatten(2, 3)[:, None, :, :length]
        keys, values = joined.unbind()
        return keys, values


class PageTable:
    """The pages of one sequence, in order. `length` tokens stand in them.

    With the memory of a PagedCache it implements `types.Cache` for one row, by
    gathering: that serves any model, and is what kernels are compared with. Room has
    to be reserved before.
    """

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self.pages: list[int] = []
        self.names: list[bytes] = []  # of the full pages, as far as they were named
        self.length = 0

    def shortage(self, n: int) -> int:
        """Pages that n more tokens need and that are not free: 0 or less if all are."""
        size = self.pool.page_size
        missing = -(-(self.length + n) // size) - len(self.pages)
        return missing + self._must_copy() - len(self.pool.free)

    def _must_copy(self) -> bool:
        """The next token falls into a page that is not ours alone."""
        at = self.length // self.pool.page_size
        return at < len(self.pages) and self.pool.owners[self.pages[at]] > 1

    def reserve(self, n: int) -> None:
        """Make room for n more tokens, in pages that nobody else reads. Raises
        OutOfPages, and takes none, if that is too many."""
        if (short := self.shortage(n)) > 0:
            raise OutOfPages(f"{n} more tokens need {short} pages more than are free")
        if self._must_copy():  # copy on write
            at = self.length // self.pool.page_size
            old, self.pages[at] = self.pages[at], self.pool.take()
            self.pool.copy(old, self.pages[at])
            self.pool.release(old)
        while len(self.pages) * self.pool.page_size < self.length + n:
            self.pages.append(self.pool.take())

    def match(self, ids: Sequence[int]) -> int:
        """Of an empty table: own the pages in which the beginning of `ids` is known.

        Returns the number of tokens found, whole pages. At least the last token is
        left to compute, since its logits are wanted.
        """
        size, name = self.pool.page_size, b""
        for start in range(0, len(ids) - size, size):
            name = block_hash(name, ids[start : start + size])
            if (page := self.pool.page_of.get(name)) is None:
                break
            self.pool.share(page)
            self.pages.append(page)
            self.names.append(name)
        self.length = len(self.pages) * size
        return self.length

    def remember(self, ids: Sequence[int]) -> None:
        """Name the pages that are full by now. `ids` are the tokens of the sequence."""
        size = self.pool.page_size
        for i in range(len(self.names), self.length // size):
            parent = self.names[-1] if self.names else b""
            self.names.append(block_hash(parent, ids[i * size : (i + 1) * size]))
            self.pool.remember(self.pages[i], self.names[i])

    def fork(self) -> Self:
        """Another sequence that has begun like this one; it owns the same pages."""
        other = type(self)(self.pool)
        other.pages, other.names = [*self.pages], [*self.names]
        other.length = self.length
        for page in other.pages:
            self.pool.share(page)
        return other

    def release(self) -> None:
        """Give all pages back; the last ones will be given up first."""
        while self.pages:
            self.pool.release(self.pages.pop())
        self.names.clear()
        self.length = 0

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [1, Hkv, S, D] of one layer; return all of them [1, Hkv,
        length + S, D], copied."""
        cache = self.pool
        assert isinstance(cache, PagedCache)
        cache.write(layer_idx, self.pages, self.length, k, v)
        return cache.gather(layer_idx, self.pages, self.length + k.shape[2])

    def advance(self, n: int) -> None:
        """Count n more tokens."""
        self.length += n
