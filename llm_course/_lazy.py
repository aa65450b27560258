"""Lazy re-exports (PEP 562): a package that offers its modules' names without importing
them all.

The modules of `models/` and `engine/` are written by notebooks. If one of them is
broken, the others must still import, or the notebook that could mend it would not
start.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, modules: dict[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return (`__getattr__`, `__dir__`, `__all__`) for a package whose names live in
    `modules`.

    `modules` maps a submodule to the names it provides. Nothing is imported until a
    name is used.
    """
    home = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return __getattr__, lambda: sorted(home), sorted(home)
