"""Loading needs little memory beside the weights: at most 1.3 times theirs, files
mapped not counted.

Measured in a process of its own, as Linux counts it (RssAnon), a thousand times a
second.
"""

from __future__ import annotations

import json
import subprocess
import sys

import gguf
import pytest
import torch

from llm_course.checkpoints import save_pretrained
from llm_course.checkpoints.gguf_file import _IN_LAYER, _TOP_LEVEL
from llm_course.config import EngineConfig, ModelConfig
from llm_course.models import build_decoder_only_model

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc/self/status"
)

CONFIG = ModelConfig(
    vocab_size=8000,
    hidden_dim=512,
    intermediate_dim=2048,
    num_layers=8,
    num_heads=8,
    num_kv_heads=4,
    max_position_embeddings=128,
)

PROGRAM = """
import json, re, sys, threading, time
from llm_course.checkpoints import load_pretrained
from llm_course.config import EngineConfig

def anonymous():
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+) kB", file.read()).group(1)) * 1024

def watch():
    while not done.is_set():
        readings.append(anonymous())
        time.sleep(0.001)

small, large, dtype = sys.argv[1:]
load_pretrained(small)  # everything is imported now
before, readings, done = anonymous(), [], threading.Event()
thread = threading.Thread(target=watch)
thread.start()
model, _ = load_pretrained(large, EngineConfig("cpu", dtype))
readings.append(anonymous())
done.set()
thread.join()
weights = sum(parameter.nbytes for parameter in model.parameters())
print(json.dumps([weights, max(readings) - before]))
"""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_decoder_only_model(CONFIG, EngineConfig("cpu"))


@pytest.fixture
def written(request, model, tmp_path):
    """The model as a file of the asked-for format and dtype; a path."""
    kind, dtype = request.param
    if kind != "gguf":
        model = build_decoder_only_model(CONFIG, EngineConfig("cpu", dtype))
        size = 20_000_000 if kind == "shards" else 10**9
        save_pretrained(model, None, tmp_path / "model", max_shard_bytes=size)
        return tmp_path / "model"
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for key, value in {
        "context_length": CONFIG.max_position_embeddings,
        "embedding_length": CONFIG.hidden_dim,
        "feed_forward_length": CONFIG.intermediate_dim,
        "block_count": CONFIG.num_layers,
        "attention.head_count": CONFIG.num_heads,
        "attention.head_count_kv": CONFIG.num_kv_heads,
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    parts = {ours: theirs for theirs, ours in _IN_LAYER.items()}
    top = {ours: theirs for theirs, ours in _TOP_LEVEL.items()}
    for name, tensor in model.state_dict().items():
        if name in top:
            stored = top[name]
        else:
            _, layer, part = name.removesuffix(".weight").split(".", 2)
            stored = f"blk.{layer}.{parts[part]}.weight"
        writer.add_tensor(stored, tensor.half().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "dtype"),
    [
        (("shards", "bfloat16"), "float32"),
        (("folder", "float32"), "bfloat16"),
        (("gguf", "float16"), "bfloat16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
    indirect=["written"],
)
def test_peak_memory_while_loading(tiny_folder, written, dtype):
    program = [sys.executable, "-c", PROGRAM, tiny_folder(), written, dtype]
    output = subprocess.run(
        program, check=True, capture_output=True, timeout=120
    ).stdout
    weights, peak = json.loads(output)
    assert weights == 39_657_984 * getattr(torch, dtype).itemsize
    assert peak > 0.9 * weights  # the measure sees the weights
    assert peak < 1.3 * weights, (
        f"{peak / 1e6:.0f} MB for {weights / 1e6:.0f} MB of weights"
    )
