"""Files damaged anywhere, by Hypothesis: loaded, or refused with one of our errors."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_course.checkpoints import save_pretrained
from tests.checkpoint_tools import use_whatever_loads
from tests.hostile_tools import TOKENIZER, header
from tests.test_hostile_files import no_hang  # noqa: F401
from tests.test_save_pretrained import tiny_model, tiny_tokenizer

EXTREMES = [
    0,
    1,
    2,
    7,
    8,
    9,
    127,
    255,
    2**16,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
]
EXTREMES += [2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1]
fuzzing = settings(
    max_examples=500,
    deadline=None,
    derandomize=True,  # the same examples everywhere
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(tiny_model(), tiny_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


damage = st.lists(
    st.tuples(
        st.sampled_from(["flip", "u32", "u64", "cut", "delete", "repeat", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content: bytes, plan: list[tuple[str, float, int]], end: int) -> bytes:
    """Apply each step somewhere in the first `end` bytes."""
    data = bytearray(content)
    for step, place, number in plan:
        at = int(place * min(end, len(data)))
        extreme = EXTREMES[number % len(EXTREMES)]
        if step == "flip":
            data[at : at + 1] = bytes(
                byte ^ (1 << number % 8) for byte in data[at : at + 1]
            )
        elif step == "u32":
            data[at : at + 4] = struct.pack("<I", extreme % 2**32)
        elif step == "u64":
            data[at : at + 8] = struct.pack("<Q", extreme)
        elif step == "cut":
            del data[at:]
        elif step == "delete":
            del data[at : at + 1 + number % 24]
        elif step == "repeat":
            data[at:at] = data[at : at + 1 + number]
        else:
            data[at:at] = bytes([number]) * (1 + number % 9)
    return bytes(data)


@pytest.fixture
def whole_gguf(tiny_gguf) -> tuple[Path, bytes, int]:
    """(path, content, where the weights begin)"""
    path = tiny_gguf(tokenizer=TOKENIZER)
    return path, path.read_bytes(), gguf.GGUFReader(path).data_offset


@pytest.mark.filterwarnings("ignore:This GGUF file's tokenizer")
@fuzzing
@given(plan=damage)
def test_damaged_gguf(whole_gguf, plan):
    path, content, end = whole_gguf
    path.write_bytes(damaged(content, plan, end + 100))
    use_whatever_loads(path)


@fuzzing
@given(
    plan=damage,
    file=st.sampled_from(["model.safetensors", "tokenizer.json", "config.json"]),
)
def test_damaged_folder(folder, plan, file):
    path = folder / file
    content = path.read_bytes()
    try:
        path.write_bytes(damaged(content, plan, 3000))
        use_whatever_loads(folder)
    finally:
        path.unlink()  # not written over: the loaded weights are mapped to it
        path.write_bytes(content)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [-1, 0, 1, 2, 41, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf")]
    )
    | st.sampled_from(
        ["", "x", "llama", "linear", "../x", "\ud800", "<|im_end|>", "F16", "I64"]
    ),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner)
    ),
    max_leaves=3,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The path of every value inside a JSON document."""
    if isinstance(value, dict):
        inside = list(value.items())
    else:
        inside = list(enumerate(value)) if isinstance(value, list) else []
    return [
        p for key, item in inside for p in [(*path, key), *places(item, (*path, key))]
    ]


def edited(document: Any, place: float, value: Any, remove: bool) -> Any:
    document = copy.deepcopy(document)
    paths = places(document)
    *path, last = paths[int(place * len(paths))]
    target = document
    for key in path:
        target = target[key]
    if remove and isinstance(target, dict):
        del target[last]
    else:
        target[last] = value
    return document


@pytest.mark.slow
@fuzzing
@given(
    file=st.sampled_from(
        [
            "config.json",
            "generation_config.json",
            "tokenizer_config.json",
            "tokenizer.json",
            "header",
        ]
    ),
    place=st.floats(0, 1, exclude_max=True),
    value=values,
    remove=st.booleans(),
)
def test_json_with_other_values(folder, file, place, value, remove):
    path = folder / ("model.safetensors" if file == "header" else file)
    content = path.read_bytes()
    start, end = 0, len(content)
    if file == "header":
        start, end = 8, 8 + struct.unpack("<Q", content[:8])[0]
    document = edited(json.loads(content[start:end]), place, value, remove)
    new = json.dumps(document).encode()
    try:
        path.write_bytes(header(new, 0) + content[end:] if file == "header" else new)
        use_whatever_loads(folder)
    finally:
        path.unlink()
        path.write_bytes(content)
