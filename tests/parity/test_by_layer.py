"""The recorded sample is what `transformers` gives, and our model agrees with it in
every part."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers

from llm_course.checkpoints import converted_folder, to_half_split
from llm_course.models.rope import RotaryEmbedding
from llm_course.viz import parity
from llm_course.viz.probe import record
from tests.parity import by_layer
from tests.parity.harness import TOLERANCES

SAMPLE = json.loads(by_layer.TARGET.read_text("utf-8"))["sample"]


def part_errors(model: torch.nn.Module) -> dict[str, float]:
    """The error of every part, as notebook 04 takes it."""
    with torch.no_grad(), record(model, *SAMPLE["parts"]) as seen:
        model(torch.tensor([SAMPLE["ids"]]))
    return parity.errors(SAMPLE, {name: part.output[0] for name, part in seen.items()})


def test_the_sample_has_every_part_and_position(smollm2) -> None:
    model, tokenizer = smollm2
    assert (
        tokenizer.encode(SAMPLE["text"]) == SAMPLE["ids"] == [504, 3575, 282, 4649, 314]
    )
    assert list(SAMPLE["parts"]) == list(by_layer.parts(model, model.lm_head))
    assert len(SAMPLE["parts"]) == 30 * len(by_layer.IN_LAYER) + 3
    widths = {576, 192, 49152}  # hidden and q, k and v, the vocabulary
    assert {int(width) for width in SAMPLE["places"]} == widths
    for width, places in SAMPLE["places"].items():
        assert [s for s, _ in places] == sorted(list(range(5)) * by_layer.PER_POSITION)
        assert all(0 <= channel < int(width) for _, channel in places)
    assert by_layer.TARGET.stat().st_size < 300_000


def test_the_sample_is_what_transformers_gives_now(smollm2) -> None:
    """Else the record is stale: run `python -m tests.parity.by_layer`.

    The record was made from the GGUF file by `transformers` alone. Here it reads our
    conversion.
    """
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        converted_folder(by_layer.NAME), dtype=torch.float32
    ).eval()
    now = by_layer.sample(by_layer.their_outputs(theirs, SAMPLE["ids"]))
    assert now["places"] == SAMPLE["places"]
    for name, part in SAMPLE["parts"].items():
        assert now["parts"][name]["scale"] == pytest.approx(part["scale"], rel=1e-2), (
            name
        )
        off = torch.tensor(now["parts"][name]["values"]) - torch.tensor(part["values"])
        assert off.abs().max() < TOLERANCES["float32"] * max(part["scale"]), name


def test_our_model_agrees_in_every_part(smollm2) -> None:
    found = part_errors(smollm2[0])
    assert max(found.values()) < TOLERANCES["float32"] == parity.THRESHOLD
    assert parity.first_off(found) is None


def unpermuted(model: torch.nn.Module) -> None:
    for layer in model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            heads = len(projection.weight) // model.config.head_dim
            projection.weight.data = to_half_split(projection.weight.data, heads)


def half_split_rotation(model: torch.nn.Module) -> None:
    class Wrong(RotaryEmbedding):
        def forward(self, q, k, position_ids):
            out = super().forward(*map(self.paired, (q, k)), position_ids)
            return tuple(
                x.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2) for x in out
            )

        def paired(self, x):
            return x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)

    c = model.config
    wrong = Wrong(c.head_dim, c.max_position_embeddings, c.rope_theta)
    for layer in model.layers:
        layer.self_attn.rotary = wrong


def no_norm_in_the_last_layer(model: torch.nn.Module) -> None:
    model.layers[29].input_layernorm.weight.data.fill_(1.0)


def gate_and_up_exchanged(model: torch.nn.Module) -> None:
    mlp = model.layers[7].mlp
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj


def head_of_another_token(model: torch.nn.Module) -> None:
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.roll(1, dims=0))


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (unpermuted, "layers.0.self_attn.q_proj"),
        (half_split_rotation, "layers.0.self_attn"),
        (no_norm_in_the_last_layer, "layers.29.input_layernorm"),
        (gate_and_up_exchanged, "layers.7.mlp"),
        (head_of_another_token, "lm_head"),
    ],
)
def test_the_first_part_that_is_off_names_the_place(smollm2, spoil, place) -> None:
    model = copy.deepcopy(smollm2[0])
    spoil(model)
    assert parity.first_off(part_errors(model)) == place
