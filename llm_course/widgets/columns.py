"""The two texts of the playground: tokens, their probabilities, the logits behind
them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llm_course.config import GenerationConfig
from llm_course.engine.conversation import Conversation
from llm_course.engine.generation import next_token_logits, seeded_generator
from llm_course.text import Tokenizer
from llm_course.widgets.runs import Run
from llm_course.widgets.stages import distribution, penalised_logits


@dataclass
class Column:
    """A prompt and what was drawn after it.

    `logits[i]` [V] stand before token i, and the last ones after the last token. `odds`
    are two probabilities a token: the model's own, and the one it was drawn with.
    """

    prompt: list[int] = field(default_factory=list)
    head: str = ""  # the prompt as the page shows it
    ids: list[int] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    odds: list[list[float]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    generator: torch.Generator | None = None
    note: str = ""

    def cut(self, at: int) -> Column:
        """The same text up to `at` tokens, for a branch."""
        kept = Column(self.prompt, self.head, self.ids[:at])
        kept.logits, kept.odds = self.logits[: at + 1], self.odds[:at]
        return kept

    def add(self, token: int, config: GenerationConfig) -> None:
        """Append a token that follows the latest logits."""
        logits = self.logits[len(self.ids)]
        drawn = distribution(penalised_logits(logits, self.all_ids(), config), config)
        model = torch.softmax(logits, dim=-1)
        self.odds.append([float(model[token]), float(drawn[token])])
        self.ids.append(token)

    def all_ids(self, at: int | None = None) -> list[int]:
        """The prompt's ids and the first `at` drawn ones (None: all)."""
        return [*self.prompt, *self.ids[:at]]


def write(
    column: Column,
    conversation: Conversation,
    config: GenerationConfig,
    tokenizer: Tokenizer,
    run: Run,
    heard: Any,
) -> None:
    """Draw tokens after a column's text, until `config`, an end or `run` stops it.

    `heard()` is called after each. The engine's own loop draws; a hook on the model
    keeps the logits it drew from.
    """
    fresh: list[Tensor] = []
    model, size = conversation.model, tokenizer.vocab_size  # an embedding may be longer
    hook = model.register_forward_hook(
        lambda _model, _inputs, out: fresh.append(
            out[0, -1, :size].float().cpu().clone()
        )
    )
    if column.generator is None:
        device = model.embed_tokens.weight.device
        column.generator = seeded_generator(config.seed, device)
    try:
        eos = tokenizer.eos_token_ids
        stream = conversation.stream(
            column.all_ids(),
            config,
            eos,
            generator=column.generator,
            vocab_size=size,
        )
        times = [time.perf_counter()]
        ended = ""
        for token in stream:
            column.logits[len(column.ids) :] = [fresh[-1]]
            column.add(token, config)
            times.append(time.perf_counter())
            ended = ", the last one ends the text" if token in eos else ""
            column.note = _note(len(column.ids), times) + ended
            heard()
            if run.stopped:
                column.note += ", stopped"
                break
        ids = torch.tensor([column.all_ids()])
        next_token_logits(model, ids, torch.ones_like(ids), conversation.cache)
        column.logits[len(column.ids) :] = [fresh[-1]]
    finally:
        hook.remove()


def _note(held: int, times: list[float]) -> str:
    """How many tokens the text has, and how fast the new ones came; the first of these
    had to read the prompt."""
    count = len(times) - 1
    text = f"{held} token{'s' * (held > 1)}"
    if count > 1:
        text += f", {(count - 1) / (times[-1] - times[1]):.1f} tokens/s"
    return text


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; of several that spell one character, the last."""
    texts: list[str] = []

    def counted() -> Any:
        for i in ids:
            texts.append("")
            yield i

    for piece in tokenizer.decode_stream(counted()):
        texts[-1] += piece
    return texts
