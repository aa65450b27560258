"""Look over a function's shoulder: which tensors it makes."""

from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llm_course.exercises.edits import Function

Dtypes = tuple[torch.dtype, ...]


class Watch(TorchDispatchMode):
    """`largest` has the entries of the largest tensor that was made, `peak` those of
    all that were alive at once, at the worst moment. Views count nothing."""

    def __init__(self, known: set[int], dtypes: Dtypes) -> None:
        super().__init__()
        self.known, self.dtypes, self.largest, self.peak = known, dtypes, 0, 0
        self.alive: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            new = storage.data_ptr() not in self.known
            if new and (not self.dtypes or tensor.dtype in self.dtypes):
                entries = storage.nbytes() // tensor.element_size()
                self.alive[StorageWeakRef(storage)] = entries
                self.largest = max(self.largest, entries)
        self.alive = {ref: n for ref, n in self.alive.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


def watched(function: Function, *args: Any, dtypes: Dtypes = ()) -> Watch:
    """What `function(*args)` allocates of these dtypes, or of any. Arguments do not
    count, nor do views of them."""
    tensors = filter(torch.is_tensor, tree_leaves(args))
    known = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    with Watch(known, dtypes) as watch:
        function(*args)
    return watch
