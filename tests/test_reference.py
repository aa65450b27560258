"""The loaded SmolLM2 against what `transformers` computes from the same GGUF file.

The recorded values were written by make_reference.py. On the machine that wrote them
the largest error was 2.6e-5 over the samples of six prompts and 4.2e-5 over all logits
of one; the ceiling leaves room for other processors, whose sums round differently.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from llm_course.checkpoints import PINNED_MODELS

pytestmark = pytest.mark.slow

CEILING = 1e-3  # absolute, on logits of up to 41
REFERENCE = json.loads(
    (Path(__file__).parent / "data" / "smollm2_reference.json").read_text("utf-8")
)
PROMPTS = REFERENCE["prompts"]


def logits_of(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].cpu()


def test_the_record_is_of_the_pinned_file():
    assert REFERENCE["sha256"] == PINNED_MODELS["smollm2-135m-instruct"].sha256
    assert REFERENCE["file"] == PINNED_MODELS["smollm2-135m-instruct"].file_name
    assert len(PROMPTS) >= 6
    assert all(len(prompt["samples"]) == 64 for prompt in PROMPTS)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt["text"][:12])
def test_logits_equal_the_recorded(smollm2, prompt):
    model, tokenizer = smollm2
    assert tokenizer.encode(prompt["text"]) == prompt["ids"]
    logits = logits_of(model, prompt["ids"])
    positions, ids, values = zip(*prompt["samples"], strict=True)
    error = (
        (logits[list(positions), list(ids)] - torch.tensor(values)).abs().max().item()
    )
    assert error < CEILING, f"largest error {error:.1e}"
    assert abs(logits.abs().max().item() - prompt["max_abs_logit"]) < CEILING
    assert logits[-1].topk(10).indices.tolist() == prompt["top_10"]


@pytest.mark.parametrize(
    "prompt", [p for p in PROMPTS if p["greedy"]], ids=lambda p: p["text"][:12]
)
def test_greedy_text_equals_the_recorded(smollm2, prompt):
    ids = list(prompt["ids"])
    for _ in prompt["greedy"]:
        ids.append(logits_of(smollm2[0], ids)[-1].argmax().item())
    assert ids[len(prompt["ids"]) :] == prompt["greedy"]


def test_one_prompt_recomputed_by_transformers(smollm2, smollm2_gguf):
    """All logits of one prompt, live: `transformers` dequantizes and permutes the file
    by itself."""
    from tests.make_reference import load_transformers
    from tests.make_reference import logits_of as their_logits_of

    prompt = PROMPTS[3]
    expected = their_logits_of(load_transformers(smollm2_gguf), prompt["ids"])
    error = (logits_of(smollm2[0], prompt["ids"]) - expected).abs().max().item()
    assert error < CEILING, f"largest error {error:.1e}"
    positions, ids, values = zip(*prompt["samples"], strict=True)
    drift = (
        (expected[list(positions), list(ids)] - torch.tensor(values)).abs().max().item()
    )
    assert drift < CEILING  # else the record is stale: run make_reference.py


def test_a_wrong_row_order_would_be_noticed(smollm2):
    """The reference is sharp enough: unpermuted q and k move the logits far beyond the
    ceiling."""
    import copy

    from llm_course.checkpoints import to_half_split

    model = copy.deepcopy(smollm2[0])
    for layer in model.layers:
        for projection, heads in (
            (layer.self_attn.q_proj, model.config.num_heads),
            (layer.self_attn.k_proj, model.config.num_kv_heads),
        ):
            projection.weight.data = to_half_split(projection.weight.data, heads)
    prompt = PROMPTS[1]
    positions, ids, values = zip(*prompt["samples"], strict=True)
    logits = logits_of(model, prompt["ids"])
    assert (logits[list(positions), list(ids)] - torch.tensor(values)).abs().max() > 1
