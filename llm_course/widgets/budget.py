"""A `KVCacheManager` by hand: requests come, end, and are refused."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor

from llm_course.config import ModelConfig
from llm_course.engine.kv_cache import KVCache, KVCacheManager, cache_bytes
from llm_course.viz.cache import budget
from llm_course.widgets.base import LabWidget, page_part

SHOWN = 14  # events in the chart


class BudgetLab(LabWidget):
    """Requests of chosen lengths under a budget of bytes; each admitted one can end.

    A bar is the memory after one event: requests in use, and what is kept of those
    that have ended.
    """

    _esm = page_part("budget")
    _css = page_part("budget", kind=".css")
    events: t.List = t.List().tag(sync=True)
    running_now: t.List = t.List().tag(sync=True)  # name and tokens of each request
    stats = t.Dict().tag(sync=True)
    earlier = t.Int().tag(sync=True)  # events that the chart has no room for

    def __init__(self, config: ModelConfig, megabytes: int = 40) -> None:
        self.manager = KVCacheManager(config, budget=megabytes * 1_000_000)
        self.requests: dict[str, tuple[int, KVCache]] = {}
        self._names = map(str, count(1))
        super().__init__(name="Budget of caches", settings={"tokens": 300})
        self.do_admit(self.settings)

    def figure(self) -> Figure:
        """The memory after each event."""
        events = self.events
        return budget(
            [dict(e["held"]) for e in events],
            [e["kept"] for e in events],
            [i for i, e in enumerate(events) if e["refused"]],
            self.manager.budget / 1e6,
            [e["label"] for e in events],
        )

    def do_show(self, _settings: dict[str, Any]) -> None:
        """A slider moved: nothing is admitted yet."""

    def do_admit(self, settings: dict[str, Any]) -> None:
        """Ask for a cache; it is refused if it does not fit."""
        name, tokens = next(self._names), settings["tokens"]
        before = self.manager.stats
        try:
            self.requests[name] = tokens, self.manager.allocate(tokens)
        except MemoryError:
            return self._tell(f"+{name}", refused=tokens)
        after = self.manager.stats
        reused = after.reused > before.reused
        given_up = 0 if reused else (before.kept - after.kept) / 1e6
        self._tell(f"+{name}", source=["kept" if reused else "new", given_up])

    def do_finish(self, _settings: dict[str, Any], name: str) -> None:
        """A request ends, and gives its cache back."""
        if name in self.requests:  # else a second click on the way
            self.manager.free(self.requests.pop(name)[1])
            self._tell(f"-{name}")

    def _tell(
        self, label: str, refused: int = 0, source: list[Any] | None = None
    ) -> None:
        """An event: `refused` tokens, or the `source` of a new cache's memory ("kept"
        or "new") and the MB of kept memory that were given up for it."""
        stats, config = self.manager.stats, self.manager.config
        held = [
            [name, reserved(cache.layers)] for name, (_, cache) in self.requests.items()
        ]
        kept = [reserved(buffers) for buffers in self.manager._kept]
        event: dict[str, Any] = {"label": label, "held": held, "kept": kept}
        event |= {"refused": refused, "source": source}
        self.earlier += len(self.events) == SHOWN
        self.events = [*self.events, event][-SHOWN:]
        self.running_now = [[n, tokens] for n, (tokens, _) in self.requests.items()]
        self.stats = {
            "budget": stats.budget / 1e6,
            "in_use": stats.in_use / 1e6,
            "kept": stats.kept / 1e6,
            "allocated": stats.allocated,
            "reused": stats.reused,
            "refused": stats.refused,
            "token": cache_bytes(config, 1),
        }


def reserved(parts: Iterable[Tensor]) -> float:
    """Megabytes behind a cache's parts, which may be more than was asked for."""
    return sum(part.untyped_storage().nbytes() for part in parts) / 1e6
