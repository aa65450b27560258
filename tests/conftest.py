"""Fixtures: the real model, tiny random files made on the spot, and no figure left to
the next test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llm_course.authoring.export import export_all
from llm_course.checkpoints import ensure_gguf, load_pretrained
from llm_course.engine import FusedModel, prepare_for_inference
from llm_course.models import DecoderOnlyModel
from tests.notebook_tools import make_repo

NAME = "smollm2-135m-instruct"
LONG = ("browser", "mutants")  # markers


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """What takes minutes runs only where the expression after -m names its marker."""
    unnamed = [name for name in LONG if name not in config.option.markexpr]
    chosen: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        chosen[not any(map(item.get_closest_marker, unnamed))].append(item)
    items[:] = chosen[True]
    config.hook.pytest_deselected(items=chosen[False])


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def smollm2():
    """(model, tokenizer) of the pinned model; downloads and converts it if that was
    never done."""
    return load_pretrained(NAME)


# What makes the model under test of a model.
WAYS: dict[str, Callable[[DecoderOnlyModel], DecoderOnlyModel]] = {
    "as built": lambda model: model,
    "fused": lambda model: FusedModel(model).eval(),
    "native": prepare_for_inference,
}


@pytest.fixture(params=WAYS)
def prepare(
    request: pytest.FixtureRequest,
) -> Callable[[DecoderOnlyModel], DecoderOnlyModel]:
    """Each way in which a model runs, in turn."""
    return WAYS[request.param]


@pytest.fixture(params=["as built", "fused"])
def prepare_modules(
    request: pytest.FixtureRequest,
) -> Callable[[DecoderOnlyModel], DecoderOnlyModel]:
    """The ways that are made of PyTorch's modules: these have layers to look into, and
    take any cache."""
    return WAYS[request.param]


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The pinned model's GGUF file."""
    return ensure_gguf(NAME)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder of this test's own, and no folder of given weights."""
    monkeypatch.setenv("LLM_COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLM_COURSE_WEIGHTS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a tiny random model by `transformers`; 4 heads share 2
    key/value heads."""
    import torch
    import transformers

    def write(shard_size: str = "1GB", **changes: Any) -> Path:
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


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tiny random Llama GGUF file and returns its path.

    `changes` override the metadata under "llama."; None leaves a key or a tensor out.
    `tokenizer` is metadata under its full names.
    """

    def write(
        tensors: dict[str, np.ndarray | None] | None = None,
        architecture: str = "llama",
        tokenizer: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        metadata = {
            "context_length": 64,
            "embedding_length": 32,
            "feed_forward_length": 48,
            "block_count": 2,
            "attention.head_count": 4,
            "attention.head_count_kv": 2,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.freq_base": 50000.0,
        } | changes
        rng = np.random.default_rng(0)
        arrays: dict[str, np.ndarray | None] = {
            "token_embd.weight": rng.normal(size=(40, 32)),
            "output_norm.weight": rng.normal(size=(32,)),
        }
        for i in range(2):
            for name, shape in {
                "attn_norm": (32,),
                "attn_q": (32, 32),
                "attn_k": (16, 32),
                "attn_v": (16, 32),
                "attn_output": (32, 32),
                "ffn_norm": (32,),
                "ffn_gate": (48, 32),
                "ffn_up": (48, 32),
                "ffn_down": (32, 48),
            }.items():
                arrays[f"blk.{i}.{name}.weight"] = rng.normal(size=shape) * 0.3
        arrays |= tensors or {}
        path = tmp_path / f"tiny-{len(list(tmp_path.iterdir()))}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        for key, value in metadata.items():
            add = {
                int: writer.add_uint32,
                float: writer.add_float32,
                str: writer.add_string,
                list: writer.add_array,
            }
            if value is not None:
                add[type(value)](f"llama.{key}", value)
        for key, value in (tokenizer or {}).items():
            add = {
                int: writer.add_uint32,
                list: writer.add_array,
                str: writer.add_string,
            }
            add[type(value)](key, value)
        for name, array in arrays.items():
            if array is not None:
                writer.add_tensor(name, array.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository whose one module was exported."""
    root = make_repo(tmp_path_factory.mktemp("exported"))
    assert export_all(root) == []
    return root


@pytest.fixture
def repo(exported: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(exported, tmp_path, dirs_exist_ok=True))
