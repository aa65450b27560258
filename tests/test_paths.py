"""Paths that lead nowhere: each is one of the course's own errors, in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_course.checkpoints import (
    convert_gguf,
    load_pretrained,
    load_tensors,
    read_folder,
    read_gguf,
)
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import CPU

NOWHERE = {
    "empty": "",
    "a name too long": "a" * 300,
    "a folder too long": f"here/{'b' * 300}/model",
    "no such user": "~nosuchuser/x",
    "a zero byte": "a\0b",
    "a missing folder": "/nowhere/model",
    "a missing file": "/nowhere/model.gguf",
    "a missing path": Path("nowhere"),
}
READERS = {
    "load_pretrained": lambda path: load_pretrained(path, CPU),
    "load_tensors": load_tensors,
    "weights from the file": lambda path: load_pretrained(path, weights="file"),
    "read_gguf": read_gguf,
    "read_folder": read_folder,
    "convert_gguf": lambda path: convert_gguf(path, "/nowhere/converted"),
}


@pytest.mark.parametrize("path", NOWHERE.values(), ids=NOWHERE)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_nowhere_is_our_own_error(read, path):
    with pytest.raises(CheckpointError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize("kind", [str, Path])
def test_a_missing_folder_is_called_so(tmp_path, kind):
    with pytest.raises(CheckpointError, match=r"There is no such folder: .*model"):
        load_pretrained(kind(tmp_path / "model"), CPU)
    with pytest.raises(CheckpointError, match=r"There is no such file: .*m\.gguf"):
        load_pretrained(kind(tmp_path / "m.gguf"), CPU)


@pytest.mark.parametrize("name", ["a" * 300 + ".safetensors", "x\0.safetensors"])
def test_shards_with_names_that_no_file_has(tiny_folder, name):
    folder = tiny_folder()
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(index), encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="does not hold"):
        load_pretrained(folder, CPU)
