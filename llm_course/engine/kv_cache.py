# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""Keys and values that outlive a forward pass, and the memory they live in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from llm_course.arguments import at_least, checked, within
from llm_course.config import ModelConfig
from llm_course.models.transformer import resolve_device
from llm_course.types import TokenIds

__all__ = ["cache_bytes", "Contents", "KVCache", "CacheStats", "KVCacheManager"]


@checked
def cache_bytes(
    config: ModelConfig,
    num_tokens: int,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Bytes for the keys and values of `num_tokens` tokens in each of `batch_size`
    rows.

    2 (keys, values) x layers x rows x K/V heads x tokens x head_dim x bytes per
    number.
    """
    at_least(0, num_tokens=num_tokens, batch_size=batch_size)
    numbers = (
        config.num_layers
        * batch_size
        * config.num_kv_heads
        * num_tokens
        * config.head_dim
    )
    return 2 * numbers * dtype.itemsize


def _reserve(
    shape: tuple[int, ...], device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    # Uninitialised: the system hands out a page of memory when it is first written. An
    # ordinary tensor also inside inference_mode, so that a cache made there can be used
    # outside.
    with torch.inference_mode(False):
        return torch.empty(shape, device=device, dtype=dtype)


class Contents:
    """Whose tokens a cache holds: their ids, and the model that read them."""

    def __init__(self, config: ModelConfig, batch_size: int) -> None:
        self.config = config
        # [B, n], -1 for padding, as far as they are known
        self.ids: TokenIds = torch.empty(batch_size, 0, dtype=torch.long)
        self._model: ReferenceType[nn.Module] | None = None
        self._free = [True]  # a lock: list.pop is atomic

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Raises ValueError while another thread, or another loop, is inside."""
        try:
            self._free.pop()
        except IndexError:
            raise ValueError(
                "this cache is in the middle of a pass in another thread: give each"
                " thread a cache of its own"
            ) from None
        try:
            yield
        finally:
            self._free.append(True)

    def expect(self, model: nn.Module, ids: TokenIds, start: int, held: int) -> None:
        """Note that `model` puts ids [B, n] into the slots from `start` on. Raises
        ValueError when the cached ids differ from these where they overlap, or when
        another model computed the `held` cached tokens."""
        if len(ids) != len(self.ids):
            raise ValueError(f"the cache has {len(self.ids)} rows, the text {len(ids)}")
        for name in ("num_layers", "num_kv_heads", "head_dim"):
            own, other = (getattr(c, name) for c in (self.config, model.config))
            if own != other:
                raise ValueError(
                    f"a cache for {name} = {own}, and a model with {other}:"
                    " make_cache(model) makes one that fits"
                )
        owner = self._model() if self._model is not None and held else None
        known = self.ids[:, start:]
        if owner is not None and owner is not model and type(owner) is type(model):
            # a model prepared for speed (notebook 07) has another class, but the same
            # weights: it may continue
            raise ValueError(
                "the cache holds tokens that another model read: reset() it"
            )
        if not known.equal(ids[:, : known.shape[1]].cpu()):
            raise ValueError(
                "the cache holds the tokens of another text: reset() it, truncate() it"
                " to what both have in common, or make another one"
            )
        if self.ids.shape[1] >= start:  # else the ids in the gap stay unknown
            self.ids = torch.cat([self.ids[:, :start], ids.cpu()], dim=1)
        self._model = ref(model)


class KVCache:
    """The keys and values of every layer, in memory reserved in advance. Implements
    `types.Cache`.

    A layer's storage is one tensor [2, B, Hkv, capacity, D]: keys, already rotated by
    RoPE, and values, for the K/V heads only. The first `length` of the `capacity`
    slots are in use. A forward pass writes its tokens after these and counts them at
    its end, so a pass that was interrupted leaves no trace.

    Source: Pope et al. 2022, "Efficiently Scaling Transformer Inference", section 2.1.
    """

    @checked
    def __init__(
        self,
        config: ModelConfig,
        batch_size: int = 1,
        capacity: int = 64,
        *,
        max_length: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        buffers: list[Tensor] | None = None,
    ) -> None:
        """There is room for `capacity` tokens at first; then the cache grows, up to
        `max_length` tokens (None: no limit). `buffers`, one flat tensor per layer,
        are used instead of new memory.

        Raises ValueError when a size is below 1, or max_length below capacity.
        """
        at_least(1, batch_size=batch_size, capacity=capacity)
        device = resolve_device(str(device))
        if max_length is not None and max_length < capacity:
            raise ValueError(
                f"max_length = {max_length}: below the capacity of {capacity}"
            )
        self.length, self.max_length = 0, max_length
        self.contents = Contents(config, batch_size)
        shape = (2, batch_size, config.num_kv_heads, capacity, config.head_dim)
        if buffers is None:
            self.layers = [
                _reserve(shape, device, dtype) for _ in range(config.num_layers)
            ]
        else:
            numbers = torch.Size(shape).numel()
            sizes = [buffer.numel() for buffer in buffers]
            if len(sizes) != config.num_layers or min(sizes) < numbers:
                raise ValueError(
                    f"buffers is a list of {sizes} numbers: must be {config.num_layers}"
                    f" of at least {numbers}, one for each layer"
                )
            self.layers = [buffer[:numbers].view(shape) for buffer in buffers]

    @property
    def batch_size(self) -> int:
        return self.layers[0].shape[1]

    @property
    def capacity(self) -> int:
        """Tokens per row that fit without growing."""
        return min(layer.shape[3] for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes reserved: `cache_bytes` of the capacity."""
        return sum(layer.nbytes for layer in self.layers)

    @contextmanager
    def guard(
        self,
        model: nn.Module,
        ids: TokenIds,
        mask: Tensor | None = None,
        start: int = 0,
    ) -> Iterator[None]:
        """Around passes of `model` that leave ids [B, n] in the slots from `start` on.

        mask [B, start + n], 1 = real token. Raises ValueError when the cache holds
        something else there, and while another thread is in a pass.
        """
        if not self.layers:
            raise ValueError("this cache was freed: allocate another one")
        if ids.ndim != 2:
            raise ValueError(f"the ids have shape {list(ids.shape)}: must be [B, S]")
        if mask is not None:
            wanted = [len(ids), start + ids.shape[1]]
            if list(mask.shape) != wanted:
                raise ValueError(
                    f"the mask has shape {list(mask.shape)}: must be {wanted}, one"
                    f" entry for each of {start} cached and {ids.shape[1]} new tokens"
                )
            ids = ids.masked_fill(~mask[:, start:].to(ids.device).bool(), -1)
        with self.contents.claimed():
            self.contents.expect(model, ids, start, self.length)
            try:
                yield
            finally:  # a pass that broke off has left the length where it was
                self.contents.ids = self.contents.ids[:, : self.length]

    @checked
    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [B, Hkv, S, D] of one layer; return all of them [B, Hkv, length
        + S, D].

        What is returned are views of the storage, not copies, and carry no gradient.
        Raises ValueError for a k or v of another shape or dtype, or past `max_length`.
        """
        self.check(k, v)
        new, held = self.room(layer_idx, k.shape[2])
        new[0] = k.detach()
        new[1] = v.detach()
        keys, values = held.unbind()  # [B, Hkv, length + S, D]
        return keys, values

    def room(self, layer_idx: int, n: int) -> tuple[Tensor, Tensor]:
        """The slots of the next n tokens [2, B, Hkv, n, D], and all up to them [..,
        length + n, D].

        Both are views of one layer's storage, which grows if it must. Raises ValueError
        past `max_length`.
        """
        if not 0 <= layer_idx < len(self.layers):
            raise ValueError(
                f"layer_idx = {layer_idx}, and a cache of {len(self.layers)} layers:"
                " make_cache(model) makes one that fits"
            )
        end = self.length + n
        storage = self.layers[layer_idx]  # [2, B, Hkv, capacity, D]
        if end > storage.shape[3]:
            storage = self._grow(layer_idx, end)
        held = storage.narrow(3, 0, end)
        return held.narrow(3, self.length, n), held

    @checked
    def advance(self, n: int) -> None:
        """Count n more tokens. The model calls this once per forward pass, after its
        last layer. Raises ValueError for more than there is room for."""
        # a pass writes the last layer last: the others have at least its room
        room = self.layers[-1].shape[3] - self.length if self.layers else 0
        within(0, room, n=n)
        self.length += n

    @checked
    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens. Raises ValueError when there are
        not so many, and while another thread is in a pass."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length = {length}: the cache holds {self.length} tokens")
        with self.contents.claimed():
            self.length = length
            self.contents.ids = self.contents.ids[:, :length]

    def reset(self) -> None:
        """Forget every token; the memory stays."""
        self.truncate(0)

    def _grow(self, layer_idx: int, needed: int) -> Tensor:
        """Move one layer to a larger buffer. Each layer grows by itself, so a pass may
        break off between two layers."""
        if self.max_length is not None and needed > self.max_length:
            raise ValueError(
                f"the cache is full: {needed} tokens, and max_length ="
                f" {self.max_length}; generate fewer tokens, shorten the prompt, or"
                " make a larger cache"
            )
        old = self.layers[layer_idx]
        # At least doubled: n tokens then cost fewer than 2n copies, however often the
        # buffer grows.
        capacity = max(needed, 2 * old.shape[3])
        if self.max_length is not None:
            capacity = min(capacity, self.max_length)
        new = _reserve((*old.shape[:3], capacity, old.shape[4]), old.device, old.dtype)
        new[:, :, :, : self.length] = old[:, :, :, : self.length]
        self.layers[layer_idx] = new
        return new

    def check(self, k: Tensor, v: Tensor) -> None:
        """Raise ValueError when k or v [B, Hkv, S, D] is not what this cache holds."""
        if not self.layers:
            raise ValueError("this cache was freed: allocate another one")
        _, batch, heads, _, head_dim = self.layers[0].shape
        shape = (batch, heads, k.shape[2], head_dim)
        device, dtype = self.layers[0].device, self.layers[0].dtype
        for name, x in (("k", k), ("v", v)):
            if x.device != device:
                raise ValueError(
                    f"{name} is on {x.device}, and this cache on {device}:"
                    " make_cache(model) makes one that fits"
                )
            if x.dtype != dtype:
                raise ValueError(
                    f"{name} is {x.dtype}, and this cache holds {dtype}: make one with"
                    f" dtype={x.dtype} (torch.autocast changes the dtype of keys and"
                    " values, not of the weights)"
                )
            if x.shape != shape:
                raise ValueError(
                    f"{name} is of shape {list(x.shape)}: this cache holds [{batch},"
                    f" {heads}, S, {head_dim}] (rows, K/V heads, tokens, head_dim)"
                )


@dataclass(frozen=True)
class CacheStats:
    """What a `KVCacheManager` holds (bytes) and has done (counts)."""

    budget: int
    in_use: int  # of caches that were allocated and not freed
    kept: int  # freed, and waiting to be used again
    peak: int  # the most that was ever in use
    allocated: int  # caches handed out
    reused: int  # of these, how many got memory that was there already
    refused: int


class KVCacheManager:
    """Hands out caches within a byte budget, and takes their memory back for the next
    request.

    The memory of one cache is one flat buffer per layer. The buffers of a freed cache
    are kept, and a request gets the smallest of these that are large enough. When new
    memory would pass the budget, kept buffers are given up first; caches in use never
    are.
    """

    @checked
    def __init__(
        self,
        config: ModelConfig,
        budget: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`budget` in bytes, for all caches together and all layers of each."""
        at_least(0, budget=budget)
        self.config = config
        self.budget = budget
        self.device = resolve_device(str(device))
        self.dtype = dtype
        self._used: dict[int, tuple[KVCache, list[Tensor]]] = {}  # by id of the cache
        # for each cache, a list of buffers, one per layer
        self._kept: list[list[Tensor]] = []
        self._peak = self._allocated = self._reused = self._refused = 0

    @checked
    def allocate(self, num_tokens: int, batch_size: int = 1) -> KVCache:
        """A cache with room for `num_tokens` in each row, prompt and new tokens
        together.

        The cache does not grow. Raises a MemoryError that states need and budget when
        the cache does not fit.
        """
        at_least(1, num_tokens=num_tokens, batch_size=batch_size)
        need = cache_bytes(self.config, num_tokens, batch_size, self.dtype)
        # Buffers more than twice as large as needed are left to a larger request.
        fitting = [kept for kept in self._kept if need <= _nbytes(kept) <= 2 * need]
        if fitting:
            buffers = min(fitting, key=_nbytes)
            self._kept = [kept for kept in self._kept if kept is not buffers]
            self._reused += 1
        else:
            self._make_room(need)
            numbers = need // self.dtype.itemsize // self.config.num_layers
            layers = range(self.config.num_layers)
            buffers = [_reserve((numbers,), self.device, self.dtype) for _ in layers]
        cache = KVCache(
            self.config, batch_size, num_tokens, max_length=num_tokens, buffers=buffers
        )
        self._used[id(cache)] = cache, buffers
        self._allocated += 1
        self._peak = max(self._peak, self.stats.in_use)
        return cache

    @checked
    def free(self, cache: KVCache) -> None:
        """Take a cache's memory back. The cache cannot be used any more.

        Raises ValueError for a cache that is not out: another manager's, or freed
        before.
        """
        if id(cache) not in self._used:
            raise ValueError("this KVCache was not allocated here, or was freed before")
        _, buffers = self._used.pop(id(cache))
        cache.reset()
        cache.layers = []  # or the old owner could write into the next request's memory
        self._kept.append(buffers)

    @property
    def stats(self) -> CacheStats:
        """The state at this moment."""
        return CacheStats(
            budget=self.budget,
            in_use=sum(_nbytes(buffers) for _, buffers in self._used.values()),
            kept=sum(_nbytes(buffers) for buffers in self._kept),
            peak=self._peak,
            allocated=self._allocated,
            reused=self._reused,
            refused=self._refused,
        )

    def _make_room(self, need: int) -> None:
        """Give up kept buffers, the smallest first, until `need` more bytes fit the
        budget."""
        in_use = self.stats.in_use
        if in_use + need > self.budget:
            self._refused += 1
            raise MemoryError(
                f"this cache needs {need:,} bytes, and {self.budget - in_use:,} of the"
                f" budget of {self.budget:,} are free ({len(self._used)} caches hold"
                f" {in_use:,}): free one, ask for fewer tokens or rows, or raise the"
                " budget"
            )
        self._kept.sort(key=_nbytes)
        while self.stats.kept + in_use + need > self.budget:
            self._kept.pop(0)


def _nbytes(buffers: list[Tensor]) -> int:
    return sum(buffer.nbytes for buffer in buffers)
