"""Reading GGUF files and Hugging Face folders: right values, and one clear error for each bad file."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file, save_file
from torch import Tensor

from llm_course.checkpoints import (
    CheckpointError,
    convert_gguf,
    dequantize,
    load_pretrained,
    load_tensors,
    read_gguf,
    to_adjacent,
    to_half_split,
)
from llm_course.config import EngineConfig

CPU = EngineConfig(device="cpu")
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def logits_of(source: str | Path, **engine) -> Tensor:
    model, _ = load_pretrained(source, EngineConfig(device="cpu", **engine))
    with torch.no_grad():
        return model(IDS)


def transformers_logits(folder: Path) -> Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def tiny_folder(tmp_path):
    """A function that saves a tiny random model by `transformers`; 4 heads share 2 key/value heads."""

    def write(shard_size: str = "1GB", **changes) -> Path:
        config = transformers.LlamaConfig(
            **{
                "vocab_size": 40,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 64,
                "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
                "tie_word_embeddings": False,
            }
            | changes
        )
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
        for parameter in model.parameters():  # large enough that a wrong order shows
            torch.nn.init.normal_(parameter, std=0.3)
        folder = tmp_path / f"folder-{len(list(tmp_path.iterdir()))}"
        model.save_pretrained(folder, max_shard_size=shard_size)
        return folder

    return write


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def edit_tensors(folder: Path, **changes: Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = {k: v.clone() for k, v in load_file(path).items()}
    tensors |= {k.replace("__", "."): v for k, v in changes.items()}
    save_file({k: v for k, v in tensors.items() if v is not None}, path, metadata={"format": "pt"})


# --- the order of q and k rows ---


def test_permutation_on_a_case_small_enough_to_read():
    rows = torch.tensor([[0.0], [1], [2], [3], [10], [11], [12], [13]])  # two heads of 4 channels
    assert to_adjacent(rows, 2).flatten().tolist() == [0, 2, 1, 3, 10, 12, 11, 13]
    weight = torch.randn(24, 5)
    for heads in (1, 2, 3):
        assert to_half_split(to_adjacent(weight, heads), heads).equal(weight)
        assert to_adjacent(weight[:, 0], heads).equal(to_adjacent(weight, heads)[:, 0])  # biases


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("head_dim", [None, 16])
def test_folder_gives_the_logits_of_transformers(tiny_folder, kv_heads, head_dim):
    extra = {"head_dim": head_dim} if head_dim else {}
    folder = tiny_folder(num_key_value_heads=kv_heads, **extra)
    expected = transformers_logits(folder)
    assert (logits_of(folder) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_tensors_keep_their_names_and_only_q_and_k_are_permuted(tiny_folder):
    folder = tiny_folder()
    stored, ours = load_file(folder / "model.safetensors"), load_tensors(folder)
    assert set(ours) == set(stored)
    moved = {name.split(".")[-2] for name in stored if not ours[name].equal(stored[name])}
    assert moved == {"q_proj", "k_proj"}
    name = "model.layers.1.self_attn.k_proj.weight"
    assert ours[name].equal(to_adjacent(stored[name], 2))


# --- tied and untied heads; missing, unexpected, misshapen tensors ---


def test_tied_head_absent_or_duplicated(tiny_folder):
    folder = tiny_folder(tie_word_embeddings=True)
    expected = transformers_logits(folder)
    model, tokenizer = load_pretrained(folder, CPU)
    assert tokenizer is None
    assert model.lm_head.weight is model.embed_tokens.weight
    assert "lm_head.weight" not in load_tensors(folder)
    assert (logits_of(folder) - expected).abs().max() < 1e-5 * expected.abs().max()

    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    edit_tensors(folder, lm_head__weight=embedding.clone())
    assert (logits_of(folder) - expected).abs().max() < 1e-5 * expected.abs().max()
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
    edit_tensors(
        folder,
        model__norm__weight=None,
        model__layers__1__mlp__up_proj__weight=None,
        model__layers__0__self_attn__q_proj__bias=torch.zeros(32),
        model__layers__0__self_attn__v_proj__weight=torch.zeros(32, 16),
        model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(4),  # of old files: harmless
    )
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(folder, CPU)
    message = str(caught.value)
    assert "missing: norm.weight, layers.1.mlp.up_proj.weight;" in message
    assert "unexpected: layers.0.self_attn.q_proj.bias;" in message
    assert "misshapen: layers.0.self_attn.v_proj.weight is [32, 16], not [16, 32])" in message
    assert "inv_freq" not in message


def test_shards(tiny_folder):
    whole, sharded = tiny_folder(), tiny_folder(shard_size="8KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert logits_of(sharded).equal(logits_of(whole))
    next(sharded.glob("*00002-of*")).unlink()
    with pytest.raises(CheckpointError, match="does not hold model-00002-of"):
        load_pretrained(sharded, CPU)
    index = sharded / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    with pytest.raises(CheckpointError, match="no shards beside it"):
        load_pretrained(sharded, CPU)


# --- config.json ---


def test_both_spellings_of_theta(tiny_folder):
    folder = tiny_folder()
    assert load_pretrained(folder, CPU)[0].config.rope_theta == 5000
    before = logits_of(folder)
    edit_config(folder, rope_parameters=..., rope_theta=5000.0, rope_scaling=None)
    assert logits_of(folder).equal(before)
    edit_config(folder, rope_theta=10000.0)
    assert not logits_of(folder).equal(before)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rope_parameters": ...}, "lacks rope_theta"),
        ({"rope_parameters": {"rope_type": "default"}}, "lacks rope_theta"),
        ({"rope_theta": 10000.0}, "two values of rope_theta"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "not supported yet"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "not supported yet"),
        ({"model_type": "mistral"}, "model_type 'mistral'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"num_attention_heads": 5, "head_dim": None}, r"num_heads = 5: must divide hidden_dim"),
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
    for text in (b"{", b"[1]", b"\xff"):
        (folder / "config.json").write_bytes(text)
        with pytest.raises(CheckpointError, match="JSON"):
            load_pretrained(folder)


@pytest.mark.parametrize("name", ["smollm3", "no/such/file.gguf", "no/such/folder"])
def test_what_is_neither_a_name_nor_a_path(name):
    with pytest.raises(CheckpointError, match=rf"Unknown model '{name}'.*smollm2-135m-instruct"):
        load_pretrained(name)


# --- GGUF ---

BLOCK_KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.F32, Kind.F16, Kind.BF16, Kind.Q5_0, Kind.Q6_K]


@pytest.mark.parametrize("kind", BLOCK_KINDS, ids=lambda kind: kind.name)
def test_dequantization_is_bit_exact(kind):
    """Random bytes, not quantized weights: every nibble and every sign of every scale occurs."""
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
    assert np.array_equal(ours.numpy()[finite].view(np.uint32), expected[finite].view(np.uint32))


def test_the_real_file_is_dequantized_bit_exactly(smollm2_gguf):
    tensors = load_tensors("smollm2-135m-instruct")
    stored = {t.name: t for t in gguf.GGUFReader(smollm2_gguf).tensors}
    for theirs, ours in {
        "token_embd.weight": "embed_tokens.weight",
        "blk.7.attn_q.weight": "layers.7.self_attn.q_proj.weight",
        "blk.7.attn_k.weight": "layers.7.self_attn.k_proj.weight",
        "blk.29.ffn_down.weight": "layers.29.mlp.down_proj.weight",
    }.items():
        expected = gguf.quants.dequantize(stored[theirs].data, stored[theirs].tensor_type)
        assert np.array_equal(tensors[f"model.{ours}"].numpy(), expected)  # through the conversion


def test_gguf_config_comes_from_the_metadata(tiny_gguf):
    config = read_gguf(tiny_gguf()).config
    assert (config.vocab_size, config.hidden_dim, config.intermediate_dim) == (40, 32, 48)
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
    assert (direct - expected).abs().max() < 1e-5 * expected.abs().max()


def test_conversion_keeps_the_tokenizer(tiny_gguf, tmp_path):
    path = tiny_gguf(
        tokenizer={
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": ["<|endoftext|>", "<|im_end|>", "a", "b", "ab", "1"],
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
    assert set(load_tensors(path)) == set(load_file(tmp_path / "converted" / "model.safetensors"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rope.freq_base": None}, r"lacks llama\.rope\.freq_base"),
        ({"rope.scaling.type": "yarn"}, "RoPE scaling"),
        ({"rope.scale_linear": 2.0}, "RoPE scaling"),
        ({"rope.dimension_count": 4}, r"rope\.dimension_count = 4"),
        ({"attention.value_length": 16}, r"attention\.value_length = 16"),
        ({"expert_count": 8}, "expert"),
        ({"attention.head_count": 5}, "num_heads = 5: must divide hidden_dim = 32"),
        ({"attention.head_count": 3, "attention.key_length": 8}, "num_kv_heads = 2: must divide"),
        ({"block_count": 3}, r"missing: layers\.2\.input_layernorm"),
        ({"block_count": 1}, r"unexpected: layers\.1\.input_layernorm"),
        ({"feed_forward_length": 64}, r"mlp.gate_proj.weight is \[48, 32\], not \[64, 32\]"),
    ],
)
def test_gguf_metadata_that_cannot_be_right(tiny_gguf, changes, complaint):
    with pytest.raises(CheckpointError, match=complaint):
        read_gguf(tiny_gguf(**changes))


def test_gguf_scaling_of_none_is_no_scaling(tiny_gguf):
    assert read_gguf(tiny_gguf(**{"rope.scaling.type": "none"})).config.rope_scaling is None


def test_gguf_of_another_architecture_or_with_other_tensors(tiny_gguf):
    with pytest.raises(CheckpointError, match="'qwen2'"):
        read_gguf(tiny_gguf(architecture="qwen2"))
    with pytest.raises(CheckpointError, match=r"unexpected: blk\.0\.attn_q\.bias"):
        read_gguf(tiny_gguf({"blk.0.attn_q.bias": np.zeros(32)}))
    with pytest.raises(CheckpointError, match="RoPE scaling"):
        read_gguf(
            tiny_gguf({"rope_freqs.weight": np.ones(4)})
        )  # llama3 scaling, as llama.cpp stores it
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


# --- the loaded model ---


def test_a_loaded_model_is_ready_for_inference(tiny_folder):
    folder = tiny_folder()
    model, _ = load_pretrained(folder, EngineConfig(device="cpu", dtype="bfloat16"))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert not any(p.requires_grad for p in model.parameters())
    exact, rounded = logits_of(folder), logits_of(folder, dtype="bfloat16")
    assert (exact - rounded).abs().max() < 2e-2 * exact.abs().max()


def test_half_precision_files(tiny_folder):
    folder = tiny_folder()
    stored = load_file(folder / "model.safetensors")
    half = {name: tensor.bfloat16() for name, tensor in stored.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    expected = transformers_logits(folder)
    assert (logits_of(folder) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert {t.dtype for t in load_tensors(folder).values()} == {torch.float32}


def test_writing_into_loaded_tensors_leaves_the_file_alone(tiny_folder):
    folder = tiny_folder()
    before = (folder / "model.safetensors").read_bytes()
    load_tensors(folder)["model.norm.weight"].zero_()
    model, _ = load_pretrained(folder, CPU)
    model.norm.weight.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


def test_tensors_need_no_model_code():
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['llm_course.models'] = None\n"  # importing it fails
        "from llm_course.checkpoints import load_tensors\n"
        "tensors = load_tensors('smollm2-135m-instruct')\n"
        "assert len(tensors) == 272\n"
        "assert list(tensors['model.layers.29.self_attn.k_proj.weight'].shape) == [192, 576]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_converted_folder_is_whole(smollm2):
    """The real model: its folder's tokenizer and template are what `transformers` reads, too."""
    from llm_course.checkpoints import converted_folder

    ours = smollm2[1]
    theirs = transformers.AutoTokenizer.from_pretrained(converted_folder("smollm2-135m-instruct"))
    chat = [{"role": "user", "content": "12 + 30 = ?"}]
    assert theirs.apply_chat_template(chat, tokenize=False) == ours.apply_chat_template(
        chat, add_generation_prompt=False
    )
    text = "x = 12345  # naïve\n<|im_end|>"
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert (theirs.eos_token_id, theirs.bos_token_id) == (2, 1)
    assert theirs.model_max_length == 8192
