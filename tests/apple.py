"""A stand-in for Apple's GPU: tensors that say "mps", and refuse what it refuses.

Their numbers lie on the CPU, where every operation is carried out after three checks:
no float64 on the device, no mixing with tensors of the CPU, and no way to numpy but
through `.cpu()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.functional import one_hot
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
HERE = torch.device("mps", 0)
WIDE = (torch.float64, torch.complex128)
# what brings a tensor from one device to another, and so may meet both
CROSSING = (aten._to_copy.default, aten.copy_.default)


class OnApple(torch.Tensor):
    """A tensor that says it is on the GPU; `inner` holds its numbers."""

    inner: torch.Tensor
    device = property(lambda _self: HERE)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnApple:
        if inner.dtype in WIDE:
            raise TypeError("Cannot convert an MPS Tensor to float64")
        with torch.inference_mode(False):  # an inference tensor has no views
            outer = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device="meta",  # as PyTorch's C++ sees it: no driver is asked for
                requires_grad=inner.requires_grad,
            )
        outer.inner = inner
        return outer

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return carry_out(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_options: Any) -> str:
        return f"OnApple({self.inner!r})"


def carry_out(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """One operation, of which some tensor, or the result, is on the GPU."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    beside = [x for x in tensors if not isinstance(x, OnApple) and x.ndim]
    if beside and len(beside) < len(tensors) and func not in CROSSING:
        indices = func in (aten.index.Tensor, aten.index_put_.default)
        if not (indices and all(x.dtype in (torch.int64, torch.bool) for x in beside)):
            raise RuntimeError(f"{func}: tensors on two devices, mps:0 and cpu")
    target = kwargs.get("device")
    stays = any(isinstance(x, OnApple) for x in tensors)
    if target is not None:
        target = torch.device(target)
        stays = target.type in ("mps", "meta")
        kwargs = kwargs | {"device": torch.device("cpu")}
    if func is aten._local_scalar_dense.default:
        stays = False
    if func is aten.copy_.default:
        stays = isinstance(args[0], OnApple)
    if any(x in WIDE for x in (*flat, kwargs.get("dtype")) if stays):
        raise TypeError(f"{func}: the MPS framework doesn't support float64")
    if func is aten._scaled_dot_product_attention_math_for_mps.default:
        func = aten._scaled_dot_product_attention_math.default
    if "pin_memory" in kwargs:
        kwargs = kwargs | {"pin_memory": False}

    def inside(x: Any) -> Any:
        return x.inner if isinstance(x, OnApple) else x

    out = func(*tree_map(inside, args), **tree_map(inside, kwargs))
    if not stays:
        return out
    if func._schema.is_mutable and isinstance(args[0], OnApple):
        return args[0]
    return tree_map(lambda x: OnApple(x) if isinstance(x, torch.Tensor) else x, out)


class Apple(TorchDispatchMode):
    """Inside, `device="mps"` makes such tensors."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat, _ = tree_flatten((args, kwargs))
        named = kwargs.get("device")
        asked = named is not None and torch.device(named).type == "mps"
        if asked or any(isinstance(x, OnApple) for x in flat):
            return carry_out(func, args, kwargs)
        return func(*args, **kwargs)


class Indexed(TorchFunctionMode):
    """Says "mps:0" where "mps" is said: without it, torch asks a driver which one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def named(x: Any) -> Any:
            known = isinstance(x, str | torch.device) and str(x) == "mps"
            return HERE if known else x

        # this one looks at the device in C++, and takes another way for "meta"
        if func is one_hot and isinstance(args[0], OnApple):
            return OnApple(one_hot(args[0].inner, *args[1:]))
        options = {name: named(x) for name, x in (kwargs or {}).items()}
        return func(*map(named, args), **options)


@contextmanager
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside, "auto" finds an Apple GPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    ordinary = torch.Generator

    class Generator:
        """Of the device, which takes no generator of the CPU and gives none."""

        def __new__(cls, device: Any = "cpu") -> torch.Generator:
            return ordinary("cpu" if torch.device(device).type == "mps" else device)

    monkeypatch.setattr(torch, "Generator", Generator)
    with Apple(), Indexed():
        yield
