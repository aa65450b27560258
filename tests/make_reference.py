"""Record what `transformers` computes for the pinned model, for tests/test_reference.py
to compare with.

    python tests/make_reference.py

It lets `transformers` read the GGUF file itself, by its own dequantization and its own
permutation of q and k, so the numbers share no code with this course. Takes about a
minute; needs `transformers` and `accelerate`. The result,
tests/data/smollm2_reference.json, is committed.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch
import transformers

from llm_course.checkpoints import PINNED_MODELS, ensure_gguf, read_gguf
from llm_course.text import Tokenizer

NAME = "smollm2-135m-instruct"
TARGET = Path(__file__).parent / "data" / "smollm2_reference.json"
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little fox who",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "12 + 30 = 42, and 7 x 8 =",
    "Grüße aus München! 今日は。",
    (
        "<|im_start|>user\nWhat is the capital of"
        " Japan?<|im_end|>\n<|im_start|>assistant\n"
    ),
]
GREEDY = {0: 12, 5: 12}  # prompt index -> new tokens
SAMPLES = 64
MIN_GAP = (
    5e-3  # neighbours in a ranking must differ by more than rounding can move them
)


def load_transformers(path: Path) -> transformers.LlamaForCausalLM:
    """Load a GGUF file through `transformers` alone, in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    return model.eval()


def logits_of(model: transformers.LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    """Return logits [S, vocab] of one prompt."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def sample_places(length: int, vocab_size: int) -> list[tuple[int, int]]:
    """Return fixed (position, id) pairs, spread over positions and vocabulary."""
    return [(j * 7 % length, (j * 7919 + 13) % vocab_size) for j in range(SAMPLES)]


def ranked(logits: torch.Tensor, count: int) -> list[int]:
    """Return the ids of the largest logits [vocab]; refuse a ranking that rounding
    could change."""
    values, ids = logits.topk(count + 1)
    gap = (values[:-1] - values[1:]).min().item()
    if gap < MIN_GAP:
        raise SystemExit(f"near tie of {gap:.1e} in a ranking: choose another prompt")
    return ids[:count].tolist()


def greedy(
    model: transformers.LlamaForCausalLM, ids: list[int], count: int
) -> list[int]:
    """Return `count` new tokens by argmax, recomputing the whole sequence each time."""
    new: list[int] = []
    for _ in range(count):
        new += ranked(logits_of(model, ids + new)[-1], 1)
    return new


def main() -> None:
    path = ensure_gguf(NAME)
    tokenizer: Tokenizer = read_gguf(path).tokenizer
    model = load_transformers(path)
    prompts = []
    for i, text in enumerate(PROMPTS):
        ids = tokenizer.encode(text)
        logits = logits_of(model, ids)
        places = sample_places(len(ids), logits.shape[1])
        prompts.append(
            {
                "text": text,
                "ids": ids,
                "top_10": ranked(logits[-1], 10),
                "samples": [[p, t, round(logits[p, t].item(), 6)] for p, t in places],
                "max_abs_logit": round(logits.abs().max().item(), 6),
                "greedy": greedy(model, ids, GREEDY[i]) if i in GREEDY else [],
            }
        )
    record = {
        "file": path.name,
        "sha256": PINNED_MODELS[NAME].sha256,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "prompts": prompts,
    }
    TARGET.write_text(
        json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
