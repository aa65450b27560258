"""Answers whose results are right, and which break an exercise's rule, hear how."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from llm_course.exercises import registry
from llm_course.exercises.ch01 import backward
from llm_course.exercises.ch02 import complex_pairs
from llm_course.exercises.ch03 import grouped, online
from llm_course.exercises.ch04 import load
from llm_course.exercises.ch05 import beam
from llm_course.exercises.ch06 import verify, window
from llm_course.exercises.edits import edited
from llm_course.exercises.records import FAILING


def in_wide_pieces(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Never more than 64 channels in one tensor, but all of them at once."""
    pieces = [piece.float() for piece in x.split(64, -1)]
    squares = sum(piece.pow(2).sum(-1, keepdim=True) for piece in pieces)
    scale = torch.rsqrt(squares / x.shape[-1] + eps)
    return weight * torch.cat([(piece * scale).to(x.dtype) for piece in pieces], -1)


def copies(q: Tensor, k: Tensor, v: Tensor, cap: float) -> Tensor:
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    return grouped.grouped(q, k, v, cap)


def wasteful(blocks: online.Blocks) -> Tensor:
    torch.zeros(5000)
    return online.merged(blocks)


def always_layer_0(tensors: dict, config: Any, number: int) -> Any:
    layer = load.load(tensors, config, number)
    layer.self_attn.layer_idx = 0
    return layer


def asks_twice(next_log_probs: beam.LogProbs, *more: Any) -> beam.Beams:
    return beam.search(
        lambda ids: (next_log_probs(ids) + next_log_probs(ids)) / 2, *more
    )


def runs_twice(model: Any, cache: Any, token: int, guesses: list[int]) -> list[int]:
    model(torch.tensor([[token]]))
    return verify.verify(model, cache, token, guesses)


ROOMY = edited(window.stepwise, "capacity=size -> capacity=64")
TWICE = edited(window.stepwise, "step = -> model(ids[:, t : t + 1]); step =")


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("01.backward", backward.automatic, "it seems to use automatic"),
        ("01.lean", registry("01")["01.lean"].reference, "tensor of 1024 channels; 64"),
        ("01.lean", in_wide_pieces, "float32 numbers at the same time: in pieces"),
        ("02.complex", complex_pairs.real, "it makes no complex tensor"),
        ("03.grouped", copies, "a tensor of 4096 numbers. That is k, copied"),
        ("03.online", online.at_once, "of 32 blocks it still holds 30 old ones"),
        ("03.online", wasteful, "5000 numbers; all scores of all blocks are 2048"),
        ("04.load", always_layer_0, "layer 2 has layer_idx 0"),
        ("05.beam", asks_twice, "log-probabilities 18 times; 9 are enough"),
        ("06.verify", runs_twice, "the model runs 2 times, over 6 positions"),
        ("06.window", window.banded, "a pass reads 12 keys; the cache holds 5"),
        ("06.window", TWICE, "24 positions go through the model for 12 tokens"),
        ("06.window", ROOMY, "the cache reserves 64 places; 5 are enough"),
    ],
)
def test_an_answer_that_breaks_the_rule_hears_how(key, answer, said) -> None:
    verdict = registry(key[:2])[key].judge(answer)
    assert verdict.status == FAILING
    assert verdict.lines[1].startswith("The result is right, but ")
    assert said in verdict.lines[1]
