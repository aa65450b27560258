"""Record, layer by layer, how far the real model is from `transformers` on the same GGUF file.

    python -m tests.parity.by_layer

Takes about half a minute; needs `transformers` and `accelerate`. The result,
tests/data/parity_by_layer.json, is committed. For each prompt it holds, for each part of each layer,
[largest absolute difference, largest magnitude of the reference]; an error of one layer is passed on to
all later ones.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from llm_course.checkpoints import PINNED_MODELS, ensure_gguf, load_pretrained
from llm_course.config import EngineConfig
from tests.make_reference import NAME, load_transformers

TARGET = Path(__file__).parent.parent / "data" / "parity_by_layer.json"
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n",
]
# What is recorded, in the order of the computation: label -> module of a layer ("" is the layer itself).
IN_LAYER = {
    "input_layernorm": "input_layernorm",
    "self_attn": "self_attn",
    "post_attention_layernorm": "post_attention_layernorm",
    "mlp": "mlp",
    "layer": "",
}
AT_THE_END = {"norm": "norm", "logits": "lm_head"}


@contextmanager
def outputs_of(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keep the output of each module in the `with` block, float32, on the CPU."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            outputs[name] = output.detach().float().cpu()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def parts(body: nn.Module, head: nn.Module) -> dict[str, nn.Module]:
    """The recorded modules by label, such as "0.self_attn" or "logits"; `body` has the layers."""
    found = {
        f"{i}.{label}": layer.get_submodule(name)
        for i, layer in enumerate(body.layers)
        for label, name in IN_LAYER.items()
    }
    return found | {"norm": body.norm, "logits": head}


def rounded(value: Tensor) -> float:
    return float(f"{value.item():.3g}")


def record(ours: nn.Module, theirs: nn.Module, ids: list[int]) -> dict[str, Any]:
    """Run both on one prompt; return the errors and magnitudes of every part."""
    with torch.no_grad():
        with outputs_of(parts(ours, ours.lm_head)) as mine:
            ours(torch.tensor([ids]))
        with outputs_of(parts(theirs.model, theirs.lm_head)) as reference:
            theirs(torch.tensor([ids]), use_cache=False)
    pairs = {
        label: [rounded((mine[label] - right).abs().max()), rounded(right.abs().max())]
        for label, right in reference.items()
    }
    layers = range(len(ours.layers))
    return {
        "layers": {label: [pairs[f"{i}.{label}"] for i in layers] for label in IN_LAYER},
        **{label: pairs[label] for label in AT_THE_END},
    }


def by_part(recorded: dict[str, Any]) -> dict[str, list[list[float]]]:
    """The recorded [difference, magnitude] pairs of all prompts (and layers), by part."""
    found: dict[str, list[list[float]]] = {}
    for prompt in recorded["prompts"]:
        for label, pairs in prompt["layers"].items():
            found.setdefault(label, []).extend(pairs)
        for label in AT_THE_END:
            found.setdefault(label, []).append(prompt[label])
    return found


def main() -> None:
    path = ensure_gguf(NAME)
    ours, tokenizer = load_pretrained(NAME, EngineConfig("cpu", "float32"))
    theirs = load_transformers(path)
    prompts = []
    for text in PROMPTS:
        ids = tokenizer.encode(text)
        prompts.append({"text": text, "ids": ids} | record(ours, theirs, ids))
    values = {
        "file": path.name,
        "sha256": PINNED_MODELS[NAME].sha256,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "values": "[largest absolute difference, largest magnitude of the reference]",
        "prompts": prompts,
    }
    TARGET.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
