# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""A model whose forward pass is one compiled function, on several threads."""

from __future__ import annotations

import atexit
import math
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryFile
from typing import Any, NamedTuple, Self
from weakref import ReferenceType, WeakKeyDictionary, ref

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_course.arguments import at_least, axes_agree, checked
from llm_course.config import ModelConfig
from llm_course.engine import step
from llm_course.engine.kv_cache import KVCache
from llm_course.engine.large_pages import LargePages
from llm_course.engine.native_attention import CHUNK
from llm_course.engine.quantize import GROUP, LANES, WEIGHTS, PackedMatrix, pack
from llm_course.files import cache_dir
from llm_course.models.rope import RotaryEmbedding
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.types import Cache, Logits, TokenIds

__all__ = [
    "MATRICES",
    "KERNELS",
    "FEW",
    "kernel_folder",
    "compiled_work",
    "Workers",
    "Places",
    "workers_of",
    "NativeModel",
    "vectors_of_heads",
    "room_for",
    "first_slots",
    "pack_model",
]


MATRICES = (  # of a layer, in the order of `step.Weights`
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
KERNELS = ("quantize", "kernels", "strips", "rows", "native_attention", "step")
FEW = 16  # below so many tokens a sequence each is a query of its own


def kernel_folder() -> Path | None:
    """Where compiled kernels are kept: a folder named by the source of the kernels,
    since numba looks at one file only. None where it cannot be written."""
    sources = [Path(step.__file__).with_name(f"{name}.py") for name in KERNELS]
    stamp = sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    try:
        folder = cache_dir() / "kernels" / stamp
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # a RuntimeError: there is no home directory
        return None


@lru_cache
def compiled_work(signature: tuple) -> Callable[..., None]:
    """`step.work` for arguments of these numba types, compiled once and kept in
    `kernel_folder()`; without one, each process compiles anew."""
    folder = kernel_folder()
    known = folder is not None and any(folder.rglob("*.nbi"))
    if not known and sys.stderr.isatty():  # not into a notebook's stored output
        print("compiling the kernels, once: about 20 seconds ...", file=sys.stderr)
    if folder is not None:
        settings: Any = numba.config
        before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
        try:
            function = numba.njit(cache=True, **step.OPTIONS)(step.work.py_func)
            function.compile(signature)
            return function
        except (OSError, EOFError, UnpicklingError):
            pass  # the disk is full, or a file was damaged: do without
        finally:
            settings.CACHE_DIR = before
    # no cache=True: numba would choose a folder beside the source, by one file's date
    function = numba.njit(**step.OPTIONS)(step.work.py_func)
    function.compile(signature)
    return function


class Workers:
    """Threads that go through a forward pass together with the thread that asks."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.work: Callable[..., None] | None = None
        self.queues: list[queue.SimpleQueue] = [
            queue.SimpleQueue() for _ in range(threads - 1)
        ]
        self.team = [
            threading.Thread(target=self.serve, args=(passes, me), daemon=True)
            for me, passes in enumerate(self.queues, start=1)
        ]
        for thread in self.team:
            thread.start()
        # a thread that frees a tensor while Python shuts down would abort the process
        atexit.register(self.stop)

    def serve(self, passes: queue.SimpleQueue, me: int) -> None:
        while (share := passes.get()) is not None:
            share(me)
            del share  # between passes a worker keeps no model alive

    def stop(self) -> None:
        """Let the threads finish what they are at, and end them."""
        for passes in self.queues:
            passes.put(None)
        for thread in self.team:
            thread.join()

    def run(self, weights: step.Weights, p: step.Pass, held: object) -> None:
        """Return when the pass is complete; a latecomer may still look for a ticket.
        `held` owns the memory whose addresses the kernel is told."""
        # compiled here, before a worker has begun: Ctrl-C then leaves none at work
        if self.work is None:
            signature = numba.typeof(weights), numba.typeof(p), numba.int64
            self.work = compiled_work(signature)
        work = self.work

        def share(me: int, held: object = held) -> None:
            work(weights, p, me)

        for passes in self.queues:
            passes.put(share)
        share(0)


class Places(NamedTuple):
    """Where the layers of a cache lie in memory."""

    layers: tuple[ReferenceType[Tensor], ...]  # weak: a cache may give its memory back
    table: NDArray  # [layers, 3]: address, numbers, page size
    room: int  # tokens that the smallest layer holds

    def fits(self, layers: list[Tensor], rows: int, length: int) -> bool:
        """Whether these are still the layers, with so many rows and so much room."""
        same = len(self.layers) == len(layers) and all(
            known() is layer for known, layer in zip(self.layers, layers, strict=True)
        )
        return same and layers[0].shape[1] == rows and self.room >= length


workers_of = lru_cache(Workers)  # one team for each number of threads


class NativeModel(DecoderOnlyModel):
    """A model for inference on the CPU: packed matrices, and one compiled function."""

    def __init__(
        self,
        config: ModelConfig,
        matrices: Mapping[str, PackedMatrix],
        vectors: Mapping[str, NDArray],
        threads: int | None = None,
    ) -> None:
        """`matrices` and `vectors` (norms and biases) have the names of
        DecoderOnlyModel's parameters, without ".weight". A tied head is absent. Raises
        ValueError for threads < 1."""
        at_least(1, threads=threads)
        nn.Module.__init__(self)
        self.config, self.matrices, self.vectors = config, dict(matrices), vectors
        self.table = self.matrices["embed_tokens"]
        # `generate` and `make_cache` look here for device and dtype; no rows are held
        none = torch.empty(0, config.hidden_dim)
        self.embed_tokens = nn.Embedding.from_pretrained(none)
        self.rotary = RotaryEmbedding(
            config.head_dim,
            config.max_position_embeddings,
            config.rope_theta,
            config.rope_scaling,
        )
        self.angles = [np.empty((0, config.head_dim // 2), np.float32)] * 2
        self.known: WeakKeyDictionary[KVCache, Places] = WeakKeyDictionary()
        layers = range(config.num_layers)
        head = self.matrices.get("lm_head", self.table)
        table = np.zeros((config.num_layers + 1, len(MATRICES), 5), np.int64)
        for i in layers:
            for k, name in enumerate(MATRICES):
                table[i, k] = self.matrices[f"layers.{i}.{name}"].describe()
        table[-1, 0] = head.describe()
        names = [
            f"layers.{i}.{name}"
            for i in layers
            for name in ("input_layernorm", "post_attention_layernorm")
        ]
        sizes = (
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.hidden_dim,
        )
        self.weights = step.Weights(
            table,
            np.stack([vectors[name] for name in [*names, "norm"]]),
            *vectors_of_heads(config, table, vectors),
            sizes,
            np.float32(config.rms_norm_eps),
        )
        # with 8 and 4 bits, inputs of several rows are rounded to 15 bits and a sign
        kinds = {matrix.kind for matrix in self.matrices.values()}
        self.rounding = 2.0**-15 if kinds & {"q8_0", "q4_1"} else 2.0**-23
        self.threads = threads
        self.workers = workers_of(threads or torch.get_num_threads())
        self.read_a_token = sum(m.nbytes for m in self.matrices.values())
        if "lm_head" in self.matrices:  # of an untied embedding one row is read
            self.read_a_token -= self.table.nbytes

    def __reduce__(self) -> tuple:  # addresses do not survive a copy, or a file
        return type(self), (self.config, self.matrices, self.vectors, self.threads)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `to`, `half`, `cuda` and the like call it: the matrices would not follow
        weight = fn(self.embed_tokens.weight)
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise ValueError(
                f"{weight.dtype} on {weight.device}: a NativeModel computes in float32"
                " on the CPU; move or cast the model as built, and prepare that"
            )
        return self

    @checked
    def forward(
        self,
        input_ids: TokenIds,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        kv_cache: Cache | None = None,
        last_only: bool = False,
    ) -> Logits:
        """As DecoderOnlyModel. Raises ValueError for a mask with holes, and for a cache
        that is not a float32 `KVCache`."""
        past = kv_cache.length if kv_cache is not None else 0
        self._check(input_ids, attention_mask, past)
        B, S = input_ids.shape
        cache = kv_cache if kv_cache is not None else KVCache(self.config, B, S)
        first = first_slots(attention_mask, B)  # [B]
        tokens = np.empty((B, S, 3), np.int64)  # row, slot, position
        tokens[..., 0] = np.arange(B)[:, None]
        tokens[..., 1] = np.arange(past, past + S)
        if position_ids is None:
            tokens[..., 2] = np.maximum(tokens[..., 1] - first[:, None], 0)
        else:
            axes_agree("B S, b S", input_ids=input_ids, position_ids=position_ids)
            self.rotary.cos_sin(position_ids)  # refuses what are no positions
            tokens[..., 2] = position_ids.numpy()
        storages, held = self.storages(cache, B, S)
        wanted = [S - 1] if last_only else range(S)
        keep = np.array([(b * S + s, first[b]) for b in range(B) for s in wanted])
        pages = np.arange(B)[:, None]  # a row of a KVCache is one page
        spans = [(b * S, S, first[b]) for b in range(B)]
        ids, flat = input_ids.numpy().ravel(), tokens.reshape(-1, 3)
        logits = self.run(ids, flat, spans, keep, pages, storages, held)
        if kv_cache is not None:
            kv_cache.advance(S)
        return torch.from_numpy(logits).view(B, -1, logits.shape[1])

    def storages(self, cache: Cache, B: int, S: int) -> tuple[NDArray, object]:
        """Make room for S tokens in every layer -> address, numbers and page size of
        each [layers, 3], and what owns this memory and the weights'."""
        if not isinstance(cache, KVCache) or type(cache).update is not KVCache.update:
            raise ValueError(
                f"kv_cache is a {type(cache).__name__}: compiled kernels read the"
                " memory of a KVCache; use the model as built, or make_cache(model)"
            )
        known = self.known.get(cache)
        if known is None or not known.fits(cache.layers, B, cache.length + S):
            known = self.known[cache] = self.place_layers(cache, B, S)
        return known.table, (self.matrices, tuple(cache.layers))

    def place_layers(self, cache: KVCache, B: int, S: int) -> Places:
        """Make room for S tokens in every layer, and find where it lies."""
        c, end = self.config, cache.length + S
        like = torch.empty(1).expand(B, c.num_kv_heads, S, c.head_dim)
        cache.check(like, like)
        for i in range(len(cache.layers)):
            cache.room(i, S)
        table = self.describe(cache.layers)
        known = Places(tuple(map(ref, cache.layers)), table, table[:, 2].min())
        if not known.fits(cache.layers, B, end):  # or a kernel would write past it
            raise ValueError(f"the cache made no room for {end} tokens")
        return known

    @staticmethod
    def describe(layers: Sequence[Tensor]) -> NDArray:
        """Address, numbers and page size of each layer of a cache, [layers, 3]: all
        that a kernel is told."""
        return np.array([(x.data_ptr(), x.numel(), x.shape[3]) for x in layers])

    def run(
        self,
        ids: NDArray,
        tokens: NDArray,
        spans: list[tuple[int, int, int]],
        keep: NDArray,
        pages: NDArray,
        storages: NDArray,
        held: object,
    ) -> NDArray:
        """One pass over tokens of any sequences -> logits [kept, vocabulary].

        ids [n]; tokens [n, 3] (row of `pages`, slot, position); spans (first token, how
        many, first slot that they see), a sequence each; keep [k, 2] (token, first
        slot); `held` owns the memory of `storages`.
        """
        c, n, padded = self.config, len(ids), -(-len(ids) // 4) * 4
        x = np.zeros((padded, room_for(c.hidden_dim)), np.float32)
        x[:n, : c.hidden_dim] = self.table.rows(ids)
        columns = int(self.weights.matrices[0, :3, 3].sum()) * LANES
        blocks = [
            (token + i, min(LANES, count - i), first)
            for token, count, first in spans
            if count >= FEW
            for i in range(0, count, LANES)
        ]
        singles = [
            (token + i, first)
            for token, count, first in spans
            if count < FEW
            for i in range(count)
        ]
        longest = int(tokens[:, 1].max()) + 1
        cos, sin = self.angles_up_to(int(tokens[:, 2].max()) + 1)
        alone = all(count == 1 for _, count, _ in spans) and longest <= CHUNK
        queries = max(len(singles), len(keep) if len(keep) < n else 0)
        chunks = -(-longest // CHUNK)
        p = step.Pass(
            x,
            np.empty((padded, columns), np.float32),
            np.zeros((padded, room_for(c.num_heads * c.head_dim)), np.float32),
            np.zeros((padded, room_for(c.intermediate_dim)), np.float32),
            np.empty((queries, chunks, c.num_heads, c.head_dim + 2), np.float32),
            np.empty((-(-len(keep) // 4) * 4, room_for(c.vocab_size)), np.float32),
            tokens,
            cos,
            sin,
            np.array(blocks, np.int64).reshape(-1, 3),
            np.array(singles, np.int64).reshape(-1, 2),
            keep,
            pages,
            storages,
            alone,
            np.zeros(
                (c.num_layers * step.PHASES + 1, self.workers.threads, step.CELLS),
                np.int64,
            ),
        )
        self.workers.run(self.weights, p, held)
        return p.logits[: len(keep), : c.vocab_size]

    def angles_up_to(self, length: int) -> tuple[NDArray, NDArray]:
        """cos and sin of RoPE's angles, [at least length, D / 2]."""
        if length > len(self.angles[0]):
            positions = torch.arange(max(length, 64, 2 * len(self.angles[0])))[None]
            self.angles = [table[0].numpy() for table in self.rotary.cos_sin(positions)]
        return self.angles[0], self.angles[1]


def vectors_of_heads(
    config: ModelConfig, table: NDArray, vectors: Mapping[str, NDArray]
) -> tuple[NDArray, NDArray]:
    """What some families add to q, k and v, as `step.Weights` has it: biases, and the
    weights of the norms of each head."""
    tiles = table[0, :3, 3] * LANES if config.qkv_bias else np.zeros(3, np.int64)
    start = [0, *np.cumsum(tiles)]
    biases = np.zeros((config.num_layers, start[-1]), np.float32)
    D = config.head_dim if config.qk_norm else 0
    norms = np.ones((config.num_layers, 2, D), np.float32)
    for i in range(config.num_layers):
        for k, name in enumerate("qkv"):
            if config.qkv_bias:
                bias = vectors[f"layers.{i}.self_attn.{name}_proj.bias"]
                biases[i, start[k] : start[k] + len(bias)] = bias
            if config.qk_norm and name != "v":
                norms[i, k] = vectors[f"layers.{i}.self_attn.{name}_norm"]
    return biases, norms


def room_for(n: int) -> int:
    """A width that holds whole tiles and whole groups of inputs."""
    both = math.lcm(LANES, GROUP)
    return -(-n // both) * both


def first_slots(attention_mask: Tensor | None, batch: int) -> NDArray:
    """The first real token of each row, [B], of a mask [B, K] without holes."""
    if attention_mask is None:
        return np.zeros(batch, np.int64)
    mask = attention_mask.bool().numpy()
    first, slots = mask.argmax(axis=1), np.arange(mask.shape[1])
    end = first + mask.sum(axis=1)
    if not (mask == ((slots >= first[:, None]) & (slots < end[:, None]))).all():
        raise ValueError(
            "attention_mask hides a token between real ones: compiled kernels take"
            " padding before and after a row's tokens; use the model as built"
        )
    return first


def pack_model(
    model: DecoderOnlyModel, weights: str, threads: int | None = None
) -> NativeModel:
    """Pack a float32 model's matrices; `weights` is a key of WEIGHTS."""
    layer_kind, head_kind = WEIGHTS[weights]
    matrices, vectors, memory = {}, {}, LargePages()
    for name, tensor in model.state_dict().items():
        name, values = name.removesuffix(".weight"), tensor.detach().numpy()
        if tensor.ndim == 1:
            vectors[name] = values
        elif not (name == "lm_head" and model.config.tie_word_embeddings):
            kind = layer_kind if name.startswith("layers.") else head_kind
            matrices[name] = memory.hold_matrix(pack(values, kind))
    return NativeModel(model.config, matrices, vectors, threads)
