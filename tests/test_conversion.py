"""The converted copy: made once, whole or not at all, and checked each time."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from llm_course.checkpoints import cache, converted_folder, download
from llm_course.checkpoints.download import PinnedModel
from llm_course.errors import CheckpointError
from tests.test_download import files_in


@pytest.fixture
def tiny_model(clean_environment, monkeypatch, tiny_gguf, tmp_path) -> Path:
    """Make "fake" a real tiny GGUF file, given by LLM_COURSE_WEIGHTS; returns the cache
    folder."""
    content = tiny_gguf().read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    model = PinnedModel("fake", "1.0", 1, "fake.gguf", len(content), digest)
    monkeypatch.setitem(download.PINNED_MODELS, "fake", model)
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "fake.gguf").write_bytes(content)
    monkeypatch.setenv("LLM_COURSE_WEIGHTS", str(stick))
    return clean_environment


def test_conversion_happens_once(tiny_model, tmp_path, capfd):
    folder = converted_folder("fake")
    assert folder.parent == tiny_model
    assert (folder / "model.safetensors").is_file()
    assert "Converting" in capfd.readouterr().err
    (tmp_path / "stick" / "fake.gguf").unlink()  # not needed any more
    assert converted_folder("fake") == folder
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", ["truncated", "missing", "no receipt"])
def test_a_damaged_conversion_is_made_afresh(tiny_model, damage):
    folder = converted_folder("fake")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(whole[:-100])
    else:
        (weights if damage == "missing" else folder / "conversion.json").unlink()
    assert converted_folder("fake") == folder
    assert weights.read_bytes() == whole
    assert [path.name for path in tiny_model.iterdir()] == [folder.name]


def test_another_source_or_format_is_never_mistaken_for_this_one(
    tiny_model, monkeypatch
):
    from llm_course.checkpoints import convert

    folder = converted_folder("fake")
    monkeypatch.setattr(convert, "FORMAT", convert.FORMAT + 1)
    assert converted_folder("fake") != folder
    assert download.PINNED_MODELS["fake"].sha256[:12] in folder.name


def test_an_interrupted_conversion_leaves_nothing(tiny_model, monkeypatch):
    from llm_course.checkpoints import saving

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_file", stopped)
        with pytest.raises(KeyboardInterrupt):
            converted_folder("fake")
    assert files_in(tiny_model) == []
    assert converted_folder("fake").is_dir()


def edited(folder: Path, name: str, old: bytes, new: bytes) -> None:
    """Change a file but not its size or its date."""
    path = folder / name
    before, content = path.stat(), path.read_bytes()
    assert content.count(old) >= 1
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new, 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_bit_in_the_copy_is_noticed(tiny_model, name):
    folder = converted_folder("fake")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    if name == "config.json":
        edited(folder, name, b"50000.0", b"10000.0")  # rope_theta
    else:
        last = whole[name][-1:]
        edited(
            folder, name, whole[name][-64:], whole[name][-64:-1] + bytes([last[0] ^ 1])
        )
    assert converted_folder("fake") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


@pytest.mark.parametrize(
    "receipt",
    [
        {"format": 1, "sizes": {}, "crc32": {}},
        {"format": 1},
        {"sizes": {"../secret": 1}, "crc32": {"../secret": 1}},
        [],
        "text",
    ],
)
def test_a_receipt_that_vouches_for_nothing_is_not_believed(tiny_model, receipt):
    folder = converted_folder("fake")
    (folder / "conversion.json").write_text(json.dumps(receipt), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    assert (converted_folder("fake") / "model.safetensors").is_file()


def test_a_disk_that_fills_up_during_conversion_is_one_error(tiny_model, monkeypatch):
    from llm_course.checkpoints import saving

    for raised in (SafetensorError("No space left"), OSError(28, "No space left")):

        def full(*args, raised=raised, **kwargs):
            raise raised

        with monkeypatch.context() as patch:
            patch.setattr(saving, "save_file", full)
            with pytest.raises(CheckpointError, match=r"cannot be written .*No space"):
                converted_folder("fake")
        assert files_in(tiny_model) == []
    assert converted_folder("fake").is_dir()


def test_a_damaged_copy_that_is_in_use_is_named_with_the_way_out(
    tiny_model, monkeypatch
):
    folder = converted_folder("fake")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    rename = cache.os.rename

    def as_windows(source, target):
        if Path(source) == folder:
            raise PermissionError(13, "Access is denied")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "rename", as_windows)
        with pytest.raises(CheckpointError, match=r"denied.*del model.*restart"):
            converted_folder("fake")
    assert '"hidden_size"' in (converted_folder("fake") / "config.json").read_text(
        encoding="utf-8"
    )


def test_leftovers_go_away_also_when_nothing_is_left_to_do(tiny_model):
    folder = converted_folder("fake")
    old, running = tiny_model / ".work-old", tiny_model / ".work-running"
    for leftover in (old, running):
        leftover.mkdir()
        (leftover / "half.whl").write_bytes(b"half")
    os.utime(old, (0, 0))
    assert converted_folder("fake") == folder
    assert not old.exists()
    assert running.exists()
