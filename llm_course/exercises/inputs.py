"""What exercises are tried on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers, the same at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def random_ids(below: int, *shape: int, seed: int = 0) -> Tensor:
    """Token ids, the same at each call."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Inside, draws on the CPU are the same each time; outside, as if none was made."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the other devices too, which takes much longer
        torch.default_generator.manual_seed(seed)
        yield
