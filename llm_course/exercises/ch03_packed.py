"""The check of exercise 03.packed: several documents in a row, and padding that may hold NaN."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch03_steps import LOWEST, causal, normal, scores_of, weighted
from llm_course.exercises.records import Case, Exercise, case


def packed(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    """Each document alone."""
    out = torch.zeros_like(q)
    for row, numbers in enumerate(documents):
        for number in set(numbers.tolist()) - {0}:
            own = (numbers == number).nonzero().flatten()
            mine = [t[row, :, own] for t in (q, k, v)]  # [H, n, D]
            out[row, :, own] = F.scaled_dot_product_attention(*mine, is_causal=True)
    return out


def same_document(documents: Tensor) -> Tensor:
    """[B, 1, S, S]: both real, and in one document."""
    real = documents != 0
    return ((documents[:, None] == documents[..., None]) & real[..., None])[:, None]


def both(documents: Tensor) -> Tensor:
    """[B, 1, S, S]: the right mask."""
    return same_document(documents) & causal(documents.shape[1], documents.shape[1])


def filled(documents: Tensor, *tensors: Tensor) -> list[Tensor]:
    """The tensors [B, H, S, D] with 0 where the padding is."""
    return [t.masked_fill((documents == 0)[:, None, :, None], 0.0) for t in tensors]


def packed_reads_on(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return packed(q, k, v, (documents != 0).long())


def packed_both_ways(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    return weighted(scores_of(q, k), same_document(documents), v).nan_to_num(0.0)


def packed_first_row(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    return weighted(scores_of(q, k), both(documents[:1]), v).nan_to_num(0.0)


def packed_empty_nan(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    return weighted(scores_of(q, k), both(documents), v)


def packed_plain(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=both(documents))


def packed_hidden_nan(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return weighted(scores_of(q, k), both(documents), v).nan_to_num(0.0)


def packed_uniform(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    return scores_of(q, k).masked_fill(~both(documents), LOWEST).softmax(-1) @ v


def packed_added(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    masks = same_document(documents), causal(q.shape[2], q.shape[2])
    low = sum(torch.zeros(mask.shape).masked_fill(~mask, LOWEST) for mask in masks)
    return (scores_of(q, k) + low).softmax(-1) @ v


def packed_own_padding(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=same_document(documents + 1) & causal(q.shape[2], q.shape[2])
    )


def packed_late(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    return (scores_of(q, k).softmax(-1) * both(documents)) @ v


def packed_cases() -> Iterator[Case]:
    """In the first two cases all scores are 0, so that the weights are equal."""
    zero = torch.zeros(1, 1, 3, 1)
    values = torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1)
    yield case(zero, zero.clone(), values, torch.tensor([[1, 1, 2]]))
    yield case(zero, zero.clone(), values, torch.tensor([[0, 1, 1]]), name="padding in front")
    documents = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [0, 5, 5, 5, 5, 3, 3]])

    def qkv() -> list[Tensor]:
        return [normal(2, 3, 7, 4, seed=seed) for seed in range(3)]

    yield case(*qkv(), documents)
    empty = torch.tensor([[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 2, 3, 3]])
    yield case(*qkv(), empty, name="a row of padding alone")
    holed = qkv()
    for t in holed:
        t.transpose(1, 2)[documents == 0] = torch.nan  # [B, S, H, D]
    yield case(*holed, documents, name="padding that holds NaN")


PACKED = Exercise(
    "03.packed",
    reference=packed,
    cases=packed_cases,
    wrong={
        "in which a token reads the documents before its own": packed_reads_on,
        "in which a token reads the later tokens of its document": packed_both_ways,
        "that uses the documents of the first row in all rows": packed_first_row,
        "whose rows without a key are a softmax over -inf alone": packed_empty_nan,
        "whose weights of 0 meet NaN in the padding: 0 * NaN is NaN": packed_plain,
        "that turns NaN into 0 at the end, and real tokens with it": packed_hidden_nan,
        "whose rows without a key are the mean of all values": packed_uniform,
        "that adds two masks of large negative numbers: a row without a key still reads": (
            packed_added
        ),
        "in which padding reads padding: it is a document of its own there": packed_own_padding,
        "that sets weights to 0 after the softmax: they no longer add up to 1": packed_late,
    },
)
