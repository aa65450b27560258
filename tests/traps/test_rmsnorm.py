"""The traps of RMSNorm: where eps stands, what the mean is taken over, and in which
precision."""

from __future__ import annotations

import pytest
import torch

from llm_course.models import RMSNorm


def test_norm_eps_is_under_the_root():
    x = torch.full((1, 4), 1e-3)
    out = RMSNorm(4, eps=1e-6)(x)
    torch.testing.assert_close(out, torch.full((1, 4), 2**-0.5))
    assert RMSNorm(4)(torch.zeros(1, 4)).eq(0).all()


def test_norm_takes_the_mean_over_channels():
    """Each position has its own: neither the batch nor the other positions count."""
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    norm, sizes = RMSNorm(8), torch.tensor([0.1, 1.0, 10.0])[:, None]
    torch.testing.assert_close(
        norm(x * sizes)[1, 2], norm(x[1, 2] * 10.0), rtol=0, atol=0
    )
    torch.testing.assert_close(
        norm(x).pow(2).mean(-1), torch.ones(2, 3), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norm_takes_the_mean_in_float32(dtype):
    x = torch.full((1, 64), 300.0, dtype=dtype)  # 300² leaves the range of float16
    torch.testing.assert_close(RMSNorm(64).to(dtype)(x), torch.ones(1, 64, dtype=dtype))


def test_norm_rounds_before_it_weighs():
    torch.manual_seed(0)
    x, norm = torch.randn(50, 64).bfloat16(), RMSNorm(64).bfloat16()
    torch.nn.init.normal_(norm.weight)
    wide = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
    assert torch.equal(norm(x), norm.weight * wide.bfloat16())
