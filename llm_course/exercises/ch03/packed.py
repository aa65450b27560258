"""The check of 03.packed: several documents in a row, and padding that may hold NaN."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention

from llm_course.exercises import Case, Cases, Exercise, normal

LOWEST = torch.finfo(torch.float32).min


def each_alone(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    """The reference: one document after the other."""
    out = torch.zeros_like(q)
    for row, numbers in enumerate(documents):
        for number in set(numbers.tolist()) - {0}:
            own = (numbers == number).nonzero().flatten()
            one_q, one_k, one_v = (t[row, :, own] for t in (q, k, v))  # [H, n, D]
            out[row, :, own] = attention(one_q, one_k, one_v, is_causal=True)
    return out


def packed(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    own = documents[:, None, :, None]  # [B, 1, S, 1]
    q, k, v = (t.masked_fill(own == 0, 0.0) for t in (q, k, v))
    same = (own == own.transpose(2, 3)) & (own != 0)  # [B, 1, S, S]
    earlier = torch.ones(q.shape[2], q.shape[2]).tril().bool()
    mask = same & earlier
    out = attention(q, k, v, attn_mask=mask)
    return out


def cases() -> Cases:
    """In the first two cases all scores are 0, so that the weights are equal."""

    def given(documents: Tensor, *in_padding: float, of: int = 3) -> list[Tensor]:
        """Random numbers; the padding of the first `of` tensors holds `in_padding`."""
        made = [normal(2, 3, 7, 4, seed=seed) for seed in range(3)]
        for t in made[:of] if in_padding else ():
            channels = torch.tensor(in_padding).repeat(4)[:4]
            t.transpose(1, 2)[documents == 0] = channels  # [n, H, D]
        return [*made, documents.clone()]

    for numbers, name in ([1, 1, 2], ""), ([0, 1, 1], "padding in front"):
        values = torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1)
        zeros = torch.zeros_like(values)
        yield Case(zeros, zeros.clone(), values, torch.tensor([numbers]), name=name)
    rows = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [0, 5, 5, 5, 5, 3, 3]])
    yield Case(*given(rows))
    apart = torch.tensor([[1, 0, 1, 2, 1, 2, 2], [3, 3, 0, 0, 3, 4, 3]])
    yield Case(*given(apart), name="documents in several pieces")
    empty = torch.tensor([[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 2, 3, 3]])
    yield Case(*given(empty), name="a row of padding alone")
    yield Case(*given(rows, torch.nan), name="padding that holds NaN")
    infinities = torch.inf, -torch.inf
    yield Case(*given(rows, *infinities), name="padding that holds infinities")
    name = "padding that holds numbers up to the end of float32"
    yield Case(*given(rows, 3e38, -1e38), name=name)
    yield Case(*given(rows, torch.nan, of=2), name="NaN in q and k alone")


PADDING_STAYS = "t.masked_fill(own == 0, 0.0) -> t"
FUSED = "attention(q, k, v, attn_mask=mask)"
SCORES = "(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5)"
BY_HAND = f"{FUSED} -> {SCORES}.masked_fill(~mask, -torch.inf).softmax(-1) @ v"
WRONG = f"""
that takes each run of equal numbers for a document: one may go on later
    own = documents -> starts = torch.nn.functional.pad(documents.diff() != 0, (1, 0))
        documents = starts.cumsum(1).masked_fill(documents == 0, -1) + 1
        own = documents
in which a token reads the documents before its own
    own == own.transpose(2, 3) -> own.transpose(2, 3) != 0
in which a token reads the later tokens of its document
    same & earlier -> same
that uses the documents of the first row in all rows
    same = -> own = own[:1]; same =
that uses the documents, and the padding, of the first row in all rows
    documents[:, -> documents[:1,
that compares the documents of the first row, for all rows
    same = -> own = own[:1]; same = ;; & (own != 0) ->
that multiplies the padding by 0: 0 * NaN is NaN, in q, k and v alike
    t.masked_fill(own == 0, 0.0) -> t * (own != 0)
that covers up the output of the padding; NaN is in the real tokens by then
    {PADDING_STAYS} ;; return out -> return out.masked_fill(own == 0, 0.0)
that covers up the output of the padding; from v, NaN is in the real tokens by then
    {PADDING_STAYS} ;; {BY_HAND} ;; return out -> return out.masked_fill(own == 0, 0.0)
whose rows without a key are a softmax over -inf alone
    {BY_HAND}
whose weights of 0 meet NaN in the padding: 0 * NaN is NaN
    {PADDING_STAYS}
that empties v alone: the mask adds -inf to the scores, and NaN - inf is NaN
    q, k, v = (t -> (v,) = (t ;; in (q, k, v)) -> in (v,))
that empties k and v, not q: the rows of padding become NaN
    q, k, v = (t -> k, v = (t ;; in (q, k, v)) -> in (k, v))
that empties q and k, not v: 0 * NaN is NaN
    q, k, v = (t -> q, k = (t ;; in (q, k, v)) -> in (q, k))
that replaces NaN, and lets infinities in the padding pass as huge numbers
    masked_fill(own == 0, 0.0) -> nan_to_num()
that replaces what is not finite, where all of the padding belongs emptied
    masked_fill(own == 0, 0.0) -> nan_to_num(0.0, 0.0, 0.0)
that turns NaN into 0 at the end, and real tokens with it
    {PADDING_STAYS} ;; {BY_HAND} ;; return out -> return out.nan_to_num(0.0)
that turns NaN into 0 after the fused function, and real tokens with it
    {PADDING_STAYS} ;; return out -> return out.nan_to_num(0.0)
whose rows without a key are the mean of all values
    attn_mask=mask -> attn_mask=torch.where(mask, 0.0, LOWEST)
that adds two masks of large negative numbers: a row without a key still reads
    attn_mask=mask ->
        attn_mask=sum(torch.where(true, 0.0, LOWEST) for true in (same, earlier))
in which padding reads padding: it is a document of its own there
    {PADDING_STAYS} ;; & (own != 0) ->
that sets weights to 0 after the softmax: they no longer add up to 1
    {FUSED} -> ({SCORES}.softmax(-1) * mask) @ v
"""

CHECK = Exercise("03.packed", each_alone, cases, WRONG, edits_of=packed)
