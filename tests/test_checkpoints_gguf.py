"""Reading GGUF files: bit-exact weights, the config from the metadata, one error for
each bad file."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

from llm_course.checkpoints import (
    convert_gguf,
    dequantize,
    load_pretrained,
    load_tensors,
    read_gguf,
)
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import CPU, assert_close, logits_of, transformers_logits

BLOCK_KINDS = [
    Kind.Q4_0,
    Kind.Q4_1,
    Kind.Q8_0,
    Kind.F32,
    Kind.F16,
    Kind.BF16,
    Kind.Q5_0,
    Kind.Q6_K,
]


@pytest.mark.parametrize("kind", BLOCK_KINDS, ids=lambda kind: kind.name)
def test_dequantization_is_bit_exact(kind):
    """Random bytes, not quantized weights: every nibble and every sign of every scale
    occurs."""
    rng = np.random.default_rng(0)
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (64, 16 * size), dtype=np.uint8)
    if kind in (Kind.F32, Kind.F16):
        raw = raw.view(np.float32 if kind == Kind.F32 else np.float16)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, kind).reshape(-1).astype(np.float32)
        ours = dequantize(raw, kind)
    assert ours.dtype == torch.float32
    assert ours.shape == (64 * 16 * per_block,)
    finite = np.isfinite(expected)
    assert finite.mean() > 0.8
    assert np.array_equal(np.isfinite(ours.numpy()), finite)
    assert np.array_equal(
        ours.numpy()[finite].view(np.uint32), expected[finite].view(np.uint32)
    )


@pytest.mark.slow
def test_the_real_file_is_dequantized_bit_exactly(smollm2_gguf):
    tensors = load_tensors("smollm2-135m-instruct")
    stored = {t.name: t for t in gguf.GGUFReader(smollm2_gguf).tensors}
    for theirs, ours in {
        "token_embd.weight": "embed_tokens.weight",
        "blk.7.attn_q.weight": "layers.7.self_attn.q_proj.weight",
        "blk.7.attn_k.weight": "layers.7.self_attn.k_proj.weight",
        "blk.29.ffn_down.weight": "layers.29.mlp.down_proj.weight",
    }.items():
        expected = gguf.quants.dequantize(
            stored[theirs].data, stored[theirs].tensor_type
        )
        # through the conversion
        assert np.array_equal(tensors[f"model.{ours}"].numpy(), expected)


def test_gguf_config_comes_from_the_metadata(tiny_gguf):
    config = read_gguf(tiny_gguf()).config
    assert (config.vocab_size, config.hidden_dim, config.intermediate_dim) == (
        40,
        32,
        48,
    )
    assert (config.num_layers, config.num_heads, config.num_kv_heads) == (2, 4, 2)
    assert (config.head_dim, config.max_position_embeddings) == (8, 64)
    assert (config.rope_theta, config.rms_norm_eps) == (50000.0, 1e-6)
    assert config.tie_word_embeddings


def test_gguf_converts_to_a_folder_with_the_same_logits(tiny_gguf, tmp_path):
    """Directly, through our folder, and through `transformers` reading that folder."""
    path = tiny_gguf()
    folder = tmp_path / "converted"
    convert_gguf(path, folder)
    direct = logits_of(path)
    assert logits_of(folder).equal(direct)
    expected = transformers_logits(folder)
    assert_close(direct, expected)


def test_conversion_keeps_the_tokenizer(tiny_gguf, tmp_path):
    path = tiny_gguf(
        tokenizer={
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": [
                "<|endoftext|>",
                "<|im_end|>",
                "a",
                "b",
                "ab",
                "1",
            ],
            "tokenizer.ggml.token_type": [3, 3, 1, 1, 1, 1],
            "tokenizer.ggml.merges": ["a b"],
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 1,
            "tokenizer.ggml.padding_token_id": 0,
            "tokenizer.chat_template": "{{ messages[0].content }}{{ eos_token }}",
        }
    )
    convert_gguf(path, tmp_path / "converted")
    for source in (path, tmp_path / "converted"):
        tokenizer = load_pretrained(source, CPU)[1]
        assert (tokenizer.bos_token_id, tokenizer.pad_token_id) == (0, 0)
        assert tokenizer.eos_token_ids == (1, 0)
        assert tokenizer.encode("ab11<|im_end|>ba") == [4, 5, 5, 1, 3, 2]
        assert tokenizer.encode_chat([{"role": "user", "content": "ba"}]) == [3, 2, 1]


def test_gguf_with_its_own_head(tiny_gguf, tmp_path):
    path = tiny_gguf({"output.weight": np.full((40, 32), 0.5)})
    model, tokenizer = load_pretrained(path, CPU)
    assert tokenizer is None
    assert not model.config.tie_word_embeddings
    assert model.lm_head.weight.eq(0.5).all()
    convert_gguf(path, tmp_path / "converted")
    assert logits_of(tmp_path / "converted").equal(logits_of(path))
    assert set(load_tensors(path)) == set(
        load_file(tmp_path / "converted" / "model.safetensors")
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rope.freq_base": None}, r"lacks llama\.rope\.freq_base"),
        ({"rope.scaling.type": "yarn"}, "RoPE scaling"),
        ({"rope.scaling.type": "linear"}, "linear needs positive numbers for factor"),
        ({"rope.scale_linear": -2.0}, "linear needs positive numbers for factor"),
        ({"rope.dimension_count": 4}, r"rope\.dimension_count = 4"),
        ({"attention.value_length": 16}, r"attention\.value_length = 16"),
        ({"expert_count": 8}, "expert"),
        ({"block_count": [2, 2]}, r"llama\.block_count is an array"),
        ({"rope.scaling.type": ["none", "none"]}, "rope.scaling.type is an array"),
        ({"attention.head_count": 5}, "num_heads = 5: must divide hidden_dim = 32"),
        (
            {"attention.head_count": 3, "attention.key_length": 8},
            "num_kv_heads = 2: must divide",
        ),
        ({"block_count": 3}, r"missing: layers\.2\.input_layernorm"),
        ({"block_count": 1}, r"unexpected: layers\.1\.input_layernorm"),
        (
            {"feed_forward_length": 64},
            r"mlp.gate_proj.weight is \[48, 32\], not \[64, 32\]",
        ),
    ],
)
def test_gguf_metadata_that_cannot_be_right(tiny_gguf, changes, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        read_gguf(tiny_gguf(**changes))


def test_gguf_scaling_of_none_is_no_scaling(tiny_gguf):
    assert (
        read_gguf(tiny_gguf(**{"rope.scaling.type": "none"})).config.rope_scaling
        is None
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"rope.scaling.type": "linear", "rope.scaling.factor": 2.5},
        {"rope.scale_linear": 2.5},
    ],
    ids=["new", "old"],
)
def test_gguf_with_linear_scaling(tiny_gguf, tmp_path, keys):
    path = tiny_gguf(**keys)
    assert read_gguf(path).config.rope_scaling == {"rope_type": "linear", "factor": 2.5}
    convert_gguf(path, tmp_path / "converted")
    direct = logits_of(path)
    assert not direct.equal(logits_of(tiny_gguf()))
    assert_close(direct, transformers_logits(tmp_path / "converted"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.sliding_window", 63),
        ("logit_scale", 0.25),
        ("attention.scale", 0.5),
        ("embedding_scale", 12.0),
        ("residual_scale", 0.22),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("attention.clamp_kqv", 8.0),
        ("attention.max_alibi_bias", 8.0),
        ("rope.scaling.attn_factor", 1.2),
        ("pooling_type", 3),
        ("expert_count", 8),
        ("what.nobody.knows", 1),
        ("what.nobody.knows", "yes"),
    ],
)
def test_gguf_keys_that_ask_for_more_are_refused_by_name(tiny_gguf, key, value):
    with pytest.raises(CheckpointError, match=rf"llama\.{key}.*not supported"):
        read_gguf(tiny_gguf(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.sliding_window", 64),
        ("attention.sliding_window", 0),
        ("logit_scale", 1.0),
        ("logit_scale", 0.0),
        ("expert_count", 0),
        ("expert_used_count", 2),
        ("vocab_size", 32000),
        ("tensor_data_layout", "Meta AI original pth"),
        ("rope.scaling.factor", 1.0),
    ],
)
def test_gguf_keys_without_effect_have_none(tiny_gguf, key, value):
    assert logits_of(tiny_gguf(**{key: value})).equal(logits_of(tiny_gguf()))


@pytest.mark.parametrize(
    "kind",
    [Kind.I8, Kind.I16, Kind.I32, 61],
    ids=lambda kind: str(int(kind)),
)
def test_kinds_that_cannot_be_read_say_which_can_and_what_to_do(tiny_gguf, kind):
    path = tiny_gguf()
    bytes_ = path.read_bytes()
    at = bytes_.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8
    path.write_bytes(bytes_[:at] + int(kind).to_bytes(4, "little") + bytes_[at + 4 :])
    with pytest.raises(CheckpointError) as caught:
        read_gguf(path)
    name = kind.name if isinstance(kind, Kind) else "61"
    for part in (f"kind {name},", "F32, F16, Q4_0", "Q8_0", "llama-quantize"):
        assert part in str(caught.value)


def test_one_of_several_files_says_so(tiny_gguf):
    path = tiny_gguf({"token_embd.weight": None}, tokenizer={"split.count": 3})
    with pytest.raises(CheckpointError, match="one of 3 files: join them"):
        read_gguf(path)


def test_a_factor_without_a_kind_is_linear(tiny_gguf):
    config = read_gguf(tiny_gguf(**{"rope.scaling.factor": 4.0})).config
    assert config.rope_scaling == {"rope_type": "linear", "factor": 4.0}


def test_gguf_of_another_architecture_or_with_other_tensors(tiny_gguf):
    with pytest.raises(
        CheckpointError, match=r"'gemma3': supported families .* qwen2, qwen3"
    ):
        read_gguf(tiny_gguf(architecture="gemma3"))
    with pytest.raises(CheckpointError, match=r"unexpected: layers\.0\.self_attn\.q_p"):
        read_gguf(tiny_gguf({"blk.0.attn_q.bias": np.zeros(32)}))
    with pytest.raises(CheckpointError, match=r"missing: norm\.weight"):
        read_gguf(tiny_gguf({"output_norm.weight": None}))


def test_gguf_cut_anywhere_is_a_clear_error(tiny_gguf):
    path = tiny_gguf()
    whole = path.read_bytes()
    for length in (0, 3, 4, 20, 100, 300, 700, 1200, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a whole GGUF file"):
            load_pretrained(path)
    path.write_bytes(b"\x00" * 1000)
    with pytest.raises(CheckpointError, match="not a whole GGUF file"):
        load_pretrained(path)
