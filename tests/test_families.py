"""Mistral, Qwen2, Qwen3: folders and GGUF files, both ways, against `transformers`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from hypothesis import assume, given, settings
from transformers import PreTrainedModel

from llm_course.checkpoints import load_pretrained, read_gguf, save_pretrained
from llm_course.config import GenerationConfig, ModelConfig
from llm_course.engine import generate
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import (
    CPU,
    assert_close,
    edit_config,
    logits_of,
    transformers_logits,
)
from tests.family_tools import FAMILIES, Drawn, adjacent, drawn_models, write_gguf


def their_tokens(model: PreTrainedModel, ids: torch.Tensor, count: int) -> list[int]:
    """Greedy tokens by the reference, computed anew for each; draws again where the two
    best are so close that rounding decides."""
    with torch.no_grad():
        for _ in range(count):
            logits = model(ids, use_cache=False).logits[0, -1]
            best = logits.topk(2)
            assume(best.values[0] - best.values[1] > 1e-4 * logits.abs().max())
            ids = torch.cat([ids, best.indices[:1, None]], dim=1)
    return ids[0].tolist()


def compare(source: Path, model: PreTrainedModel, config: ModelConfig) -> None:
    """Logits and greedy tokens of a file, by both programs."""
    ids = torch.arange(7)[None] * 5 % config.vocab_size
    ours, _ = load_pretrained(source, CPU)
    with torch.no_grad():
        assert_close(ours(ids), model(ids, use_cache=False).logits)
    greedy = GenerationConfig(max_new_tokens=6, do_sample=False)
    new = generate(ours, ids, ours.config, CPU, greedy)
    assert new[0].tolist() == their_tokens(model, ids, 6)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(drawn_models())
def test_folders_of_each_family_equal_transformers_both_ways(drawn: Drawn):
    model = drawn.build()
    with TemporaryDirectory() as name:
        folder, again = Path(name) / "theirs", Path(name) / "ours"
        model.save_pretrained(folder)
        compare(folder, model, drawn.config)
        ours, _ = load_pretrained(folder, CPU)
        assert ours.config == drawn.config
        save_pretrained(ours, None, again)
        back = transformers.AutoModelForCausalLM.from_pretrained(again)
        for key, weight in model.state_dict().items():
            assert back.state_dict()[key].equal(weight), key
        assert_close(logits_in(back), logits_in(model))
        assert load_pretrained(again, CPU)[0].config == drawn.config


def logits_in(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[1, 5, 3, 2]]), use_cache=False).logits


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(drawn_models())
def test_gguf_files_of_each_family_equal_transformers(drawn: Drawn):
    model = drawn.build()
    with TemporaryDirectory() as name:
        path = Path(name) / "model.gguf"
        write_gguf(path, drawn, model)
        compare(path, model, drawn.config)


@pytest.fixture
def family_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a tiny model of a family by `transformers`."""

    def write(family: str, **changes: Any) -> Path:
        config = ModelConfig(40, 32, 48, 2, 4, 2, 16, max_position_embeddings=64)
        folder = tmp_path / family
        Drawn(family, config, 0).build().save_pretrained(folder)
        edit_config(folder, **changes)
        return folder

    return write


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_equals_transformers(family_folder, family):
    folder = family_folder(family)
    assert_close(logits_of(folder), transformers_logits(folder))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.F32, Kind.Q8_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_read_each_family_from_its_file(tmp_path, family, kind):
    """Rows of blocks are permuted as they are, together with biases and norms."""
    bias, norm = family == "Qwen2", family == "Qwen3"
    config = ModelConfig(40, 32, 64, 2, 4, 2, 16, qkv_bias=bias, qk_norm=norm)
    drawn, path = Drawn(family, config, 0), tmp_path / "model.gguf"
    write_gguf(path, drawn, drawn.build(), kind)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kinds that become float32
        native, _ = load_pretrained(path, weights="file")
    with torch.no_grad():
        ours, theirs = native(ids), load_pretrained(path, CPU)[0](ids)
    # int8 kernels round the inputs too
    limit = 1e-5 if kind == Kind.F32 else 3e-2
    assert (ours - theirs).abs().max() < limit * theirs.abs().max()


def test_the_parts_of_each_family(family_folder):
    names = {}
    for family in FAMILIES:
        model, _ = load_pretrained(family_folder(family), CPU)
        layer = {n for n, _ in model.layers[0].self_attn.named_parameters()}
        names[family] = layer - {f"{p}_proj.weight" for p in "qkvo"}
    biases = {f"{p}_proj.bias" for p in "qkv"}
    norms = {"q_norm.weight", "k_norm.weight"}
    assert names == {"Llama": set(), "Mistral": set(), "Qwen2": biases, "Qwen3": norms}


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Mistral", {"sliding_window": 63}),
        ("Mistral", {"sliding_window": ..., "max_position_embeddings": 4097}),
        ("Mistral", {"sliding_window": "all"}),
        ("Llama", {"sliding_window": 8}),
        ("Qwen2", {"sliding_window": 8, "use_sliding_window": True}),
        ("Qwen3", {"sliding_window": 8, "use_sliding_window": True}),
    ],
)
def test_a_window_shorter_than_the_context_is_refused_by_name(
    family_folder, family, changes
):
    with pytest.raises(CheckpointError, match=r"sliding_window .* context"):
        load_pretrained(family_folder(family, **changes))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Mistral", {"sliding_window": 64}),
        ("Mistral", {"sliding_window": ...}),  # 4096 then
        ("Llama", {"sliding_window": 4096}),
        ("Qwen2", {"sliding_window": 8, "use_sliding_window": False}),
        ("Qwen2", {"sliding_window": 8, "use_sliding_window": ...}),
        ("Qwen3", {"sliding_window": 8, "use_sliding_window": False}),
    ],
)
def test_a_window_without_effect_is_none(family_folder, family, changes):
    folder = family_folder(family, **changes)
    assert_close(logits_of(folder), transformers_logits(folder))


def test_a_qwen3_head_has_128_channels_unless_said_otherwise(tmp_path):
    config = ModelConfig(40, 32, 48, 1, 2, 1, 128, qk_norm=True)
    Drawn("Qwen3", config, 0).build().save_pretrained(tmp_path / "qwen3")
    edit_config(tmp_path / "qwen3", head_dim=...)
    assert load_pretrained(tmp_path / "qwen3", CPU)[0].config == config


@pytest.mark.parametrize(
    ("family", "changes", "complaint"),
    [
        ("Qwen3", {"attention_bias": True}, "attention_bias True: not supported"),
        ("Qwen3", {"num_experts": 8}, "num_experts 8: not supported"),
        ("Qwen2", {"model_type": "qwen2_moe"}, "'qwen2_moe'.*llama, mistral, qwen2, q"),
        ("Qwen2", {"architectures": ["Qwen2Model"]}, "only 'Qwen2ForCausalLM'"),
        ("Qwen2", {"model_type": "llama"}, "architectures"),
        ("Qwen2", {"model_type": "llama", "architectures": ...}, "unexpected: .*bias"),
        ("Llama", {"model_type": "qwen3", "architectures": ...}, "missing: .*k_norm"),
        ("Llama", {"logit_scale": 0.5}, "logit_scale 0.5: not supported"),
        ("Llama", {"residual_multiplier": 2}, "residual_multiplier 2: not supported"),
        ("Llama", {"model_type": ["llama"]}, "model_type \\['llama'\\]: supported fam"),
    ],
)
def test_what_no_family_does_is_refused_by_name(
    family_folder, family, changes, complaint
):
    with pytest.raises(CheckpointError, match=complaint):
        load_pretrained(family_folder(family, **changes))


def test_no_family_has_both_biases_and_norms(tmp_path):
    config = ModelConfig(40, 32, 48, 1, 4, qkv_bias=True, qk_norm=True)
    from llm_course.models import DecoderOnlyModel

    with pytest.raises(CheckpointError, match="both qkv_bias and qk_norm"):
        save_pretrained(DecoderOnlyModel(config), None, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_qwen_file_keeps_its_order_of_rows(tmp_path):
    """By index: rows, biases and norms of a GGUF file, half-split there."""
    config = ModelConfig(40, 32, 48, 1, 4, 2, 8, qkv_bias=True)
    model = Drawn("Qwen2", config, 0).build()
    write_gguf(tmp_path / "qwen2.gguf", Drawn("Qwen2", config, 0), model)
    tensors = read_gguf(tmp_path / "qwen2.gguf").tensors
    for part, heads in {"q_proj": 4, "k_proj": 2}.items():
        for role in ("weight", "bias"):
            stored = model.state_dict()[f"model.layers.0.self_attn.{part}.{role}"]
            ours = tensors[f"layers.0.self_attn.{part}.{role}"]
            assert ours.equal(stored[adjacent(heads, 8)])
    for name in ("self_attn.v_proj.bias", "self_attn.o_proj.weight"):
        stored = model.state_dict()[f"model.layers.0.{name}"]
        assert tensors[f"layers.0.{name}"].equal(stored)
