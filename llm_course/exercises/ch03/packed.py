"""The check of exercise 03.packed: several documents in a row, and padding that may
hold NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch03.steps import LOWEST, causal, normal, scores_of, weighted
from llm_course.exercises.records import Case, Exercise, case

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


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


def packed_first_row_alone(
    q: Tensor, k: Tensor, v: Tensor, documents: Tensor
) -> Tensor:
    q, k, v = filled(documents[:1], q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=both(documents[:1]))


def packed_first_row_equal(
    q: Tensor, k: Tensor, v: Tensor, documents: Tensor
) -> Tensor:
    """As in the solution, padding may read padding: here that of another row."""
    q, k, v = filled(documents, q, k, v)
    same = documents[:1, None, :, None] == documents[:1, None, None, :]
    mask = same & causal(q.shape[2], q.shape[2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def packed_some_emptied(names: str) -> Attention:
    """Only the tensors named are emptied; a mask for SDPA does not shield it from the
    others."""

    def attention(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
        emptied = filled(documents, q, k, v)
        chosen = [
            e if n in names else t
            for n, e, t in zip("qkv", emptied, (q, k, v), strict=True)
        ]
        return F.scaled_dot_product_attention(*chosen, attn_mask=both(documents))

    return attention


def packed_times_zero(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = (t * (documents != 0)[:, None, :, None] for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=both(documents))


def packed_covered(attend: Attention) -> Attention:
    """Nothing is emptied before; the output of the padding is."""

    def attention(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
        return filled(documents, attend(q, k, v, documents))[0]

    return attention


def packed_only_nan(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = (t.nan_to_num() for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=both(documents))


def packed_zero_nan(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = (t.nan_to_num(0.0, 0.0, 0.0) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=both(documents))


def packed_empty_nan(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    q, k, v = filled(documents, q, k, v)
    return weighted(scores_of(q, k), both(documents), v)


def packed_plain(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=both(documents))


def packed_hidden_nan(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return packed_by_hand(q, k, v, documents).nan_to_num(0.0)


def packed_fused_hidden_nan(
    q: Tensor, k: Tensor, v: Tensor, documents: Tensor
) -> Tensor:
    return packed_plain(q, k, v, documents).nan_to_num(0.0)


def packed_by_hand(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    return weighted(scores_of(q, k), both(documents), v)


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

    def equal() -> list[Tensor]:
        values = torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1)
        return [torch.zeros_like(values), torch.zeros_like(values), values]

    def qkv(documents: Tensor, *in_padding: float, of: int = 3) -> list[Tensor]:
        """Random numbers; in the padding of the first `of` tensors the given ones, in
        turn."""
        made = [normal(2, 3, 7, 4, seed=seed) for seed in range(3)]
        if in_padding:
            for t in made[:of]:
                t = t.transpose(1, 2)  # [B, S, H, D]
                holes = t[documents == 0]  # [n, H, D]
                t[documents == 0] = (
                    torch.tensor(in_padding).repeat(4)[:4].expand_as(holes)
                )
        return made

    def two_rows() -> Tensor:
        return torch.tensor([[1, 1, 1, 2, 2, 0, 0], [0, 5, 5, 5, 5, 3, 3]])

    yield case(*equal(), torch.tensor([[1, 1, 2]]))
    yield case(*equal(), torch.tensor([[0, 1, 1]]), name="padding in front")
    yield case(*qkv(two_rows()), two_rows())
    empty = torch.tensor([[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 2, 3, 3]])
    yield case(*qkv(empty), empty, name="a row of padding alone")
    for name, numbers in (
        ("NaN", (torch.nan,)),
        ("infinities", (torch.inf, -torch.inf)),
        ("numbers up to the end of float32", (3e38, -1e38)),
    ):
        yield case(
            *qkv(two_rows(), *numbers), two_rows(), name=f"padding that holds {name}"
        )
    yield case(
        *qkv(two_rows(), torch.nan, of=2), two_rows(), name="NaN in q and k alone"
    )


PACKED = Exercise(
    "03.packed",
    reference=packed,
    cases=packed_cases,
    wrong={
        "in which a token reads the documents before its own": packed_reads_on,
        "in which a token reads the later tokens of its document": packed_both_ways,
        "that uses the documents of the first row in all rows": packed_first_row,
        "that uses the documents, and the padding, of the first row in all rows": (
            packed_first_row_alone
        ),
        "that compares the documents of the first row, for all rows": (
            packed_first_row_equal
        ),
        "that multiplies the padding by 0: 0 * NaN is NaN, in q, k and v alike": (
            packed_times_zero
        ),
        "that covers up the output of the padding; NaN is in the real tokens by then": (
            packed_covered(packed_plain)
        ),
        "that covers up the output of the padding; from v, NaN is in the real tokens by then": packed_covered(
            packed_by_hand
        ),
        "whose rows without a key are a softmax over -inf alone": packed_empty_nan,
        "whose weights of 0 meet NaN in the padding: 0 * NaN is NaN": packed_plain,
        "that empties v alone: the mask adds -inf to the scores, and NaN - inf is NaN": packed_some_emptied(
            "v"
        ),
        "that empties k and v, not q: the rows of padding become NaN": (
            packed_some_emptied("kv")
        ),
        "that empties q and k, not v: 0 * NaN is NaN": packed_some_emptied("qk"),
        "that replaces NaN, and lets infinities in the padding pass as huge numbers": (
            packed_only_nan
        ),
        "that replaces what is not finite, where all of the padding belongs emptied": (
            packed_zero_nan
        ),
        "that turns NaN into 0 at the end, and real tokens with it": packed_hidden_nan,
        "that turns NaN into 0 after the fused function, and real tokens with it": (
            packed_fused_hidden_nan
        ),
        "whose rows without a key are the mean of all values": packed_uniform,
        "that adds two masks of large negative numbers: a row without a key still reads": (
            packed_added
        ),
        "in which padding reads padding: it is a document of its own there": (
            packed_own_padding
        ),
        "that sets weights to 0 after the softmax: they no longer add up to 1": (
            packed_late
        ),
    },
)
