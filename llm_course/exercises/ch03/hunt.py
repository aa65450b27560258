"""The bug hunt of 03_attention_gqa: causal for a prompt or one token, not between."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention

from llm_course.exercises import BugHunt


def right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group, past = q.shape[1] // k.shape[1], k.shape[2] - q.shape[2]
    k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    mask = torch.ones(q.shape[2], k.shape[2]).tril(past).bool()
    return attention(q, k, v, attn_mask=mask)


PLANTED = "attn_mask=mask -> is_causal=q.shape[2] > 1"
KIND = "it is right for a whole prompt, and for one new token"
OTHERS = """
query head h reads K/V head h % Hkv
    repeat_interleave(group, dim=1) -> repeat(1, group, 1, 1)
a triangle that is one too wide
    tril(past) -> tril(past + 1)
is_causal=True whatever Q and K are
    attn_mask=mask -> is_causal=True
no mask at all where Q and K differ
    attn_mask=mask -> is_causal=past == 0
weights set to 0 after the softmax
    attention(q, k, v, attn_mask=mask) ->
        ((q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) * mask) @ v
the keys and values of the first sentence used for all
    t.repeat -> t[:1].expand_as(t).repeat
"""

CHECK = BugHunt("03.hunt", right, PLANTED, KIND, OTHERS)
