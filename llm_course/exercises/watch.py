"""Look over a function's shoulder: which tensors it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Watch(TorchDispatchMode):
    def __init__(self, known: set[int], dtypes: tuple[torch.dtype, ...]) -> None:
        super().__init__()
        self.known, self.dtypes, self.largest, self.peak = known, dtypes, 0, 0
        self.alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (
                not self.dtypes or tensor.dtype in self.dtypes
            ):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.known:
                    entries = storage.nbytes() // tensor.element_size()
                    self.alive[StorageWeakRef(storage)] = entries
                    self.largest = max(self.largest, entries)
        self.alive = {
            ref: size for ref, size in self.alive.items() if not ref.expired()
        }
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


def _watched(
    function: Callable[..., Any], args: tuple[Any, ...], dtypes: Any
) -> _Watch:
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    with _Watch(
        {tensor.untyped_storage().data_ptr() for tensor in given}, tuple(dtypes)
    ) as watch:
        function(*args)
    return watch


def largest_tensor(function: Callable[..., Any], *args: Any, dtypes: Any = ()) -> int:
    """Entries of the largest tensor that `function(*args)` allocates; views count
    nothing.

    `dtypes` restricts this to some dtypes. Arguments and views of them do not count.
    """
    return _watched(function, args, dtypes).largest


def peak_entries(function: Callable[..., Any], *args: Any, dtypes: Any = ()) -> int:
    """Entries of all tensors of `function(*args)` that are alive at once, at the worst
    moment.

    As with `largest_tensor`, arguments and views do not count.
    """
    return _watched(function, args, dtypes).peak
