"""The check of exercise 04.tied: the gradient of one matrix, split by its two uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_course.exercises.ch04.models import (
    joined_loss,
    leaves_the_model,
    next_token_loss,
    same_token_loss,
    small_model,
    token_ids,
)
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models.transformer import DecoderOnlyModel

Pair = tuple[Tensor, Tensor]


def gradients(
    model: DecoderOnlyModel,
    ids: Tensor,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = next_token_loss,
    final_norm: bool = True,
) -> Pair:
    """(as table, as head). The keywords are what the wrong versions get wrong."""
    table, head = (
        model.embed_tokens.weight.detach().clone().requires_grad_() for _ in "io"
    )
    x = table[ids]  # [B, S, hidden]
    for layer in model.layers:
        x = layer(x)
    logits = (model.norm(x) if final_norm else x) @ head.T  # [B, S, V]
    return torch.autograd.grad(loss(logits, ids), (table, head))


def split(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    return gradients(model, ids)


def backward(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    next_token_loss(model(ids), ids).backward()
    return model.embed_tokens.weight.grad, model.lm_head.weight.grad


def both_uses(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    table, head = split(model, ids)
    return table + head, table + head


def halves(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    table, head = split(model, ids)
    return (table + head) / 2, (table + head) / 2


def exchanged(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    table, head = split(model, ids)
    return head, table


def summed(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
    )


def only_last(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, -2], ids[:, -1])


def written_once(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    """The gradient of the stream's first vectors, written to its rows by an index
    assignment."""
    weight = model.embed_tokens.weight.detach()
    first = weight[ids].requires_grad_()  # [B, S, hidden]
    x = first
    for layer in model.layers:
        x = layer(x)
    (pull,) = torch.autograd.grad(next_token_loss(model.norm(x) @ weight.T, ids), first)
    table = torch.zeros_like(weight)
    table[ids] = pull
    return table, split(model, ids)[1]


def texts_added(model: DecoderOnlyModel, ids: Tensor) -> Pair:
    table, head = zip(*(split(model, text[None]) for text in ids), strict=True)
    return sum(table), sum(head)


def cut_off(model: DecoderOnlyModel, ids: Tensor) -> tuple[None, Tensor]:
    """The stream is detached on its way, so nothing reaches the table."""
    return None, split(model, ids)[1]


def tied_cases() -> Iterator[Case]:
    model = small_model(
        num_layers=1, tie_word_embeddings=True, vocab_size=6
    ).requires_grad_()
    yield case(model, torch.tensor([[1, 4, 2]]), name="one layer, V = 6")
    model = small_model(tie_word_embeddings=True).requires_grad_()
    yield case(
        model, torch.tensor([[3, 7, 3, 3, 9, 7], [5, 3, 20, 0, 7, 5]]), name="two texts"
    )
    frozen = small_model(seed=1, tie_word_embeddings=True)
    yield case(frozen, token_ids(2, 9), name="parameters that are frozen")


TIED = Exercise(
    "04.tied",
    reference=split,
    cases=tied_cases,
    wrong={
        "that calls `backward`: the two names are one parameter, with the sum as its gradient": (
            backward
        ),
        "that gives the sum of both uses, twice": both_uses,
        "that halves the sum; the two uses do not pull alike": halves,
        "with the two parts exchanged: first the table, then the head": exchanged,
        "that compares each position with its own token, not with the next": (
            lambda model, ids: gradients(model, ids, loss=same_token_loss)
        ),
        "in which the end of each text predicts the beginning of the next text": (
            lambda model, ids: gradients(model, ids, loss=joined_loss)
        ),
        "whose loss is the sum over all tokens, not their mean": (
            lambda model, ids: gradients(model, ids, loss=summed)
        ),
        "that adds up the gradients of the texts, each from its own mean; the loss is one mean over all texts": (
            texts_added
        ),
        "whose loss has the last token alone": lambda model, ids: gradients(
            model, ids, loss=only_last
        ),
        "without the final norm in front of the head": lambda model, ids: gradients(
            model, ids, final_norm=False
        ),
        "in which a token that occurs twice pulls once": written_once,
        "that takes the first text of the batch alone": lambda model, ids: gradients(
            model, ids[:1]
        ),
        "in which no gradient reaches the table: a `detach` (or `no_grad`) cuts the stream": (
            cut_off
        ),
    },
    properties=(leaves_the_model,),
)
