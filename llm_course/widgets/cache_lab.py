"""The cache lab of notebook 06: slots that fill token by token, and a race."""

from __future__ import annotations

import time
from typing import Any

import torch
import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor

from llm_course.engine.conversation import shared_prefix
from llm_course.engine.generation import next_token_logits
from llm_course.engine.inference import make_cache
from llm_course.models import DecoderOnlyModel
from llm_course.text import Tokenizer
from llm_course.viz.cache_lab import slots
from llm_course.widgets.base import LabWidget, page_part
from llm_course.widgets.runs import Run

FIRST, MOST, RACE = 8, 64, 32  # slots at first and at most; tokens of the race


class CacheLab(LabWidget):
    """A real `KVCache` of few slots: what each holds, and what each pass was fed.

    `prefill` keeps what the prompt shares with the slots, from the start; `step` feeds
    one token, the likeliest; `truncate` forgets all slots but the first few.
    """

    _esm = page_part("cache_lab")
    _css = page_part("cache_lab", kind=".css")
    cells: t.List = t.List().tag(sync=True)  # text and kind of every slot
    counts = t.Dict().tag(sync=True)
    # of each way: name, tokens, seconds, positions
    race: t.List = t.List().tag(sync=True)
    outcome = t.Unicode().tag(sync=True)  # of the race

    def __init__(
        self, model: DecoderOnlyModel, tokenizer: Tokenizer, prompt: str
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.cache = make_cache(model, capacity=FIRST, max_length=MOST)
        self.ids: list[int] = []  # of all slots ever filled, also truncated ones
        self.kinds: list[str] = []
        self.logits: Tensor | None = None  # after the last token held
        self.passes: list[tuple[int, int]] = []  # tokens fed, tokens held after it
        settings = {"prompt": prompt, "keep": 4}
        super().__init__(name="Cache lab", settings=settings)
        self.do_prefill(settings)

    def figure(self) -> Figure:
        """The slots as they are."""
        texts, kinds = zip(*self.cells, strict=True)
        return slots(texts, kinds)

    def do_show(self, settings: dict[str, Any]) -> None:
        """Say how much of the prompt is held already. ValueError: it is too long."""
        self._tell()
        _room(self.tokenizer.encode(settings["prompt"]))

    def do_prefill(self, settings: dict[str, Any]) -> None:
        """Feed what the cache does not hold of the prompt. A race was for another."""
        ids = self._prompt(settings)
        self.race, self.outcome = [], ""
        # The last id is always fed: its logits choose the next token.
        reused = min(self._shared(ids), len(ids) - 1)
        self._feed(ids, reused, ["reused"] * reused + ["prompt"] * (len(ids) - reused))

    def do_step(self, _settings: dict[str, Any]) -> None:
        """Feed the likeliest next token."""
        held = self.ids[: self.cache.length]
        if self.logits is None:  # truncated: the last id that is left is fed again
            self._feed(held, len(held) - 1, self.kinds[: len(held)])
        ids = [*held, self._next()]
        self._feed(ids, len(held), [*self.kinds[: len(held)], "new"])

    def do_truncate(self, settings: dict[str, Any]) -> None:
        """Forget all but the first `keep` tokens; their numbers stay where they are."""
        if (keep := settings["keep"]) >= self.cache.length:
            return
        self.cache.truncate(keep)
        self.kinds[keep:] = ["truncated"] * (len(self.ids) - keep)
        self.logits = None
        self._tell()

    def do_race(self, settings: dict[str, Any]) -> None:
        """Write the same tokens with a cache and without, one after the other."""
        ids = self._prompt(settings)
        ways = {"with the cache": make_cache(self.model), "without": None}
        done = {name: [0, 0.0, 0] for name in ways}
        self.race, self.outcome = [], ""

        def work(run: Run) -> None:
            texts = []
            for name, cache in ways.items():
                text = list(ids)
                for _ in range(RACE):
                    start = time.perf_counter()
                    logits = self._logits(text, cache)
                    tokens, seconds, fed = done[name]
                    fed += len(text) if cache is None or not tokens else 1
                    seconds += time.perf_counter() - start
                    done[name] = [tokens + 1, seconds, fed]
                    text.append(int(logits.argmax()))
                    self.race = [[key, *values] for key, values in done.items()]
                    if run.stopped:
                        self.outcome = "Stopped."
                        return
                texts.append("".join(self.tokenizer.tokens(text[len(ids) :])))
            fast, slow = (seconds for _, seconds, _ in done.values())
            same = "both wrote" if texts[0] == texts[1] else "they differ; the cache's:"
            self.outcome = f"{slow / fast:.1f} times as fast; {same} “{texts[0]}”"

        self.start(work)

    def _prompt(self, settings: dict[str, Any]) -> list[int]:
        """The ids of the text box."""
        ids = self.tokenizer.encode(settings["prompt"])
        if not ids:
            raise ValueError("The prompt is empty: type something to read.")
        return ids

    def _shared(self, ids: list[int]) -> int:
        return shared_prefix(self.ids[: self.cache.length], ids)

    def _next(self) -> int:
        assert self.logits is not None
        return int(self.logits[: self.tokenizer.vocab_size].argmax())

    def _logits(self, ids: list[int], cache: Any) -> Tensor:
        row = torch.tensor([ids])
        with torch.inference_mode():
            return next_token_logits(self.model, row, torch.ones_like(row), cache)[0]

    def _feed(self, ids: list[int], keep: int, kinds: list[str]) -> None:
        """One pass: keep the first slots, and fill the next ones with the rest of
        ids."""
        _room(ids)
        self.cache.truncate(keep)
        self.logits = self._logits(ids, self.cache)
        self.passes.append((len(ids) - keep, len(ids)))
        # what lies behind was truncated, and is still in memory until it is overwritten
        behind = self.ids[len(ids) :]
        self.ids, self.kinds = [*ids, *behind], [*kinds, *["truncated"] * len(behind)]
        self._tell()

    def _tell(self) -> None:
        """Give the page the slots, and the counts beside them."""
        cache, texts = self.cache, self.tokenizer.tokens(self.ids)
        typed = self.tokenizer.encode(self.settings["prompt"])
        filled = list(zip(texts, self.kinds, strict=True))
        self.cells = [*filled, *[("", "free")] * (cache.capacity - len(filled))]
        following = None
        if self.logits is not None:
            following = self.tokenizer.tokens([self._next()])[0]
        self.counts = {
            "length": cache.length,
            "capacity": cache.capacity,
            "bytes": cache.nbytes,
            "fed": self.passes[-1][0] if self.passes else 0,
            "with": sum(fed for fed, _ in self.passes),
            "without": sum(held for _, held in self.passes),
            "next": following,
            # of the text box: tokens held already, and all; None: it has no room
            "typed": [self._shared(typed), len(typed)] if len(typed) <= MOST else None,
        }


def _room(ids: list[int]) -> None:
    """Raise ValueError for more ids than the cache may hold."""
    if len(ids) > MOST:
        raise ValueError(
            f"The text has {len(ids)} tokens; this cache may grow to {MOST} slots."
        )
