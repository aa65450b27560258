# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""The matrix products of a layer, by the library that is faster for them on this
machine."""

from __future__ import annotations

import time
from functools import lru_cache
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Blas", "InPlace", "OneDnn", "products_for", "blas_wins"]


class Blas:
    """The products of a layer by PyTorch's ordinary calls: any device, any dtype."""

    linear = staticmethod(F.linear)  # x [..., in], weight [out, in] -> [..., out]

    @staticmethod
    def add_linear(stream: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """stream [..., out] + linear(x, weight)."""
        return stream + F.linear(x, weight)

    @staticmethod
    def gated(x: Tensor, gate_up: Tensor) -> Tensor:
        """SiLU(gate x) * (up x), the matrices stacked [2 * inner, in]: [..., in] ->
        [..., inner]."""
        gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
        return F.silu(gate) * up


class InPlace(Blas):
    """The same for float32 on the CPU, with one memory for all layers of a pass.

    A result is valid until the next product of the same output width. What is added to
    a stream is added in place.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Tensor] = {}  # width -> [rows, width]

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        rows, width = x.flatten(0, -2), len(weight)  # [rows, in]
        if width not in self.memory or len(self.memory[width]) < len(rows):
            self.memory[width] = x.new_empty(len(rows), width)
        out = torch.mm(rows, weight.t(), out=self.memory[width][: len(rows)])
        return out.view(*x.shape[:-1], width)

    def add_linear(self, stream: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        stream.view(-1, stream.shape[-1]).addmm_(x.flatten(0, -2), weight.t())
        return stream

    def gated(self, x: Tensor, gate_up: Tensor) -> Tensor:
        gate, up = self.linear(x, gate_up).chunk(2, dim=-1)
        return F.silu(gate, inplace=True).mul_(up)


class OneDnn:
    """The same by the library oneDNN, for float32 on the CPU."""

    available = torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    )

    @staticmethod
    def linear(x: Tensor, weight: Tensor, then: str = "none") -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, then, [], "")

    @staticmethod
    def add_linear(
        stream: Tensor, x: Tensor, weight: Tensor, how: str = "add"
    ) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(x, stream, weight, None, how)

    @staticmethod
    def gated(x: Tensor, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2)  # [inner, in] each
        return OneDnn.add_linear(OneDnn.linear(x, gate, "swish"), x, up, "mul")


def products_for(x: Tensor) -> Blas | OneDnn:
    """What can multiply x; for float32 on the CPU, by the winner of the race."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return Blas()
    return OneDnn() if OneDnn.available and not blas_wins() else InPlace()


@lru_cache
def blas_wins() -> bool:
    """True if BLAS multiplies a matrix with one vector faster on this machine. A race,
    run once."""
    # 85 MB, to be read from memory
    x, matrices = (torch.ones(1, 576), torch.ones(24, 1536, 576))

    def seconds(products: type[Blas] | type[OneDnn]) -> float:
        start = time.perf_counter()
        for matrix in matrices:
            products.linear(x, matrix)
        return time.perf_counter() - start

    rounds = [(seconds(Blas), seconds(OneDnn)) for _ in range(4)]
    # the first round warms up
    return median(blas / onednn for blas, onednn in rounds[1:]) < 1
