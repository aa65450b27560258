"""Reading Hugging Face folders: the right values, in the right order, ready for
inference."""

from __future__ import annotations

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from llm_course.checkpoints import (
    load_pretrained,
    load_tensors,
    to_adjacent,
    to_half_split,
)
from llm_course.config import EngineConfig
from tests.checkpoint_tools import CPU, assert_close, logits_of, transformers_logits


def test_permutation_on_a_case_small_enough_to_read():
    # two heads of 4 channels
    rows = torch.tensor([[0.0], [1], [2], [3], [10], [11], [12], [13]])
    assert to_adjacent(rows, 2).flatten().tolist() == [0, 2, 1, 3, 10, 12, 11, 13]
    weight = torch.randn(24, 5)
    for heads in (1, 2, 3):
        assert to_half_split(to_adjacent(weight, heads), heads).equal(weight)
        # biases
        assert to_adjacent(weight[:, 0], heads).equal(to_adjacent(weight, heads)[:, 0])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("head_dim", [None, 16])
def test_folder_gives_the_logits_of_transformers(tiny_folder, kv_heads, head_dim):
    extra = {"head_dim": head_dim} if head_dim else {}
    folder = tiny_folder(num_key_value_heads=kv_heads, **extra)
    expected = transformers_logits(folder)
    assert_close(logits_of(folder), expected)


def test_tensors_keep_their_names_and_only_q_and_k_are_permuted(tiny_folder):
    folder = tiny_folder()
    stored, ours = load_file(folder / "model.safetensors"), load_tensors(folder)
    assert set(ours) == set(stored)
    moved = {
        name.split(".")[-2] for name in stored if not ours[name].equal(stored[name])
    }
    assert moved == {"q_proj", "k_proj"}
    name = "model.layers.1.self_attn.k_proj.weight"
    assert ours[name].equal(to_adjacent(stored[name], 2))


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
    assert_close(logits_of(folder), expected)
    assert {t.dtype for t in load_tensors(folder).values()} == {torch.float32}


def test_writing_into_loaded_tensors_leaves_the_file_alone(tiny_folder):
    folder = tiny_folder()
    before = (folder / "model.safetensors").read_bytes()
    load_tensors(folder)["model.norm.weight"].zero_()
    model, _ = load_pretrained(folder, CPU)
    model.norm.weight.zero_()
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_tensors_need_no_model_code():
    import subprocess
    import sys

    program = (
        "import sys; sys.modules['llm_course.models'] = None\n"  # importing it fails
        "from llm_course.checkpoints import load_tensors\n"
        "tensors = load_tensors('smollm2-135m-instruct')\n"
        "assert len(tensors) == 272\n"
        "assert list(tensors['model.layers.29.self_attn.k_proj.weight'].shape) == [192,"
        " 576]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_converted_folder_is_whole(smollm2):
    """The real model: its folder's tokenizer and template are what `transformers`
    reads, too."""
    from llm_course.checkpoints import converted_folder

    ours = smollm2[1]
    theirs = transformers.AutoTokenizer.from_pretrained(
        converted_folder("smollm2-135m-instruct")
    )
    chat = [{"role": "user", "content": "12 + 30 = ?"}]
    assert theirs.apply_chat_template(chat, tokenize=False) == ours.apply_chat_template(
        chat, add_generation_prompt=False
    )
    text = "x = 12345  # naïve\n<|im_end|>"
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert (theirs.eos_token_id, theirs.bos_token_id) == (2, 1)
    assert theirs.model_max_length == 8192
