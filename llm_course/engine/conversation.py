# Exported from notebooks/06_kv_cache.ipynb; edit there, then run its last cell.
"""A key/value cache that outlives one reply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from llm_course.arguments import checked
from llm_course.config import GenerationConfig
from llm_course.engine.generation import generate_stream, token_ids
from llm_course.engine.inference import make_cache
from llm_course.models.transformer import DecoderOnlyModel

__all__ = ["shared_prefix", "Conversation"]


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences have in common, from the start."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


class Conversation:
    """A cache that outlives a reply: the next turn prefills only the ids that are new.

    Give it the whole conversation each time. The beginning that is the same as last
    time is not computed again.
    """

    @checked
    def __init__(self, model: DecoderOnlyModel) -> None:
        self.model = model
        self.cache = make_cache(model)
        self.reused = 0  # ids of the latest prompt that were in the cache
        self._held: list[int] = []  # the ids whose keys and values the cache holds

    @checked
    def stream(
        self,
        input_ids: Sequence[int],
        gen_config: GenerationConfig | None = None,
        eos_token_id: int | Sequence[int] | None = None,
        *,
        generator: torch.Generator | None = None,
        vocab_size: int | None = None,
    ) -> Iterator[int]:
        """Yield the new ids of the one row `input_ids`. Leaving the loop early is fine.

        Raises ValueError when another stream of this conversation has begun since, and
        whatever `generate` raises. For `vocab_size` see `generate`.
        """
        row = token_ids("input_ids", input_ids, self.model.config.vocab_size)[None]
        ids, held = row[0].tolist(), self._held[: self.cache.length]
        # The last id is always fed: its logits choose the first new token.
        reused = min(shared_prefix(held, ids), max(len(ids) - 1, 0))
        self.cache.truncate(reused)
        self.reused, self._held = reused, ids
        steps = generate_stream(
            self.model,
            row,
            gen_config,
            eos_token_id,
            generator=generator,
            kv_cache=self.cache,
            vocab_size=vocab_size,
        )
        for token in steps:
            ids.append(int(token.item()))
            yield ids[-1]
            if self._held is not ids:
                raise ValueError(
                    "another stream of this conversation has begun: this one cannot go"
                    " on; make a Conversation for each"
                )
