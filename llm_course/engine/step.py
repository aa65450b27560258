# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""A forward pass as one compiled program that several threads run at the same time.

Each thread goes through the same phases. In a phase it takes tickets (pieces of work)
until none are left, then waits until all pieces are done. Nobody waits for a thread
that holds no ticket, so a thread that comes late, or never, costs only its share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from llm_course.engine.kernels import (
    OPTIONS,
    Q4_1,
    exp,
    f32,
    pointer,
    split_inputs,
)
from llm_course.engine.native_attention import (
    CHUNK,
    attend_block,
    attend_chunk,
    combine,
    place,
    room_of_lanes,
)
from llm_course.engine.quantize import LANES
from llm_course.engine.rows import product, room_of, sums_of, tickets

__all__ = [
    "PHASES",
    "CELLS",
    "Weights",
    "Layer",
    "Pass",
    "add_one",
    "read",
    "take",
    "finish",
    "wait",
    "norm",
    "products_phase",
    "gated_phase",
    "rotate",
    "norm_head",
    "rotate_and_store",
    "store_phase",
    "attend_phase",
    "combine_phase",
    "keep_phase",
    "work",
]


PHASES = 8  # of a layer
CELLS = 16  # int64s between two threads' counters: on cache lines of their own


class Weights(NamedTuple):
    """What stays the same from pass to pass."""

    matrices: NDArray  # [layers + 1, 7, 5]: q k v o gate up down; last, the head
    norms: NDArray  # [2 * layers + 1, hidden]
    biases: NDArray  # [layers, q, k and v side by side], or [layers, 0]
    head_norms: NDArray  # [layers, 2, D] for q and k, or [layers, 2, 0]
    sizes: tuple[int, int, int, int]  # H, Hkv, D, hidden
    eps: np.float32


class Layer(NamedTuple):
    """What attention needs to know of a layer."""

    sizes: tuple[int, int, int, int]
    columns: tuple[int, int]  # where k and v begin in `Pass.heads`
    biases: NDArray  # [q, k and v side by side], or [0]
    head_norms: NDArray  # [2, D], or [2, 0]
    eps: np.float32
    storage: NDArray  # the cache's memory, flat: keys, then values
    cache: tuple[NDArray, int, int, int]  # pages, page size, Hkv, D


class Pass(NamedTuple):
    """What one forward pass reads and writes, for `rows` tokens of any sequences."""

    x: NDArray  # [rows in fours, hidden]: embeddings, then the stream
    heads: NDArray  # [rows in fours, q, k and v side by side]
    mixed: NDArray  # [rows in fours, H * D]: what attention gives
    inner: NDArray  # [rows in fours, intermediate]
    parts: NDArray  # [single queries, chunks, H, D + 2]
    logits: NDArray  # [kept rows, vocabulary]
    tokens: NDArray  # [rows, 3]: row of `pages`, slot in it, position
    cos: NDArray  # [positions, D / 2]
    sin: NDArray
    blocks: NDArray  # [n, 3]: first token, how many, first slot that they see
    singles: NDArray  # [n, 2]: token, first slot that it sees
    keep: NDArray  # [n, 2]: the same for tokens whose logits are wanted
    pages: NDArray  # [sequences, pages]
    storages: NDArray  # [layers, 3]: address, numbers, page size
    alone: bool  # each sequence has one token here: it stores its own key and value
    counters: NDArray  # [phases, threads, CELLS]


@intrinsic
def add_one(typingctx, counters, index):
    """counters.flat[index] += 1 in one indivisible step; returns what it was."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        cell = builder.gep(array.data, [args[1]])
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", cell, one, "seq_cst")

    return types.int64(counters, types.intp), codegen


@intrinsic
def read(typingctx, counters, index):
    """counters.flat[index], which another thread may just have changed."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load_atomic(builder.gep(array.data, [args[1]]), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@njit(**OPTIONS)
def take(counters, phase, me, count):
    """The next ticket of a phase: one of my share while there are any, then one of
    another's; -1 when all are taken."""
    threads = counters.shape[1]
    for k in range(threads):
        owner = (me + k) % threads
        first, end = count * owner // threads, count * (owner + 1) // threads
        cell = (phase * threads + owner) * CELLS
        if first + read(counters, cell) < end:
            ticket = first + add_one(counters, cell)
            if ticket < end:
                return ticket
    return -1


@njit(**OPTIONS)
def finish(counters, phase, me):
    """Count a ticket of mine as done."""
    add_one(counters, (phase * counters.shape[1] + me) * CELLS + CELLS // 2)


@njit(**OPTIONS)
def wait(counters, phase, count):
    """Until every ticket of a phase is done."""
    threads, done = counters.shape[1], 0
    while done < count:
        done = 0
        for k in range(threads):
            done += read(counters, (phase * threads + k) * CELLS + CELLS // 2)


@njit(**OPTIONS)
def norm(x, rows, hidden, weight, eps, out):
    """RMSNorm of x [rows, hidden] -> out."""
    for m in range(rows):
        line, normed, total = x[m], out[m], f32(0)
        for i in range(hidden):
            total += line[i] * line[i]
        scale = f32(1) / np.sqrt(total / f32(hidden) + eps)
        for i in range(hidden):
            normed[i] = line[i] * scale * weight[i]


@njit(**OPTIONS)
def products_phase(matrices, x, rows, out, add, counters, phase, me, room, acc):
    """out (+)= x @ W.T for matrices that share their input, side by side."""
    count, room.block[0] = 0, -1  # x is new: nothing of it is rounded yet
    for k in range(len(matrices)):
        count += tickets(matrices[k], rows)
    ticket = take(counters, phase, me, count)
    if ticket >= 0 and rows == 1 and np.any(matrices[:, 0] == Q4_1):
        split_inputs(x[0], matrices[0, 4], room.shifted, room.sums[0])
    while ticket >= 0:
        k, left, offset = 0, ticket, 0
        while left >= tickets(matrices[k], rows):
            left -= tickets(matrices[k], rows)
            offset += matrices[k, 3] * LANES
            k += 1
        start, n, column = product(matrices[k], left, x, rows, room, acc)
        for m in range(n):
            y = out[start + m, offset + column : offset + column + LANES]
            sums = acc[m * LANES : (m + 1) * LANES]
            if add:
                for j in range(len(sums)):
                    y[j] += sums[j]
            else:
                for j in range(len(sums)):
                    y[j] = sums[j]
        finish(counters, phase, me)
        ticket = take(counters, phase, me, count)
    wait(counters, phase, count)


@njit(**OPTIONS)
def gated_phase(matrices, x, rows, out, counters, phase, me, room, gates, ups):
    """out = silu(x @ gate.T) * (x @ up.T)."""
    count, room.block[0] = tickets(matrices[0], rows), -1
    ticket = take(counters, phase, me, count)
    if ticket >= 0 and rows == 1 and np.any(matrices[:, 0] == Q4_1):
        split_inputs(x[0], matrices[0, 4], room.shifted, room.sums[0])
    while ticket >= 0:
        start, n, column = product(matrices[0], ticket, x, rows, room, gates)
        product(matrices[1], ticket, x, rows, room, ups)
        for m in range(n):
            y = out[start + m, column : column + LANES]
            gate = gates[m * LANES : (m + 1) * LANES]
            up = ups[m * LANES : (m + 1) * LANES]
            for j in range(len(gate)):
                y[j] = gate[j] / (f32(1) + exp(-gate[j])) * up[j]
        finish(counters, phase, me)
        ticket = take(counters, phase, me, count)
    wait(counters, phase, count)


@njit(**OPTIONS)
def rotate(head, cos, sin):
    """RoPE on the adjacent pairs of a head [D], in place."""
    for i in range(len(head) // 2):
        a, b = head[2 * i], head[2 * i + 1]
        head[2 * i] = a * cos[i] - b * sin[i]
        head[2 * i + 1] = a * sin[i] + b * cos[i]


@njit(**OPTIONS)
def norm_head(head, weight, eps):
    """RMSNorm of a head [D], in place; an empty weight stands for none."""
    if len(weight) > 0:
        total = f32(0)
        for d in range(len(head)):
            total += head[d] * head[d]
        scale = f32(1) / np.sqrt(total / f32(len(head)) + eps)
        for d in range(len(head)):
            head[d] *= scale * weight[d]


@njit(**OPTIONS)
def rotate_and_store(p, token, g, layer):
    """RoPE for one K/V head of a token and for the query heads that share it; its key
    and its value go into the cache. Some families add biases, or norm each head."""
    H, Hkv, D, _ = layer.sizes
    group, line, storage = H // Hkv, p.heads[token], layer.storage
    row, slot, position = p.tokens[token]
    cos, sin = p.cos[position], p.sin[position]
    key, value = layer.columns[0] + g * D, layer.columns[1] + g * D
    for i in range(group + 2):  # the query heads, the key, the value
        at = (g * group + i) * D if i < group else layer.columns[i - group] + g * D
        head, bias = line[at : at + D], layer.biases[at : at + D]
        for d in range(len(bias)):
            head[d] += bias[d]
        if i <= group:
            norm_head(head, layer.head_norms[i // group], layer.eps)
            rotate(head, cos, sin)
    pages, size, _, _ = layer.cache
    at = place(pages, size, Hkv, D, row, g, slot)
    for d in range(D):
        storage[at + d] = line[key + d]
        storage[len(storage) // 2 + at + d] = line[value + d]


@njit(**OPTIONS)
def store_phase(p, layer, phase, me):
    """Rotate q and k of each token, and write its k and v into the cache."""
    ticket = take(p.counters, phase, me, len(p.tokens))
    while ticket >= 0:
        for g in range(layer.sizes[1]):
            rotate_and_store(p, ticket, g, layer)
        finish(p.counters, phase, me)
        ticket = take(p.counters, phase, me, len(p.tokens))
    wait(p.counters, phase, len(p.tokens))


@njit(**OPTIONS)
def attend_phase(p, layer, blocks, singles, fused, phase, me, scores, lanes):
    """Attention: blocks of queries head by head, single queries by K/V head and by
    chunks of their keys. With `fused` a single query has one chunk, and its tickets
    also store its key and value and combine what they have found."""
    storage, cache = layer.storage, layer.cache
    H, Hkv, D, _ = layer.sizes
    group, chunks = H // Hkv, p.parts.shape[1]
    of_blocks = len(blocks) * H
    count = of_blocks + len(singles) * Hkv * chunks
    ticket = take(p.counters, phase, me, count)
    while ticket >= 0:
        if ticket < of_blocks:
            head, (token, n, first) = ticket % H, blocks[ticket // H]
            for m in range(n):
                for d in range(D):
                    lanes.q[d * LANES + m] = p.heads[token + m, head * D + d]
            row, last, _ = p.tokens[token]
            attend_block(n, storage, cache, row, head // group, first, last, lanes)
            for m in range(n):
                total = max(lanes.total[m], f32(1e-30))  # padding sees nothing
                for d in range(D):
                    p.mixed[token + m, head * D + d] = lanes.acc[d * LANES + m] / total
        else:
            left = ticket - of_blocks
            one, g, chunk = left // (Hkv * chunks), left // chunks % Hkv, left % chunks
            token, first = singles[one]
            row, last, _ = p.tokens[token]
            start = min(first + chunk * CHUNK, last + 1)
            end = min(start + CHUNK, last + 1)
            if fused:
                rotate_and_store(p, token, g, layer)
            query = p.heads[token, g * group * D : (g + 1) * group * D]
            out = p.parts[one, chunk, g * group : (g + 1) * group]
            attend_chunk(query, group, storage, cache, row, g, start, end, scores, out)
            if fused:
                for head in range(g * group, (g + 1) * group):
                    mixed = p.mixed[token, head * D : (head + 1) * D]
                    combine(p.parts[one, :, head], D, mixed)
        finish(p.counters, phase, me)
        ticket = take(p.counters, phase, me, count)
    wait(p.counters, phase, count)


@njit(**OPTIONS)
def combine_phase(p, sizes, singles, compact, phase, me):
    """Join the chunks of each single query; with `compact` into the first rows."""
    H, _, D, _ = sizes
    ticket = take(p.counters, phase, me, len(singles))
    while ticket >= 0:
        to = ticket if compact else singles[ticket, 0]
        for head in range(H):
            combine(p.parts[ticket, :, head], D, p.mixed[to, head * D : (head + 1) * D])
        finish(p.counters, phase, me)
        ticket = take(p.counters, phase, me, len(singles))
    wait(p.counters, phase, len(singles))


@njit(**OPTIONS)
def keep_phase(p, phase, me):
    """Move the stream of the tokens whose logits are wanted into the first rows."""
    if take(p.counters, phase, me, 1) >= 0:
        for r in range(len(p.keep)):
            p.x[r] = p.x[p.keep[r, 0]]
        finish(p.counters, phase, me)
    wait(p.counters, phase, 1)


@njit(**OPTIONS)
def work(weights, p, me):
    """The share of thread `me` in a forward pass."""
    sizes, matrices = weights.sizes, weights.matrices
    H, Hkv, D, hidden = sizes
    layers, rows = len(matrices) - 1, len(p.tokens)
    wide = max(p.x.shape[1], p.inner.shape[1], p.mixed.shape[1])
    room = room_of(wide, rows)
    acc, ups = sums_of(rows), sums_of(rows)
    lanes = room_of_lanes(D, LANES if len(p.blocks) > 0 else 0)
    scores = np.empty(H // Hkv * CHUNK, f32)
    h = np.zeros(p.x.shape, f32)
    k_column = matrices[0, 0, 3] * LANES
    columns = (k_column, k_column + matrices[0, 1, 3] * LANES)
    for i in range(layers):
        m, phase = matrices[i], i * PHASES
        address, numbers, page_size = p.storages[i]
        storage = carray(pointer(address), numbers, np.float32)
        layer = Layer(
            sizes, columns, weights.biases[i], weights.head_norms[i], weights.eps,
            storage, (p.pages, page_size, Hkv, D),
        )  # fmt: skip
        norm(p.x, rows, hidden, weights.norms[2 * i], weights.eps, h)
        products_phase(
            m[0:3], h, rows, p.heads, False, p.counters, phase, me, room, acc
        )
        # past the last layer's attention only the kept tokens count
        compact = i == layers - 1 and len(p.keep) < rows
        fused = p.alone and not compact
        blocks = p.blocks[:0] if compact else p.blocks
        singles = p.keep if compact else p.singles
        if not fused:
            store_phase(p, layer, phase + 1, me)
        attend_phase(p, layer, blocks, singles, fused, phase + 2, me, scores, lanes)
        if not fused:
            combine_phase(p, sizes, singles, compact, phase + 3, me)
        if compact:
            keep_phase(p, phase + 4, me)
            rows = len(p.keep)
        products_phase(
            m[3:4], p.mixed, rows, p.x, True, p.counters, phase + 5, me, room, acc
        )
        norm(p.x, rows, hidden, weights.norms[2 * i + 1], weights.eps, h)
        gated_phase(m[4:6], h, rows, p.inner, p.counters, phase + 6, me, room, acc, ups)
        products_phase(
            m[6:7], p.inner, rows, p.x, True, p.counters, phase + 7, me, room, acc
        )
    norm(p.x, rows, hidden, weights.norms[2 * layers], weights.eps, h)
    head, last = matrices[layers, 0:1], layers * PHASES
    products_phase(head, h, rows, p.logits, False, p.counters, last, me, room, acc)
