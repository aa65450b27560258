"""Record, layer by layer, how far the real model is from `transformers` on the same
GGUF file.

    python -m tests.parity.by_layer

Takes about half a minute; needs `transformers` and `accelerate`. The result,
tests/data/parity_by_layer.json, is committed. For each prompt it holds, for each part
of each layer, [largest absolute difference, largest magnitude of the reference]; an
error of one layer is passed on to all later ones. For the first prompt it also holds a
sample of what `transformers` computed there: notebook 04's dashboard
(`llm_course.viz.parity`) compares any model with it, without `transformers`.
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
    (
        "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n -"
        " 1) + fibonacci(n - 2)\n"
    ),
]
# What is recorded, in the order of the computation: label -> module of a layer ("" is
# the layer itself).
IN_LAYER = {
    "input_layernorm": "input_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "self_attn": "self_attn",
    "post_attention_layernorm": "post_attention_layernorm",
    "mlp": "mlp",
    "layer": "",
}
AT_THE_ENDS = {"embedding": "embed_tokens", "norm": "norm", "logits": "lm_head"}
PER_POSITION = 6  # sampled entries of each part at each position


@contextmanager
def outputs_of(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Keep the output of each module in the `with` block, float32, on the CPU."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            outputs[name] = output.detach().float().cpu()

        return hook

    handles = [
        module.register_forward_hook(keep(name)) for name, module in modules.items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def in_layer(number: int, label: str) -> str:
    """The name of a part of a layer in our model: 0, "q_proj" ->
    "layers.0.self_attn.q_proj"."""
    return f"layers.{number}.{IN_LAYER[label]}".rstrip(".")


def parts(body: nn.Module, head: nn.Module) -> dict[str, nn.Module]:
    """The recorded modules by their names in our model; `body` has the layers."""
    layers = range(len(body.layers))
    names = [in_layer(i, label) for i in layers for label in IN_LAYER]
    names = ["embed_tokens", *names, "norm"]
    return {name: body.get_submodule(name) for name in names} | {"lm_head": head}


def our_outputs(model: nn.Module, ids: list[int]) -> dict[str, Tensor]:
    """What every part of a model of ours gives for one prompt: name -> [S, width]."""
    with torch.no_grad(), outputs_of(parts(model, model.lm_head)) as outputs:
        model(torch.tensor([ids]))
    return {name: output[0] for name, output in outputs.items()}


def their_outputs(model: nn.Module, ids: list[int]) -> dict[str, Tensor]:
    """As `our_outputs`, of a model of `transformers`; q and k are put in adjacent
    order."""
    with torch.no_grad(), outputs_of(parts(model.model, model.lm_head)) as outputs:
        model(torch.tensor([ids]), use_cache=False)
    head_dim = model.model.layers[0].self_attn.head_dim
    for name, output in outputs.items():
        if name.endswith(("q_proj", "k_proj")):
            halves = output.unflatten(-1, (-1, 2, head_dim // 2))  # [1, S, H, 2, D/2]
            outputs[name] = halves.transpose(-1, -2).flatten(-3)
    return {name: output[0] for name, output in outputs.items()}


def rounded(value: Tensor, digits: int = 3) -> float:
    return float(f"{value.item():.{digits}g}")


def errors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Any]:
    """The error and magnitude of every part: of each layer by label, and at the
    ends."""
    pairs = {
        name: [rounded((ours[name] - right).abs().max()), rounded(right.abs().max())]
        for name, right in theirs.items()
    }
    layers = range(len(pairs) // len(IN_LAYER))
    return {
        "layers": {
            label: [pairs[in_layer(i, label)] for i in layers] for label in IN_LAYER
        },
        **{label: pairs[name] for label, name in AT_THE_ENDS.items()},
    }


def sample(outputs: dict[str, Tensor]) -> dict[str, Any]:
    """A few entries of every part, and for each position its largest magnitude there.

    The places are [position, channel] pairs, drawn once for each width that occurs.
    """
    generator = torch.Generator().manual_seed(0)
    places, found = {}, {}
    for name, output in outputs.items():
        length, width = output.shape
        if str(width) not in places:
            drawn = torch.randint(width, (length, PER_POSITION), generator=generator)
            places[str(width)] = [
                [s, c] for s, row in enumerate(drawn.tolist()) for c in row
            ]
        found[name] = {
            "scale": [rounded(scale) for scale in output.abs().amax(dim=-1)],
            "values": [rounded(output[s, c], 8) for s, c in places[str(width)]],
        }
    return {"places": places, "parts": found}


def by_part(recorded: dict[str, Any]) -> dict[str, list[list[float]]]:
    """The recorded [difference, magnitude] pairs of all prompts (and layers), by
    part."""
    found: dict[str, list[list[float]]] = {}
    for prompt in recorded["prompts"]:
        for label, pairs in prompt["layers"].items():
            found.setdefault(label, []).extend(pairs)
        for label in AT_THE_ENDS:
            found.setdefault(label, []).append(prompt[label])
    return found


def main() -> None:
    path = ensure_gguf(NAME)
    ours, tokenizer = load_pretrained(NAME, EngineConfig("cpu", "float32"))
    theirs = load_transformers(path)
    prompts, samples = [], []
    for text in PROMPTS:
        ids = tokenizer.encode(text)
        reference = their_outputs(theirs, ids)
        prompts.append(
            {"text": text, "ids": ids} | errors(our_outputs(ours, ids), reference)
        )
        samples.append({"text": text, "ids": ids} | sample(reference))
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
        "sample": samples[0],
    }
    TARGET.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
