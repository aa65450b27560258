"""Readers' tests for 06.hunt: layers that count their own tokens."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from llm_course.exercises import Function
from llm_course.exercises.ch06.hunt import ByLayer
from llm_course.exercises.ch06.models import tiny_config


def marked(start: int, count: int) -> Tensor:
    """[1, Hkv, count, D], each number the position it belongs to."""
    places = torch.arange(start, start + count, dtype=torch.float32)
    return places[None, None, :, None].expand(1, 2, count, 8)


def fed(cache: ByLayer, count: int) -> None:
    for layer_idx in range(2):
        new = marked(cache.length, count)
        k, v = cache.update(layer_idx, new, -new)
        assert torch.equal(k, marked(0, cache.length + count))
        assert torch.equal(v, -k)
    cache.advance(count)


def whole_passes(implementation: Function) -> None:
    """Growth, truncation and reset, but every pass comes to its end."""
    cache = implementation(tiny_config(), 1, 2)
    for count in (2, 1, 3):
        fed(cache, count)
    cache.truncate(4)
    fed(cache, 1)
    cache.reset()
    fed(cache, 2)


def lengths_only(implementation: Function) -> None:
    """Looks at `length`, not at what is stored."""
    cache = implementation(tiny_config(), 1, 4)
    cache.update(0, marked(0, 3), marked(0, 3))
    cache.update(1, marked(0, 3), marked(0, 3))
    cache.advance(3)
    cache.truncate(1)
    assert cache.length == 1


def expects_tensors(implementation: Function) -> None:
    """How a cache is made inside is nobody's business."""
    assert isinstance(implementation(tiny_config(), 1, 4).layers[0], Tensor)


def refuses(call: Function) -> Function:
    """A test that expects ValueError of a new cache."""

    def test(implementation: Function) -> None:
        with suppress(ValueError):
            call(implementation(tiny_config(), 1, 4))
            raise AssertionError

    return test


too_short = refuses(lambda cache: cache.truncate(3))
half_precision = refuses(lambda cache: cache.update(0, *2 * [marked(0, 2).half()]))
TOO_WEAK = whole_passes, lengths_only, lambda implementation: None, too_short
TOO_STRICT = expects_tensors, half_precision
