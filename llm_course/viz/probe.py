"""Look inside a running model: what goes into its modules, what comes out, and what is
allocated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Recorded:
    """What one module saw in its latest forward pass."""

    input: Tensor  # its first argument
    output: Tensor


@contextmanager
def record(model: nn.Module, *names: str) -> Iterator[dict[str, Recorded]]:
    """Record the named modules of every forward pass inside the `with` block.

    Names are those of `model.named_modules()`, such as "layers.0.mlp"; a "*" stands for
    any one part, so "layers.*.mlp" is the MLP of every layer. Yields a dict that fills
    as the model runs: name -> Recorded. Raises ValueError for a name that fits no
    module.
    """
    wanted = [name.split(".") for name in names]
    recorded: dict[str, Recorded] = {}
    handles = []
    found = set()
    for name, module in model.named_modules():
        parts = name.split(".")
        for i, pattern in enumerate(wanted):
            if len(parts) == len(pattern) and all(
                p in ("*", part) for p, part in zip(pattern, parts, strict=True)
            ):
                found.add(i)

                def hook(
                    _module: nn.Module, args: tuple, output: Tensor, name: str = name
                ) -> None:
                    recorded[name] = Recorded(args[0], output)

                handles.append(module.register_forward_hook(hook))
    try:
        if missing := [names[i] for i in range(len(names)) if i not in found]:
            known = [name for name, _ in model.named_modules() if name][:8]
            raise ValueError(
                f"no module is called {missing}; this model has {known}, …"
            )
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def allocated(function: Callable[[], object]) -> int:
    """Bytes that PyTorch allocates on the CPU while `function` runs, freed again or
    not.

    This sees what one call hides, such as the buffers inside a fused kernel. Runs in
    inference mode.
    """
    with (
        _silent_stderr(),
        torch.inference_mode(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen,
    ):
        function()
    return sum(max(0, event.self_cpu_memory_usage) for event in seen.events())


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler writes lines of its own there, below Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
