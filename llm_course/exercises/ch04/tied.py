"""The check of 04.tied: the gradient of one matrix, tied by its two uses."""

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises import Case, Cases, Exercise
from llm_course.exercises.ch04.models import LOSS, model_kept, small_model, token_ids
from llm_course.models.transformer import DecoderOnlyModel


def tied(model: DecoderOnlyModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the matrix as the table, and as the head."""
    weight = model.embed_tokens.weight.detach()
    table, head = (weight.clone().requires_grad_() for _ in range(2))
    x = table[ids]  # [B, S, hidden]
    for layer in model.layers:
        x = layer(x)
    logits = model.norm(x) @ head.T  # [B, S, V]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    by_table, by_head = torch.autograd.grad(loss, (table, head))
    return by_table, by_head


def cases() -> Cases:
    one = small_model(num_layers=1, tie_word_embeddings=True, vocab_size=6)
    yield Case(one.requires_grad_(), torch.tensor([[1, 4, 2]]), name="one layer, V = 6")
    two = small_model(tie_word_embeddings=True)
    ids = torch.tensor([[3, 7, 3, 3, 9, 7], [5, 3, 20, 0, 7, 5]])
    yield Case(two.requires_grad_(), ids, name="two texts")
    frozen = small_model(seed=1, tie_word_embeddings=True)
    yield Case(frozen, token_ids(2, 9), name="parameters that are frozen")


WRONG = f"""
that calls `backward`: the two names are one parameter, with the sum as its gradient
    model.norm(x) @ head.T -> model(ids)
    torch.autograd.grad(loss, (table, head)) -> loss.backward(), None
    return by_table, by_head ->
        return model.embed_tokens.weight.grad, model.lm_head.weight.grad
that gives the sum of both uses, twice
    return by_table, by_head -> return (by_table + by_head,) * 2
that halves the sum; the two uses do not pull alike
    return by_table, by_head -> return ((by_table + by_head) / 2,) * 2
with the two parts exchanged: first the table, then the head
    return by_table, by_head -> return by_head, by_table
{LOSS}
whose loss is the sum over all tokens, not their mean
    ids[:, 1:].flatten() -> ids[:, 1:].flatten(), reduction='sum'
that adds up the gradients of the texts, each from its own mean; the loss is one mean
over all texts
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) ->
        sum(map(F.cross_entropy, logits[:, :-1], ids[:, 1:]))
whose loss has the last token alone
    logits[:, :-1] -> logits[:, -2:-1] ;; ids[:, 1:] -> ids[:, -1:]
in which a token that occurs twice pulls once
    x = table[ids] -> x = first = table[ids] ;; (table, head) -> (first, head)
    return -> pull, by_table = by_table, torch.zeros_like(table)
        by_table[ids] = pull; return
that takes the first text of the batch alone
    x = table[ids] -> ids = ids[:1]; x = table[ids]
in which no gradient reaches the table: a `detach` (or `no_grad`) cuts the stream
    return by_table -> return None
"""

CHECK = Exercise("04.tied", tied, cases, WRONG, rule=model_kept)
