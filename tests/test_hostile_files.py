"""Files made to do harm: always one of our errors, never a crash, a hang or gigabytes
of memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_course.checkpoints import load_pretrained, save_pretrained
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import use_whatever_loads
from tests.hostile_tools import HOSTILE_GGUF, HOSTILE_SAFETENSORS, TOKENIZER
from tests.test_save_pretrained import tiny_model, tiny_tokenizer


@pytest.fixture(autouse=True)
def no_hang():
    """A test that waits for ever fails instead: no test here needs more than some
    seconds."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", HOSTILE_GGUF)
def test_hostile_gguf_header(tmp_path, name):
    content, complaint = HOSTILE_GGUF[name]
    (tmp_path / "model.gguf").write_bytes(content)
    reason = r"not a whole GGUF file|holds tensors of kind"
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_pretrained(tmp_path / "model.gguf")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"block_count": 2**32 - 1}, "4294967295 layers are announced"),
        ({"context_length": 2**32 - 1}, "table of angles would not fit"),
        ({"attention.head_count": 2**31, "attention.key_length": 2}, "misshapen"),
        ({"rope.freq_base": float("nan")}, "metadata are impossible"),
        ({"rope.freq_base": "x"}, "metadata are impossible"),
        ({"embedding_length": "x" * 100_000}, "metadata are impossible"),
        ({"rope.dimension_count": "x" * 100_000}, "must be equal"),
    ],
)
def test_hostile_gguf_metadata(tiny_gguf, changes, complaint):
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_pretrained(tiny_gguf(**changes))
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": [1, 2, 3]},
        {"tokens": 5},
        {"tokens": ["a", "a"]},
        {"merges": "a b"},
        {"merges": ["ab"]},
        {"merges": ["x y"]},
        {"token_type": "special"},
        {"eos_token_id": "1"},
    ],
    ids=str,
)
def test_hostile_gguf_tokenizer(tiny_gguf, changes):
    own = TOKENIZER | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    with pytest.raises(CheckpointError, match="tokenizer in this GGUF file is damaged"):
        load_pretrained(tiny_gguf(tokenizer=own))


@pytest.mark.parametrize("name", HOSTILE_SAFETENSORS)
def test_hostile_safetensors(folder, name):
    (folder / "model.safetensors").write_bytes(HOSTILE_SAFETENSORS[name])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_pretrained(folder)


def change(*keys: str | int, to: Any) -> Callable[[dict], None]:
    def edit(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return edit


# name -> (file, edit, what the error says; None: the folder can be loaded all the same)
HOSTILE_JSON = {
    "vocabulary with a huge id": (
        "tokenizer.json",
        change("model", "vocab", "ab", to=2**31),
        "a token has the id 2147483648",
    ),
    "a panic in the library": (
        "tokenizer.json",
        change("model", "continuing_subword_prefix", to="a" * 99),
        "tokenizer.json cannot be read",
    ),
    "template that is no text": (
        "tokenizer_config.json",
        change("chat_template", to=[1]),
        None,
    ),
    "names that are none": (
        "tokenizer_config.json",
        change("eos_token", to={"content": 5}),
        None,
    ),
    "ids that are none": (
        "generation_config.json",
        change("eos_token_id", to=[1, "x"]),
        "'x' is no token id",
    ),
    "rope in a list": (
        "config.json",
        change("rope_parameters", to=[["x"]]),
        "must be an object",
    ),
    "θ in a list": (
        "config.json",
        change("rope_parameters", "rope_theta", to=[1, {}]),
        "two values of rope_theta",
    ),
    "kind in a list": (
        "config.json",
        change("rope_parameters", "rope_type", to=["llama3"]),
        "of kind ['llama3']",
    ),
    "huge numbers": (
        "config.json",
        change("hidden_size", to=10**4000),
        "absurdly large values of hidden_size",
    ),
    "numbers in text": (
        "config.json",
        change("hidden_size", to="32"),
        "impossible model",
    ),
    "endless layers": (
        "config.json",
        change("num_hidden_layers", to=10**18),
        "1000000000000000000 layers are announced",
    ),
    "endless context": (
        "config.json",
        change("max_position_embeddings", to=10**18),
        "table of angles would not fit",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json(folder, name):
    file, edit, complaint = HOSTILE_JSON[name]
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    edit(values)
    (folder / file).write_text(json.dumps(values), encoding="utf-8")
    if complaint is None:
        use_whatever_loads(folder)
    else:
        with pytest.raises(CheckpointError, match=re.escape(complaint)):
            load_pretrained(folder)


def test_a_long_header_is_not_read(folder):
    (folder / "model.safetensors").write_bytes(HOSTILE_SAFETENSORS["long header"])
    with pytest.raises(CheckpointError, match="announced with 11,000,002 bytes"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)  # nobody will ever write into it
    if name == "tokenizer.json":
        assert load_pretrained(folder)[1] is None
    else:
        with pytest.raises(CheckpointError, match=f"does not hold {name}"):
            load_pretrained(folder)


# All of them, in a process whose memory is watched:
PROGRAM = """
import resource, sys
from pathlib import Path
from llm_course.errors import CheckpointError
from llm_course.checkpoints import load_pretrained

good, *bad = map(Path, sys.argv[1:])
load_pretrained(good)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in bad:
    try:
        load_pretrained(path)
    except CheckpointError:
        continue
    raise SystemExit(f"{path} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="counts memory in kilobytes, as Linux does"
)
def test_hostile_files_take_no_memory(folder, tmp_path):
    paths = []
    for i, (content, _) in enumerate(HOSTILE_GGUF.values()):
        paths.append(tmp_path / f"{i}.gguf")
        paths[-1].write_bytes(content)
    for i, content in enumerate(HOSTILE_SAFETENSORS.values()):
        paths.append(tmp_path / f"weights-{i}")
        paths[-1].mkdir()
        (paths[-1] / "config.json").write_bytes((folder / "config.json").read_bytes())
        (paths[-1] / "model.safetensors").write_bytes(content)
    command = [sys.executable, "-c", PROGRAM, folder, *paths]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=100)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 200_000  # the largest file has 33 MB
