"""Ids of the Hugging Face hub: from its cache or by its client, and only files of
data."""

from __future__ import annotations

import builtins
import shutil
from fnmatch import fnmatch

import huggingface_hub
import pytest

from llm_course.checkpoints import load_pretrained
from llm_course.checkpoints.hub import FILES, is_hub_id
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import logits_of


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A hub cache of this test's own; nothing may be asked of the network."""
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub")
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put_in_cache(hub_cache, folder, name):
    """Store a model folder as the hub's client does."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = hub_cache / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit, encoding="utf-8")
    return shutil.copytree(folder, model / "snapshots" / commit)


def test_a_model_in_the_cache_needs_no_network(tiny_folder, hub_cache):
    folder = tiny_folder(shard_size="8KB")
    snapshot = put_in_cache(hub_cache, folder, "org/tiny-1.0")
    assert logits_of("org/tiny-1.0").equal(logits_of(folder))
    next(snapshot.glob("*00002-of*")).unlink()  # a download that was interrupted
    with pytest.raises(CheckpointError, match="tiny-1"):
        load_pretrained("org/tiny-1.0")


def test_what_is_missing_is_downloaded(tiny_folder, hub_cache, monkeypatch):
    folder, asked = tiny_folder(), []

    def download(repo_id, *, local_files_only, allow_patterns, ignore_patterns):
        asked.append((repo_id, local_files_only))
        assert (tuple(allow_patterns), ignore_patterns) == (FILES, ["model-*/*"])
        if local_files_only:
            raise FileNotFoundError
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert logits_of("org/tiny").equal(logits_of(folder))
    assert asked == [("org/tiny", True), ("org/tiny", False)]


def test_only_files_of_data_are_asked_for():
    def wanted(path):
        return any(fnmatch(path, p) for p in FILES) and not fnmatch(path, "model-*/*")

    for path in (
        "config.json",
        "tokenizer.json",
        "model-00001-of-00002.safetensors",
        "additional_chat_templates/rag.jinja",
    ):
        assert wanted(path)
    for path in (
        "pytorch_model.bin",
        "model.pt",
        "modeling_evil.py",
        "original/config.json",
        "onnx/model-1-of-2.safetensors",
        "model-x/model-1-of-2.safetensors",
        "other/chat_template.jinja",
        "flax_model.msgpack",
        "model.safetensors.bin",
    ):
        assert not wanted(path)


def test_no_network_and_no_copy(hub_cache):
    with pytest.raises(CheckpointError) as caught:
        load_pretrained("org/absent")
    message = str(caught.value)
    assert "no folder org/absent here" in message
    assert "connect to the network" in message
    assert "\n" not in message


def test_without_the_client(hub_cache, monkeypatch):
    ordinary = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "huggingface_hub":
            raise ImportError(name)
        return ordinary(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match="pip install huggingface_hub"):
        load_pretrained("org/absent")


def test_what_can_be_an_id():
    for name in ("HuggingFaceTB/SmolLM2-135M", "org/name_1.5"):
        assert is_hub_id(name)
    for name in (
        "org",
        "org/",
        "/name",
        "./name",
        "../name",
        "a/b/c",
        "a/b.gguf",
        "a b/c",
        "~/x",
    ):
        assert not is_hub_id(name)
