"""The playground of notebook 05: a prompt, every filter, and two texts to compare."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor

from llm_course.config import GenerationConfig
from llm_course.engine.conversation import Conversation, shared_prefix
from llm_course.engine.generation import next_token_logits
from llm_course.models import DecoderOnlyModel
from llm_course.text import Tokenizer
from llm_course.viz.sampling import filter_bars
from llm_course.widgets.base import LabWidget, page_part
from llm_course.widgets.columns import Column, token_texts, write
from llm_course.widgets.runs import Run
from llm_course.widgets.stages import chart, stages

OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
FIRST = {"temperature": 0.8, **OFF, "top_k": 50, "top_p": 0.8}
PRESETS = {
    "at the start": FIRST,
    "the model as it is": {"temperature": 1.0, **OFF},
    "greedy": {"temperature": 0.0, **OFF},
    "careful": {"temperature": 0.6, **OFF, "top_k": 40, "top_p": 0.9},
    "wild": {"temperature": 1.5, **OFF},
    "wild, with min-p": {"temperature": 1.5, **OFF, "min_p": 0.1},
    "no repeats": {**FIRST, "repetition_penalty": 1.3},
}
OTHER = {"A": "B", "B": "A"}


class Playground(LabWidget):
    """Controls, the distribution of one token after each filter, and two texts.

    The chart shows the token at the place chosen in a text, or the first one after the
    prompt, under the settings of the page. A move computes it from logits that are
    kept, without a forward pass. The texts come from the engine's own loop, with the
    model prepared for inference.
    """

    _esm = page_part("playground_chart", "playground_texts", "playground")
    _css = page_part("playground", kind=".css")
    presets = t.Dict(PRESETS).tag(sync=True)
    chart = t.Dict().tag(sync=True)
    texts = t.Dict().tag(sync=True)  # "A" and "B": what the page shows of each
    shared = t.Int(0).tag(sync=True)  # tokens with which both begin

    def __init__(
        self,
        model: DecoderOnlyModel,
        tokenizer: Tokenizer,
        prompt: str = "I opened the door and saw a",
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.columns = {"A": Column(), "B": Column()}
        self._logits_after = lru_cache(maxsize=4)(self._prompt_logits)
        settings = {"prompt": prompt, "mode": "raw", "column": "A", **FIRST}
        settings |= {"seed": 0, "max_new_tokens": 60}
        texts = {name: self._text(name) for name in OTHER}
        super().__init__(name="Sampling playground", settings=settings, texts=texts)
        self.do_show(settings)

    @cached_property
    def conversation(self) -> Conversation:
        """What generates, made by the first run: with the model prepared for inference,
        if it is one as built."""
        from llm_course.engine import prepare_for_inference

        as_built = type(self.model) is DecoderOnlyModel
        return Conversation(
            prepare_for_inference(self.model) if as_built else self.model
        )

    def figure(self) -> Figure:
        """The distribution of the first token, before and after the filters."""
        logits, config = self._logits_after(self._ids(self.settings)), self.config()
        found = stages(logits, self._ids(self.settings), config)
        title = f"T = {config.temperature:g}, k = {config.top_k or 'off'}"
        title += f", p = {config.top_p:g}, min-p = {config.min_p:g}"
        after = {title: found[-1].probs}
        return filter_bars(found[0].probs, after, self.tokenizer.tokens)

    def config(self, settings: dict[str, Any] | None = None) -> GenerationConfig:
        """The settings of a message (None: the latest) as the engine takes them."""
        settings = settings or self.settings
        names = [*FIRST, "seed", "max_new_tokens"]
        return GenerationConfig(**{name: settings[name] for name in names})

    def do_show(self, settings: dict[str, Any], at: int = 0) -> None:
        """Draw the chart of token `at` of the chosen column."""
        try:
            self.chart = self._chart(settings, at)
        except Exception:
            self.chart = {}  # no chart of something else stays
            raise

    def _chart(self, settings: dict[str, Any], at: int) -> dict[str, Any]:
        config, column = self.config(settings), self._column(settings)
        at = min(at, len(column.logits) - 1)
        seen = column.all_ids(at)
        chosen = column.ids[at] if at < len(column.ids) else None
        found = stages(column.logits[at], seen, config)
        tail = "".join(self.tokenizer.tokens(seen[-5:]))
        place = {"column": settings["column"], "at": at, "tail": tail}
        return {**chart(found, self.tokenizer.tokens, chosen), **place}

    def do_generate(self, settings: dict[str, Any]) -> None:
        """Write a column anew, from the prompt."""
        self._begin(settings, self._column(settings).cut(0))
        self.do_show(settings)

    def do_step(self, settings: dict[str, Any]) -> None:
        """Draw one more token."""
        column = self._column(settings)
        if column.settings.get("seed") != settings["seed"]:
            column.generator = None
        self._begin(settings, column, step=True)

    def do_branch(self, settings: dict[str, Any], at: int, token: int) -> None:
        """In the other column: this text up to `at`, `token`, and what follows it."""
        branch = self._column(settings).cut(at)
        branch.add(token, self.config(settings))
        self._begin({**settings, "column": OTHER[settings["column"]]}, branch)

    def _begin(
        self, settings: dict[str, Any], column: Column, step: bool = False
    ) -> None:
        """Write on in `column` in a thread: one token, or up to the asked length."""
        name = settings["column"]
        left = 1 if step else settings["max_new_tokens"] - len(column.ids)
        config = replace(self.config(settings), max_new_tokens=max(left, 1))

        def work(run: Run) -> None:
            column.note = "reading the prompt …"
            self._tell(name)
            tell = partial(self._tell, name)
            write(column, self.conversation, config, self.tokenizer, run, tell)
            self._tell(name)
            if self.settings["column"] == name:  # a step goes on to the next token
                at = len(column.ids) if step else self.chart.get("at", 0)
                self.do_show(self.settings, at)

        self.do_stop(settings)
        self.wait()  # what runs may be writing this very column
        column.settings = settings
        self.columns[name] = column
        self.start(work)

    def _tell(self, name: str) -> None:
        """Give the page a column as it stands."""
        self.texts = {**self.texts, name: self._text(name)}
        a, b = (self.columns[name] for name in "AB")
        self.shared = shared_prefix(a.ids, b.ids) if a.prompt == b.prompt else 0

    def _text(self, name: str) -> dict[str, Any]:
        column = self.columns[name]
        texts = token_texts(self.tokenizer, column.ids)
        odds = column.odds[: len(texts)]
        tokens = [[text, *pair] for text, pair in zip(texts, odds, strict=True)]
        told = {"head": column.head, "tokens": tokens, "note": column.note}
        return {**told, "settings": column.settings}

    def _column(self, settings: dict[str, Any]) -> Column:
        """The column of these settings, or an empty one if it has another prompt."""
        ids = self._ids(settings)
        column = self.columns[settings["column"]]
        if column.logits and column.prompt == list(ids):
            return column
        head = "" if settings["mode"] == "chat" else settings["prompt"]
        return Column(list(ids), head, logits=[self._logits_after(ids)])

    def _ids(self, settings: dict[str, Any]) -> tuple[int, ...]:
        """The ids of a prompt; ValueError when it is empty or cannot be spelled."""
        text = settings["prompt"]
        if not text.strip():
            raise ValueError("The prompt is empty: type something to continue.")
        if settings["mode"] == "chat":
            chat = [{"role": "user", "content": text}]
            return tuple(self.tokenizer.encode_chat(chat))
        return tuple(self.tokenizer.encode(text))

    def _prompt_logits(self, ids: tuple[int, ...]) -> Tensor:
        """Logits [V] after a prompt, of the tokens that the tokenizer knows."""
        batch = torch.tensor([ids])  # [1, S]
        logits = next_token_logits(self.model, batch, torch.ones_like(batch))[0].cpu()
        return logits[: self.tokenizer.vocab_size]
