# Exported from notebooks/07_speed.ipynb; edit there, then run its last cell.
"""Attention over a cache that lies in pages: for one token a sequence, and for a
prompt.

A layer's storage is [2, pages, Hkv, page size, D], keys and then values, flat. The
cache of notebook 06 is the case of one page a sequence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from llm_course.engine.kernels import OPTIONS, exp, f32
from llm_course.engine.quantize import LANES
from llm_course.engine.rows import add_products

__all__ = [
    "CHUNK",
    "NOTHING",
    "place",
    "scores_of",
    "add_values",
    "weigh_line",
    "attend_chunk",
    "combine",
    "Lanes",
    "room_of_lanes",
    "attend_block",
    "copy_slots",
    "weigh",
]


CHUNK = 256  # keys that one ticket of a single query looks at
NOTHING = f32(-3e38)  # below every score


@njit(**OPTIONS)
def place(pages, size, Hkv, D, row, head, slot):
    """Where the key of one slot of one sequence starts; pages [sequences, n] names the
    pages of each."""
    return ((pages[row, slot // size] * Hkv + head) * size + slot % size) * D


@njit(**OPTIONS)
def scores_of(query, keys, count, D, line):
    """line [count] = keys [count, D] @ query, eight keys at a time."""
    for j in range(0, count - 7, 8):
        k = keys[j * D : (j + 8) * D]
        s0, s1, s2, s3 = f32(0), f32(0), f32(0), f32(0)
        s4, s5, s6, s7 = f32(0), f32(0), f32(0), f32(0)
        for d in range(D):
            q = query[d]
            s0 += q * k[d]
            s1 += q * k[D + d]
            s2 += q * k[2 * D + d]
            s3 += q * k[3 * D + d]
            s4 += q * k[4 * D + d]
            s5 += q * k[5 * D + d]
            s6 += q * k[6 * D + d]
            s7 += q * k[7 * D + d]
        line[j], line[j + 1], line[j + 2], line[j + 3] = s0, s1, s2, s3
        line[j + 4], line[j + 5], line[j + 6], line[j + 7] = s4, s5, s6, s7
    for j in range(count // 8 * 8, count):
        k, s = keys[j * D : (j + 1) * D], f32(0)
        for d in range(D):
            s += query[d] * k[d]
        line[j] = s


@njit(**OPTIONS)
def add_values(line, values, count, D, mix):
    """mix [D] += line [count] @ values [count, D], eight values at a time."""
    for j in range(0, count - 7, 8):
        v = values[j * D : (j + 8) * D]
        w0, w1, w2, w3 = line[j], line[j + 1], line[j + 2], line[j + 3]
        w4, w5, w6, w7 = line[j + 4], line[j + 5], line[j + 6], line[j + 7]
        for d in range(D):
            low = w0 * v[d] + w1 * v[D + d] + w2 * v[2 * D + d] + w3 * v[3 * D + d]
            high = w4 * v[4 * D + d] + w5 * v[5 * D + d]
            mix[d] += low + (high + w6 * v[6 * D + d] + w7 * v[7 * D + d])
    for j in range(count // 8 * 8, count):
        v, w = values[j * D : (j + 1) * D], line[j]
        for d in range(D):
            mix[d] += w * v[d]


@njit(**OPTIONS)
def weigh_line(line, scale):
    """Scores -> weights exp(scale * score - best), in place; returns best and their
    sum."""
    best, total = NOTHING, f32(0)
    for j in range(len(line)):
        line[j] *= scale
    for j in range(len(line)):
        best = max(best, line[j])
    for j in range(len(line)):
        line[j] = exp(line[j] - best)
    for j in range(len(line)):
        total += line[j]
    return best, total


@njit(**OPTIONS)
def attend_chunk(q, group, storage, cache, row, head, first, end, scores, out):
    """The query heads of a group, q [group * D], against the keys of slots first to
    end - 1 of their one K/V head.

    Leaves in out [group, D + 2] the values weighted by exp(score - best), then best,
    then the sum of the weights. `cache` is (pages, page size, Hkv, D).
    """
    pages, size, Hkv, D = cache
    values, n, scale = len(storage) // 2, end - first, f32(1) / np.sqrt(f32(D))
    for c in range(group):
        out[c, :D], out[c, D], out[c, D + 1] = 0, NOTHING, 0
    slot = first
    while slot < end:  # a page at a time; a group's queries share what is in a cache
        count = min(size - slot % size, end - slot)
        at = place(pages, size, Hkv, D, row, head, slot)
        for c in range(group):
            line = scores[c * n + slot - first :]
            scores_of(q[c * D : (c + 1) * D], storage[at:], count, D, line)
        slot += count
    for c in range(group):
        out[c, D], out[c, D + 1] = weigh_line(scores[c * n : (c + 1) * n], scale)
    slot = first
    while slot < end:
        count = min(size - slot % size, end - slot)
        at = values + place(pages, size, Hkv, D, row, head, slot)
        for c in range(group):
            line = scores[c * n + slot - first :]
            add_values(line, storage[at:], count, D, out[c])
        slot += count


@njit(**OPTIONS)
def combine(parts, D, out):
    """The chunks of one query, parts [chunks, D + 2], -> out [D]: an online softmax's
    last step."""
    best, total = NOTHING, f32(0)
    for c in range(len(parts)):
        best = max(best, parts[c, D])
    out[:] = 0
    for c in range(len(parts)):
        fade = exp(parts[c, D] - best)
        total += parts[c, D + 1] * fade
        for d in range(D):
            out[d] += parts[c, d] * fade
    total = max(total, f32(1e-30))  # padding sees nothing
    for d in range(D):
        out[d] /= total


class Lanes(NamedTuple):
    """What one thread needs for a block of queries; D is padded to fours."""

    q: NDArray  # [D * 48]: the queries, one a lane
    keys: NDArray  # [48, D]: keys, then values, copied from the cache
    scores: NDArray  # [48 keys * 48]
    acc: NDArray  # [D * 48]: values times weights so far
    best: NDArray  # [48]: the largest score so far
    total: NDArray  # [48]: the sum of the weights so far
    fade: NDArray  # [48]: the factor of sums that were made under an older best


@njit(**OPTIONS)
def room_of_lanes(D, lanes):
    """Room for blocks of 48 lanes, or for none."""
    D = (D + 3) // 4 * 4
    return Lanes(
        np.zeros(D * lanes, f32),
        np.zeros((lanes, D), f32),
        np.empty(lanes * lanes, f32),
        np.empty(D * lanes, f32),
        np.empty(lanes, f32),
        np.empty(lanes, f32),
        np.empty(lanes, f32),
    )


@njit(**OPTIONS)
def attend_block(count, storage, cache, row, head, first, own, lanes):
    """Up to 48 queries of one head, lanes.q: a query is a lane.

    The first sees the slots from `first` to its own, each following one a slot more.
    Leaves in lanes.acc the weighted values, and in lanes.total the sums of the weights.
    Source: Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022, section 3.1.
    """
    q, keys, scores, acc, best, total, fade = lanes
    best[:], total[:], acc[:] = NOTHING, 0, 0
    for start in range(first, own + count, LANES):
        n = min(LANES, own + count - start)
        padded = (n + 3) // 4 * 4
        copy_slots(storage, 0, cache, row, head, start, n, keys)
        scores[: padded * LANES] = 0
        add_products(q, keys, 0, keys.shape[1], padded, scores)
        weigh(scores, n, start - own, cache[3], best, total, fade, acc)
        copy_slots(storage, len(storage) // 2, cache, row, head, start, n, keys)
        add_products(scores, keys.T, 0, padded, keys.shape[1], acc)


@njit(**OPTIONS)
def copy_slots(storage, offset, cache, row, head, start, n, out):
    """Keys (or values, from `offset` on) of n slots -> out [padded n, padded D]."""
    pages, size, Hkv, D = cache
    out[n : (n + 3) // 4 * 4] = 0
    for j in range(n):
        at = offset + place(pages, size, Hkv, D, row, head, start + j)
        line, source = out[j], storage[at : at + D]
        for d in range(D):
            line[d] = source[d]


@njit(**OPTIONS)
def weigh(scores, n, ahead, D, best, total, fade, acc):
    """Turn scores [n, 48] into weights exp(score - best), with the causal mask, and
    rescale what was summed under an older best. Key j is hidden from lanes below
    j + ahead."""
    scale = f32(1) / np.sqrt(f32(D))
    fade[:] = best
    for j in range(n):
        line, unseen = scores[j * LANES : (j + 1) * LANES], j + ahead
        for m in range(len(line)):
            line[m] = line[m] * scale if m >= unseen else NOTHING
        for m in range(len(line)):
            best[m] = max(best[m], line[m])
    for m in range(len(fade)):
        fade[m] = exp(fade[m] - best[m])
        total[m] *= fade[m]
    for j in range(n):
        line, unseen = scores[j * LANES : (j + 1) * LANES], j + ahead
        for m in range(len(line)):
            line[m] = exp(line[m] - best[m]) if m >= unseen else f32(0)
        for m in range(len(line)):
            total[m] += line[m]
    for d in range(len(acc) // LANES):
        line = acc[d * LANES : (d + 1) * LANES]
        for m in range(len(line)):
            line[m] *= fade[m]
