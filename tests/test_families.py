"""Mistral, Qwen2, Qwen3: folders and GGUF files, both ways, against `transformers`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from hypothesis import assume, given, settings
from hypothesis import strategies as st
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
from tests.parity.configs import model_configs

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Drawn:
    """A family, a shape and a seed of the weights."""

    family: str
    config: ModelConfig
    seed: int

    def build(self) -> PreTrainedModel:
        """The model by `transformers`, with weights so large that all of them count."""
        config = their_config(self.family, self.config)
        torch.manual_seed(self.seed)
        model = getattr(transformers, f"{self.family}ForCausalLM")(config).eval()
        for name, parameter in model.named_parameters():
            drawn = torch.randn_like(parameter)
            if name.endswith("norm.weight"):
                drawn = 1 + 0.3 * drawn
            elif parameter.ndim == 2 and "embed" not in name:
                drawn = drawn / parameter.shape[1] ** 0.5
            parameter.data.copy_(drawn)
        return model


def their_config(family: str, config: ModelConfig) -> transformers.PreTrainedConfig:
    kind = {"rope_type": "default"} | (config.rope_scaling or {})
    window = {"sliding_window": None} if family == "Mistral" else {}
    return getattr(transformers, f"{family}Config")(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_dim,
        intermediate_size=config.intermediate_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=kind | {"rope_theta": config.rope_theta},
        rms_norm_eps=config.rms_norm_eps,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        **window,
    )


@st.composite
def drawn_models(draw: st.DrawFn, *families: str) -> Drawn:
    family = draw(st.sampled_from(families or FAMILIES))
    config = draw(model_configs())
    bias, norm = family == "Qwen2", family == "Qwen3"
    config = replace(config, qkv_bias=bias, qk_norm=norm)
    return Drawn(family, config, draw(st.integers(0, 2**16)))


def write_gguf(
    path: Path, drawn: Drawn, model: PreTrainedModel, kind: Kind = Kind.F32
) -> None:
    """Write a model of `transformers` as converters do: Llama's and Mistral's rows of q
    and k in adjacent order, written out by index; Llama 3's scaling as factors."""
    config, lowered = drawn.config, drawn.family.lower()
    name = "llama" if lowered == "mistral" else lowered
    writer = gguf.GGUFWriter(path, name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_dim)
    writer.add_feed_forward_length(config.intermediate_dim)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling or {"rope_type": None}
    if scaling["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    for full, tensor in model.state_dict().items():
        if full == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if name == "llama" and ".q_proj." in full:
            array = array[adjacent(config.num_heads, config.head_dim)]
        if name == "llama" and ".k_proj." in full:
            array = array[adjacent(config.num_kv_heads, config.head_dim)]
        array = np.ascontiguousarray(array)
        stored = kind if array.ndim == 2 else Kind.F32
        quantized = gguf.quants.quantize(array, stored)
        writer.add_tensor(gguf_name(full), quantized, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(full: str) -> str:
    part, _, role = full.rpartition(".")
    if part.startswith("model.layers."):
        _, _, layer, rest = part.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[rest]}.{role}"
    return f"{GGUF_NAMES[part]}.{role}"


def adjacent(num_heads: int, head_dim: int) -> list[int]:
    """Half-split rows, by index, in adjacent order."""
    half = head_dim // 2
    return [
        h * head_dim + i
        for h in range(num_heads)
        for p in range(half)
        for i in (p, p + half)
    ]


def llama3_factors(config: ModelConfig) -> np.ndarray:
    """A factor for each frequency, by three cases of its wavelength."""
    s = config.rope_scaling
    assert s is not None
    context = s["original_max_position_embeddings"]
    low, high = s["low_freq_factor"], s["high_freq_factor"]
    factors = []
    for i in range(0, config.head_dim, 2):
        turns = context * config.rope_theta ** (-i / config.head_dim) / (2 * np.pi)
        keep = 1.0 if turns > high else 0.0
        if low <= turns <= high:
            keep = (turns - low) / (high - low)
        factors.append(1 / (keep + (1 - keep) / s["factor"]))
    return np.array(factors, np.float32)


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
        ("Llama", {"model_type": ["llama"]}, "model_type \\['llama'\\]: supported are"),
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
