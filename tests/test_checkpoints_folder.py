"""Every spelling a Hugging Face folder may have, and one clear error for all that is
wrong in one."""

from __future__ import annotations

import pickle

import pytest
import torch
import transformers
from safetensors.torch import load_file

from llm_course.checkpoints import load_pretrained, load_tensors
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import (
    CPU,
    assert_close,
    edit_config,
    edit_tensors,
    logits_of,
    transformers_logits,
)

THETA = {"rope_theta": 5000.0}
LLAMA3 = THETA | {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PARTIAL = THETA | {"rope_type": "default", "partial_rotary_factor": 0.5}


def test_tied_head_absent_or_duplicated(tiny_folder):
    folder = tiny_folder(tie_word_embeddings=True)
    expected = transformers_logits(folder)
    model, tokenizer = load_pretrained(folder, CPU)
    assert tokenizer is None
    assert model.lm_head.weight is model.embed_tokens.weight
    assert "lm_head.weight" not in load_tensors(folder)
    assert_close(logits_of(folder), expected)

    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    edit_tensors(folder, lm_head__weight=embedding.clone())
    assert_close(logits_of(folder), expected)
    assert "lm_head.weight" not in load_tensors(folder)
    edit_tensors(folder, lm_head__weight=embedding + 1)
    with pytest.raises(CheckpointError, match="different lm_head"):
        load_pretrained(folder, CPU)


def test_absent_head_is_tied_unless_the_config_forbids_it(tiny_folder):
    folder = tiny_folder()
    edit_tensors(folder, lm_head__weight=None)
    edit_config(folder, tie_word_embeddings=...)  # the key is left out
    model, _ = load_pretrained(folder, CPU)
    assert model.lm_head.weight is model.embed_tokens.weight
    edit_config(folder, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        load_pretrained(folder, CPU)


def test_every_wrong_tensor_is_listed(tiny_folder):
    folder = tiny_folder()
    # of old files: harmless
    edit_tensors(
        folder,
        model__norm__weight=None,
        model__layers__1__mlp__up_proj__weight=None,
        model__layers__0__self_attn__q_proj__bias=torch.zeros(32),
        model__layers__0__self_attn__v_proj__weight=torch.zeros(32, 16),
        model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(4),
    )
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(folder, CPU)
    message = str(caught.value)
    assert "\n- missing: norm.weight, layers.1.mlp.up_proj.weight\n" in message
    assert "\n- unexpected: layers.0.self_attn.q_proj.bias\n" in message
    assert message.endswith(
        "\n- misshapen: layers.0.self_attn.v_proj.weight is [32, 16], not [16, 32]"
    )
    assert "inv_freq" not in message


@pytest.mark.parametrize("family", ["Starcoder2", "Olmo2"])
def test_other_architectures_get_one_error_with_every_reason(tmp_path, family):
    """Saved by `transformers`: what differs from Llama is listed at once, layers
    together."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "vocab_size": 40,
        "num_hidden_layers": 3,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = getattr(transformers, f"{family}Config")(
        **sizes, **heads, hidden_act="gelu", max_position_embeddings=64
    )
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(tmp_path)
    edit_config(tmp_path, rms_norm_eps=1e-5)
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(tmp_path)
    message = str(caught.value)
    reasons = [f"model_type '{family.lower()}'", "hidden_act 'gelu'"]
    if family == "Olmo2":
        reasons += ["unexpected: layers.0-2.post_feedforward_layernorm.weight"]
    else:
        reasons += ["unexpected: layers.0-2.input_layernorm.bias"]
    assert all(f"\n- {reason}" in message for reason in reasons), message
    assert "llama, mistral, qwen2, qwen3" in message


def test_code_and_pickles_in_a_folder_are_never_touched(tiny_folder):
    folder = tiny_folder()
    expected = logits_of(folder)
    touched = folder / "touched"
    code = f"open({str(touched)!r}, 'w').close()"
    (folder / "modeling_evil.py").write_text(code, encoding="utf-8")
    payload = b"cbuiltins\nexec\n(V" + code.encode() + b"\ntR."
    for name in (
        "pytorch_model.bin",
        "model.pt",
        "training_args.bin",
        "adapter_model.bin",
    ):
        (folder / name).write_bytes(payload)
    edit_config(
        folder, auto_map={"AutoModelForCausalLM": "modeling_evil.EvilForCausalLM"}
    )
    assert logits_of(folder).equal(expected)

    weights = folder / "model.safetensors"
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model.pt"}}', encoding="utf-8"
    )
    weights.unlink()
    with pytest.raises(CheckpointError, match="no shards beside it"):
        load_pretrained(folder)
    weights.write_bytes(payload)  # a pickle under the right name
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_pretrained(folder)
    assert not touched.exists()
    pickle.loads(payload)  # the trap is real
    assert touched.exists()


def test_a_tensor_stored_twice_or_not_as_floats(tiny_folder):
    folder = tiny_folder()
    edit_tensors(folder, norm__weight=torch.ones(32))
    with pytest.raises(CheckpointError, match=r"holds norm\.weight twice"):
        load_pretrained(folder)
    edit_tensors(
        folder, norm__weight=None, model__norm__weight=torch.ones(32, dtype=torch.int32)
    )
    with pytest.raises(CheckpointError, match=r"stored as int32: norm\.weight"):
        load_pretrained(folder)


def test_shards(tiny_folder):
    whole, sharded = tiny_folder(), tiny_folder(shard_size="8KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert logits_of(sharded).equal(logits_of(whole))
    next(sharded.glob("*00002-of*")).unlink()
    with pytest.raises(CheckpointError, match="does not hold model-00002-of"):
        load_pretrained(sharded, CPU)
    index = sharded / "model.safetensors.index.json"
    index.write_text(
        '{"weight_map": {"a": "../elsewhere.safetensors"}}', encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="no shards beside it"):
        load_pretrained(sharded, CPU)


def test_both_spellings_of_theta(tiny_folder):
    folder = tiny_folder()
    assert load_pretrained(folder, CPU)[0].config.rope_theta == 5000
    before = logits_of(folder)
    edit_config(folder, rope_parameters=..., rope_theta=5000.0, rope_scaling=None)
    assert logits_of(folder).equal(before)
    edit_config(folder, rope_theta=10000.0)
    assert not logits_of(folder).equal(before)


@pytest.mark.parametrize(
    "scaling", [LLAMA3, THETA | {"rope_type": "linear", "factor": 2.0}]
)
def test_rope_scaling_is_applied(tiny_folder, scaling):
    folder = tiny_folder(rope_parameters=scaling)
    scaled = logits_of(folder)
    assert_close(scaled, transformers_logits(folder))
    plain = {"rope_type": "default", "rope_theta": 5000.0}
    older = {name: value for name, value in scaling.items() if name != "rope_theta"}
    older["type"] = older.pop("rope_type")  # as version 4 of transformers wrote it
    edit_config(folder, rope_parameters=..., rope_theta=5000.0, rope_scaling=older)
    assert logits_of(folder).equal(scaled)
    edit_config(folder, rope_parameters=plain, rope_theta=..., rope_scaling=...)
    assert not logits_of(folder).equal(scaled)


@pytest.mark.parametrize(
    "changes",
    [{"hidden_act": "swish"}, {"rope_scaling": {"rope_type": "default"}}],
    ids=["swish", "default"],
)
def test_another_word_for_the_same_model_is_the_same_model(tiny_folder, changes):
    folder = tiny_folder()
    config, logits = load_pretrained(folder, CPU)[0].config, logits_of(folder)
    edit_config(folder, **changes)
    assert load_pretrained(folder, CPU)[0].config == config
    assert logits_of(folder).equal(logits)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rope_parameters": ...}, "lacks rope_theta"),
        ({"rope_parameters": {"rope_type": "default"}}, "lacks rope_theta"),
        ({"rope_theta": 10000.0}, "two values of rope_theta"),
        (
            {"rope_parameters": LLAMA3 | {"factor": 0}},
            "of kind 'llama3': needs numbers for factor",
        ),
        (
            {"rope_scaling": {"type": "linear"}},
            "of kind 'linear': needs numbers for factor",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0}},
            "kind 'yarn': the known kinds are",
        ),
        ({"rope_scaling": [1]}, r"rope_scaling = \[1\]: must be an object"),
        ({"rope_parameters": PARTIAL}, "partial_rotary_factor = 0.5"),
        ({"partial_rotary_factor": 0.25}, "partial_rotary_factor = 0.25"),
        ({"max_position_embeddings": 10**9}, "table of angles would not fit"),
        (
            {"num_hidden_layers": 10**9},
            "1000000000 layers are announced, but there are 21 tensors",
        ),
        ({"model_type": "mixtral"}, "model_type 'mixtral'"),
        ({"model_type": "mistral"}, "of mistral models only 'MistralForCausalLM'"),
        (
            {"architectures": ["LlamaForTokenClassification"]},
            "architectures .*TokenClass",
        ),
        ({"attention_bias": True}, "attention_bias True"),
        ({"mlp_bias": True}, "mlp_bias True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        (
            {"num_attention_heads": 5, "head_dim": None},
            r"num_heads = 5: must divide hidden_dim",
        ),
        ({"num_key_value_heads": 3}, r"num_kv_heads = 3: must divide num_heads = 4"),
        ({"vocab_size": ..., "rms_norm_eps": ...}, "lacks vocab_size, rms_norm_eps"),
        ({"vocab_size": 41}, r"embed_tokens.weight is \[40, 32\], not \[41, 32\]"),
    ],
)
def test_configs_that_cannot_be_right(tiny_folder, changes, complaint):
    folder = tiny_folder()
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=complaint):
        load_pretrained(folder, CPU)


def test_folders_with_damaged_files(tiny_folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"does not hold config\.json"):
        load_pretrained(tmp_path)
    folder = tiny_folder()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:4], whole[:100], whole[:-1], b"\xff" * 200):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            load_pretrained(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"does not hold model\.safetensors"):
        load_pretrained(folder)
    for text, complaint in {
        b"{": "is not JSON",
        b"[" * 100_000: "is not JSON",
        b"[1]": "no JSON object",
        b"\xff": "cannot be read as text",
    }.items():
        (folder / "config.json").write_bytes(text)
        with pytest.raises(CheckpointError, match=complaint):
            load_pretrained(folder)


@pytest.mark.parametrize("name", ["smollm3", "no-such-folder"])
def test_what_is_neither_a_name_nor_a_path(name):
    with pytest.raises(
        CheckpointError, match=rf"Unknown model '{name}'.*smollm2-135m-instruct"
    ):
        load_pretrained(name)
