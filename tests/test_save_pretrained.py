"""Saving: a folder that `transformers` reads with the same logits, whole or not at
all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from llm_course.checkpoints import cache, load_pretrained, saving
from llm_course.checkpoints.saving import save_pretrained
from llm_course.config import EngineConfig, ModelConfig
from llm_course.engine import FusedModel, prepare_for_inference
from llm_course.errors import CheckpointError
from llm_course.models import build_decoder_only_model
from llm_course.text import Tokenizer
from tests.checkpoint_tools import (
    CPU,
    IDS,
    assert_close,
    logits_of,
    transformers_logits,
)


def tiny_model(seed: int = 0, dtype: str = "float32", **changes) -> torch.nn.Module:
    shape = {
        "vocab_size": 40,
        "hidden_dim": 32,
        "intermediate_dim": 48,
        "num_layers": 2,
    }
    heads = {"num_heads": 4, "num_kv_heads": 2, "max_position_embeddings": 64}
    torch.manual_seed(seed)
    config = ModelConfig(**(shape | heads | {"rope_theta": 5000.0} | changes))
    model = build_decoder_only_model(config, EngineConfig("cpu", dtype))
    for parameter in model.parameters():  # large enough that a wrong order shows
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_tokenizer() -> Tokenizer:
    values = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": ["<|endoftext|>", "<|im_end|>", "a", "b", "ab"],
        "token_type": [3, 3, 1, 1, 1],
        "merges": ["a b"],
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    metadata = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    metadata["tokenizer.chat_template"] = "{{ messages[0].content }}{{ eos_token }}"
    return Tokenizer.from_gguf_metadata(metadata)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_gives_the_same_logits(tmp_path, kv_heads, tied):
    model = tiny_model(num_kv_heads=kv_heads, tie_word_embeddings=tied, head_dim=16)
    save_pretrained(model, None, tmp_path / "saved")
    assert files_in(tmp_path / "saved") == ["config.json", "model.safetensors"]
    assert files_in(tmp_path) == ["saved"]  # the work folder is gone
    with torch.no_grad():
        assert_close(model(IDS), transformers_logits(tmp_path / "saved"))


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize("scaling", [LLAMA3, {"rope_type": "linear", "factor": 2.0}])
def test_scaled_rope_goes_along(tmp_path, scaling):
    model = tiny_model(rope_scaling=scaling)
    save_pretrained(model, None, tmp_path)
    assert load_pretrained(tmp_path, CPU)[0].config == model.config
    with torch.no_grad():
        assert_close(model(IDS), transformers_logits(tmp_path))
        assert not model(IDS).equal(tiny_model()(IDS))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_come_back_bit_by_bit(tmp_path, dtype):
    model = tiny_model(dtype=dtype, rms_norm_eps=1e-6, rope_theta=123456.0)
    save_pretrained(model, None, tmp_path / "saved")
    back, tokenizer = load_pretrained(tmp_path / "saved", EngineConfig("cpu", dtype))
    assert tokenizer is None
    assert back.config == model.config
    before, after = model.state_dict(), back.state_dict()
    assert before.keys() == after.keys()
    assert all(after[name].equal(before[name]) for name in before)
    assert {tensor.dtype for tensor in after.values()} == {getattr(torch, dtype)}
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {getattr(torch, dtype)}


def test_a_folder_of_transformers_comes_back_bit_by_bit(tiny_folder, tmp_path):
    folder = tiny_folder(tie_word_embeddings=True)
    save_pretrained(*load_pretrained(folder, CPU), tmp_path / "saved")
    theirs = load_file(folder / "model.safetensors")
    ours = load_file(tmp_path / "saved" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_the_tokenizer_goes_along(tmp_path):
    tokenizer = tiny_tokenizer()
    save_pretrained(tiny_model(), tokenizer, tmp_path)
    ours = load_pretrained(tmp_path, CPU)[1]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    chat = [{"role": "user", "content": "abba"}]
    assert ours.eos_token_ids == (1, 0)
    assert (ours.bos_token_id, ours.chat_template) == (0, tokenizer.chat_template)
    assert ours.encode_chat(chat) == tokenizer.encode_chat(chat) == [4, 3, 2, 1]
    assert theirs("abba<|im_end|>")["input_ids"] == [4, 3, 2, 1]
    assert theirs.apply_chat_template(chat, tokenize=False) == "abba<|im_end|>"
    generation = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (generation.eos_token_id, generation.bos_token_id) == ([1, 0], 0)


def test_shards(tmp_path):
    model = tiny_model()
    save_pretrained(model, None, tmp_path / "saved", max_shard_bytes=20_000)
    shards = list((tmp_path / "saved").glob("*.safetensors"))
    assert len(shards) > 2
    assert max(shard.stat().st_size for shard in shards) < 22_000
    index = json.loads(
        (tmp_path / "saved" / "model.safetensors.index.json").read_text(
            encoding="utf-8"
        )
    )
    assert index["metadata"]["total_size"] == sum(p.nbytes for p in model.parameters())
    with torch.no_grad():
        assert logits_of(tmp_path / "saved").equal(model(IDS))
        assert_close(model(IDS), transformers_logits(tmp_path / "saved"))


def test_what_is_there_is_not_overwritten_unless_told(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    save_pretrained(tiny_model(0), tiny_tokenizer(), folder)  # an empty folder is free
    first = logits_of(folder)
    with pytest.raises(CheckpointError, match="not empty"):
        save_pretrained(tiny_model(1), None, folder)
    assert logits_of(folder).equal(first)
    # its weights are mapped to the file replaced below
    loaded = load_pretrained(folder, CPU)[0]
    save_pretrained(tiny_model(1), None, folder, overwrite=True)
    assert not logits_of(folder).equal(first)
    # no tokenizer left over
    assert files_in(folder) == ["config.json", "model.safetensors"]
    assert files_in(tmp_path) == ["saved"]
    with torch.no_grad():
        assert loaded(IDS).equal(first)


def test_a_place_that_links_to_itself_is_refused(tmp_path):
    place = tmp_path / "place"
    place.symlink_to(place)
    with pytest.raises(CheckpointError, match="place cannot be written"):
        save_pretrained(tiny_model(), None, place)
    assert list(tmp_path.iterdir()) == [place]


def test_only_a_saved_model_is_ever_replaced(tmp_path):
    """`overwrite=True` with the wrong folder must not delete somebody's work."""
    work, home = tmp_path / "work", tmp_path / "home"
    (home / "documents").mkdir(parents=True)
    (home / "config.json").write_text("{}", encoding="utf-8")
    work.mkdir()
    (work / "thesis.txt").write_text("years", encoding="utf-8")
    for target in (work, home, work / "thesis.txt"):
        with pytest.raises(CheckpointError, match="nothing is replaced"):
            save_pretrained(tiny_model(), None, target, overwrite=True)
    assert (work / "thesis.txt").read_text(encoding="utf-8") == "years"
    assert (home / "documents").is_dir()


@pytest.mark.parametrize("there", [True, False])
def test_a_save_that_fails_leaves_things_as_they_were(tmp_path, monkeypatch, there):
    if there:
        save_pretrained(tiny_model(0), None, tmp_path / "saved")
        first = logits_of(tmp_path / "saved")

    def fail(*args):
        raise OSError("the disk is gone")

    monkeypatch.setattr(saving, "write_json", fail)  # after the weights
    with pytest.raises(CheckpointError, match="gone"):
        save_pretrained(tiny_model(1), None, tmp_path / "saved", overwrite=True)
    assert files_in(tmp_path) == (["saved"] if there else [])
    if there:
        assert logits_of(tmp_path / "saved").equal(first)


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    save_pretrained(tiny_model(0), None, tmp_path / "saved")
    first, rename = logits_of(tmp_path / "saved"), cache.os.rename

    def refuse_the_new(source, target):
        if Path(source).name == "made":
            raise OSError("in use")
        rename(source, target)

    monkeypatch.setattr(cache.os, "rename", refuse_the_new)
    with pytest.raises(CheckpointError, match="in use"):
        save_pretrained(tiny_model(1), None, tmp_path / "saved", overwrite=True)
    assert logits_of(tmp_path / "saved").equal(first)


def test_a_folder_whose_weights_are_in_use_is_named_with_the_way_out(
    tmp_path, monkeypatch
):
    """Windows refuses to move a folder while a file inside is mapped."""
    save_pretrained(tiny_model(0), None, tmp_path / "saved")
    held = load_pretrained(tmp_path / "saved", EngineConfig("cpu"))
    rename = cache.os.rename

    def as_windows(source, target):
        if Path(source).name == "saved":
            raise PermissionError(13, "Access is denied")
        rename(source, target)

    monkeypatch.setattr(cache.os, "rename", as_windows)
    with pytest.raises(CheckpointError, match=r"Access is denied.*del model.*restart"):
        save_pretrained(tiny_model(1), None, tmp_path / "saved", overwrite=True)
    assert files_in(tmp_path) == ["saved"]
    assert load_pretrained(tmp_path / "saved")[0].norm.weight.equal(held[0].norm.weight)


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = saving.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match="0 MB free"):
        save_pretrained(tiny_model(), None, tmp_path / "saved")
    assert files_in(tmp_path) == []


def test_a_model_that_is_not_its_config_is_refused(tmp_path):
    model = tiny_model()
    model.layers[1].mlp.adapter = torch.nn.Linear(2, 2)
    with pytest.raises(
        CheckpointError, match=r"unexpected: layers\.1\.mlp\.adapter\.bias"
    ):
        save_pretrained(model, None, tmp_path / "saved")
    untied = tiny_model(tie_word_embeddings=True)
    untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight + 1)
    with pytest.raises(
        CheckpointError, match="ties lm_head to the embedding, but the two differ"
    ):
        save_pretrained(untied, None, tmp_path / "saved")
    for prepare in (prepare_for_inference, FusedModel):
        with pytest.raises(CheckpointError, match="save the one it was made from"):
            save_pretrained(prepare(tiny_model()), None, tmp_path / "saved")
    assert files_in(tmp_path) == []
