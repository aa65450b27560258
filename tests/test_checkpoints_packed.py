"""Models that keep a GGUF file's own numbers: equal logits, and little memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from llm_course.checkpoints import load_pretrained
from llm_course.checkpoints.gguf_file import dequantize, open_gguf
from llm_course.checkpoints.gguf_header import GgufTensor
from llm_course.checkpoints.packed import PACKERS, pack_tensor
from llm_course.config import EngineConfig, GenerationConfig
from llm_course.engine import generate_stream, make_cache
from llm_course.engine.native import NativeModel
from llm_course.errors import CheckpointError
from tests.checkpoint_tools import CPU, IDS

LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="reads memory as Linux counts it"
)
KINDS = {Kind.Q4_0: "q4_1", Kind.Q4_1: "q4_1", Kind.Q8_0: "q8_0"}


def write_gguf(
    path: Path, kinds: Callable[[str], Kind], tied: bool = True, width: int = 64
) -> Path:
    """A tiny Llama whose matrices are of the kind that `kinds` gives for their name."""
    rng = np.random.default_rng(0)
    layer = {
        "attn_q": (width, width),
        "attn_k": (width // 2, width),
        "attn_v": (width // 2, width),
        "attn_output": (width, width),
        "ffn_gate": (2 * width, width),
        "ffn_up": (2 * width, width),
        "ffn_down": (width, 2 * width),
    }
    shapes = {"token_embd": (40, width)}
    if not tied:
        shapes["output"] = (40, width)
    norms = ["output_norm"]
    for i in range(2):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
        norms += [f"blk.{i}.attn_norm", f"blk.{i}.ffn_norm"]
    writer = gguf.GGUFWriter(path, "llama")
    for key, number in {
        "context_length": 64,
        "embedding_length": width,
        "feed_forward_length": 2 * width,
        "block_count": 2,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }.items():
        writer.add_uint32(f"llama.{key}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("llama.rope.freq_base", 50000.0)
    for name in norms:
        weight = rng.uniform(0.5, 1.5, width).astype(np.float32)
        writer.add_tensor(f"{name}.weight", weight)
    for name, shape in shapes.items():
        weight = (rng.normal(size=shape) * 0.3).astype(np.float32)
        data = gguf.quants.quantize(weight, kinds(name))
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kinds(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def mixed(name: str) -> Kind:
    """Four kinds side by side, as files of real models have two or three."""
    if name in ("token_embd", "output"):
        return Kind.Q8_0
    kinds = {"attn_v": Kind.F16, "ffn_down": Kind.Q4_1, "attn_q": Kind.BF16}
    return kinds.get(name.rpartition(".")[2], Kind.Q4_0)


def assert_equal_logits(path: Path) -> NativeModel:
    """The packed model against the same file, loaded in float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed, _ = load_pretrained(path, weights="file")
    assert isinstance(packed, NativeModel)
    wanted = load_pretrained(path, CPU)[0](IDS)
    largest, cache = wanted.abs().max(), make_cache(packed, 1, IDS.shape[1])
    one_by_one = [packed(token[:, None], kv_cache=cache) for token in IDS.T]
    assert (torch.cat(one_by_one, dim=1) - wanted).abs().max() < 1e-4 * largest
    assert (packed(IDS) - wanted).abs().max() < 1e-3 * largest  # 16 bits for inputs
    return packed


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_equal_logits_from_the_same_numbers(tmp_path, kind, tied):
    packed = assert_equal_logits(write_gguf(tmp_path / "a.gguf", lambda _: kind, tied))
    assert {matrix.kind for matrix in packed.matrices.values()} == {KINDS[kind]}
    assert ("lm_head" in packed.matrices) == (not tied)
    assert not packed.training


def test_a_file_of_several_kinds(tmp_path):
    path = write_gguf(tmp_path / "mixed.gguf", mixed, tied=False)
    packed = assert_equal_logits(path)
    kinds = {name: matrix.kind for name, matrix in packed.matrices.items()}
    layer = {
        **dict.fromkeys(("self_attn.q_proj", "self_attn.v_proj"), "float32"),
        **dict.fromkeys(("self_attn.k_proj", "self_attn.o_proj"), "q4_1"),
        **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), "q4_1"),
    }
    assert kinds == {
        **dict.fromkeys(("embed_tokens", "lm_head"), "q8_0"),
        **{f"layers.{i}.{name}": kind for i in (0, 1) for name, kind in layer.items()},
    }
    with pytest.warns(UserWarning, match="stay as they are") as caught:
        load_pretrained(path, weights="file")
    (warning,) = caught
    assert str(warning.message).startswith(
        "mixed.gguf: 4 of 16 matrices are of kind BF16, F16 and become float32"
    )
    assert warning.filename == __file__


@pytest.mark.parametrize("kind", [*KINDS, Kind.F16, Kind.Q6_K], ids=lambda k: k.name)
def test_the_rows_are_those_of_the_file_to_the_bit(kind, monkeypatch):
    """Random bytes, so that every number and sign occurs; cut into several pieces."""
    monkeypatch.setattr("llm_course.checkpoints.packed.PIECE", 96 * 256)
    rng = np.random.default_rng(0)
    outputs, inputs = 96 * 3 + 50, 256
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    shape = outputs, inputs // per_block, size
    raw = rng.integers(0, 256, shape, dtype=np.uint8)
    # high bytes of what may be scales and minima: none is infinite, or too large
    raw[..., [1, -1] if kind in (Kind.F16, Kind.Q6_K) else [1, 3]] &= 0xBF
    data = raw.reshape(-1)
    packed = pack_tensor(GgufTensor("x", kind, (outputs, inputs), data))
    expected = dequantize(data, kind).view(outputs, inputs).numpy()
    assert packed.kind == KINDS.get(kind, "float32")
    assert packed.data.shape[0] == 8
    rows = packed.rows(np.arange(outputs))
    assert np.array_equal(rows, expected)  # 0.0 for -0.0 is fine
    assert not packed.data[-1, :, 2:].any()  # rows that fill up the last tile


def test_a_scale_that_no_float16_holds_eight_times():
    block = np.zeros(18, np.uint8)
    block[:2] = np.array([8192], np.float16).view(np.uint8)
    with pytest.raises(CheckpointError, match="scale above 8188"):
        pack_tensor(GgufTensor("x", Kind.Q4_0, (1, 32), block))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weights": "int8"}, r"prepare_for_inference\(model, weights='int8'\)"),
        ({"weights": None}, "weights = None is a NoneType; give a str"),
        ({"threads": 2}, 'threads = 2: only with weights="file"'),
        ({"weights": "file", "threads": 0}, "threads = 0: must be at least 1"),
        ({"engine_config": EngineConfig("cuda"), "weights": "file"}, "run on the CPU"),
        (
            {"engine_config": EngineConfig("cpu", "bfloat16"), "weights": "file"},
            "in float32",
        ),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, complaint):
    path = write_gguf(tmp_path / "a.gguf", lambda _: Kind.Q8_0)
    with pytest.raises((TypeError, ValueError), match=complaint):
        load_pretrained(path, **options)


def test_only_a_gguf_file_has_numbers_to_keep(tiny_folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"needs a \.gguf file") as caught:
        load_pretrained(tiny_folder(), weights="file")
    assert "prepare_for_inference(model, weights=...)" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"needs a \.gguf file"):
        load_pretrained("org/name", weights="file")  # and no network is asked
    with pytest.raises(CheckpointError, match="Unknown model"):
        load_pretrained("no-such-model", weights="file")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="not a whole GGUF file"):
        load_pretrained(tmp_path / "cut.gguf", weights="file")


def test_the_kinds_that_stay_are_the_kinds_tested():
    assert set(PACKERS) == set(KINDS)


@pytest.mark.slow
def test_the_real_file_answers_as_the_model_as_built(smollm2):
    model, tokenizer = smollm2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its matrices all stay as they are
        packed, _ = load_pretrained("smollm2-135m-instruct", weights="file")
    greedy = GenerationConfig(max_new_tokens=24, do_sample=False)
    for question in (
        "What is the capital of France?",
        "Name three colours.",
        "Write a line about the sea.",
    ):
        ids = tokenizer.encode_chat([{"role": "user", "content": question}])
        prompt = torch.tensor([ids])
        eos = tokenizer.eos_token_ids
        ours, wanted = (
            [token.item() for token in generate_stream(m, prompt, greedy, eos)]
            for m in (packed, model)
        )
        assert ours == wanted, question


PROGRAM = """
import json, resource, torch, llm_course
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
from llm_course.checkpoints import load_pretrained
model, _ = load_pretrained("smollm2-135m-instruct", weights="file")
model(torch.tensor([[1, 2, 3]]))
packed = sum(matrix.nbytes for matrix in model.matrices.values())
print(json.dumps([packed, peak() - before]))
"""


@LINUX
def test_bytes_that_are_packed_leave_the_memory(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", lambda _: Kind.Q8_0, width=1024)
    tensors = open_gguf(path).tensors
    before = resident(path)
    for tensor in tensors.values():
        if len(tensor.shape) == 2:
            pack_tensor(tensor)
    assert before < path.stat().st_size
    assert resident(path) < 0.2 * path.stat().st_size
    matrix = tensors["layers.1.mlp.down_proj.weight"]
    again = pack_tensor(matrix)  # read from the file once more
    assert np.array_equal(again.data, pack_tensor(matrix).data)


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    maps = Path("/proc/self/smaps").read_text(encoding="utf-8")
    found = re.findall(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", maps)
    assert found
    return 1024 * sum(map(int, found))


@pytest.mark.slow
@LINUX
def test_peak_memory_of_the_real_file(smollm2):
    model, _ = smollm2
    model_bytes = sum(parameter.nbytes for parameter in model.parameters())
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, check=True, capture_output=True, timeout=300)
    packed, peak = json.loads(done.stdout)
    assert packed < 100_000_000
    assert peak < 1.3 * packed + 250_000_000, f"{peak / 1e6:.0f} MB"
    assert peak < model_bytes
