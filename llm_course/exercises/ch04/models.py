"""Small models that the checks of 04_decoder share."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from llm_course.config import ModelConfig
from llm_course.exercises import Complaints, Function, random_ids
from llm_course.exercises.models import random_model
from llm_course.models.transformer import DecoderOnlyModel

# A model of two layers; its heads together are wider than its stream.
SMALL = ModelConfig(24, 12, 20, 2, 4, 2, 8, max_position_embeddings=64)
small_config = partial(replace, SMALL)
token_ids = partial(random_ids, SMALL.vocab_size)
# What goes wrong with a loss, as edits of a function that computes one.
LOSS = """
that compares each position with its own token, not with the next
    logits[:, :-1] -> logits ;; ids[:, 1:] -> ids
in which the end of each text predicts the beginning of the next text
    logits[:, :-1].flatten(0, 1) -> logits.flatten(0, 1)[:-1]
    ids[:, 1:].flatten() -> ids.flatten()[1:]
without the final norm in front of the head
    model.norm(x) -> x
"""


def small_model(seed: int = 0, **changes: Any) -> DecoderOnlyModel:
    """A model of such a config, the same at each call."""
    return random_model(small_config(**changes), 10.0, seed)


def change_left(model: DecoderOnlyModel, act: Function) -> Complaints:
    """What is another than before, once `act` has run."""
    ids = token_ids(1, 6)
    logits, modules = model(ids), dict(model.named_modules())
    training = {name: module.training for name, module in modules.items()}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    flags = {name: weight.requires_grad for name, weight in parameters.items()}
    act()
    for name, module in model.named_modules():
        if name not in modules or module is not modules[name]:
            yield f"afterwards `model.{name}` is another object: put the old one back."
        if module.training != training[name]:
            mode = "training" if module.training else "eval"
            yield f"afterwards the model is in {mode} mode, which it was not."
    for name, weight in model.named_parameters(remove_duplicate=False):
        if weight is not parameters[name]:
            yield f"afterwards `{name}` is another parameter than before."
        if weight.requires_grad != flags[name]:
            now, before = weight.requires_grad, flags[name]
            yield f"afterwards `{name}` has requires_grad = {now}; it had {before}."
        if weight.grad is not None:
            yield f"it leaves a gradient in {name}; `torch.autograd.grad` leaves none."
    if not torch.equal(model(ids), logits):
        yield "afterwards the model gives other logits. Is a hook left?"


def model_kept(function: Function, *more: Any) -> Complaints:
    """`function(model, ids, *more)` has to leave a model as it was, frozen or not."""
    for training in (False, True):
        model = small_model(num_layers=3, tie_word_embeddings=True)
        model.requires_grad_(training).train(training)
        yield from change_left(model, partial(function, model, token_ids(1, 6), *more))
