"""Look over a function's shoulder: which tensors it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Watch(TorchDispatchMode):
    def __init__(self, known: set[int], dtypes: tuple[torch.dtype, ...]) -> None:
        super().__init__()
        self.known, self.dtypes, self.largest = known, dtypes, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (not self.dtypes or tensor.dtype in self.dtypes):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.largest = max(self.largest, storage.nbytes() // tensor.element_size())
        return out


def largest_tensor(function: Callable[..., Any], *args: Any, dtypes: Any = ()) -> int:
    """Entries of the largest tensor that `function(*args)` allocates; views count nothing.

    `dtypes` restricts this to some dtypes. Arguments and views of them do not count.
    """
    given = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    with _Watch({tensor.untyped_storage().data_ptr() for tensor in given}, tuple(dtypes)) as watch:
        function(*args)
    return watch.largest
