"""Bad values for every argument of every public function; tests/test_public_errors.py
tries them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from llm_course.config import EngineConfig, ModelConfig
from llm_course.engine import KVCache, Request

CONFIG = ModelConfig(
    vocab_size=40,
    hidden_dim=32,
    intermediate_dim=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
)
Q, K = torch.ones(1, 4, 3, 8), torch.ones(1, 2, 3, 8)
ANGLES = torch.ones(1, 3, 4)
IDS = torch.tensor([[1, 2, 3]])
LOGITS = torch.arange(80.0).view(2, 40)
FAR = torch.tensor([[-1, 0, 1]])  # positions of which one is before the first
BROKEN = torch.tensor([[0.5, 1.0, 2.0]])  # and such as are no whole numbers

INT: tuple[Any, ...] = ("x", None, 1.5, -1, True)
SIZE = (*INT, 0)
OPTIONAL_SIZE = ("x", 1.5, -1, 0)
NUMBER = ("x", None, math.nan, -1.0)
SHARE = (*NUMBER, 2.0)
FLAG = ("x", None, 3)
TENSOR = ("x", None, 3, [[1.0]])
FLOATS = (*TENSOR, torch.zeros(()), torch.zeros(2, 40, dtype=torch.long))
VECTORS = (*TENSOR, torch.zeros(3), torch.zeros(2, 4, dtype=torch.long))
TOKENS = (
    *("x", None, [[1]], BROKEN, torch.tensor([1, 2]), torch.zeros(1, 0).long()),
    *(torch.tensor([[99]]), torch.tensor([[-1]])),
)
MASK = ("x", [[1]], torch.ones(1, 7), torch.ones(3))
FULL_MASK = ("x", 3, torch.ones(1, 1, 3, 3), torch.ones(1, 1, 5, 5).bool())
POSITIONS = ("x", FAR, BROKEN, torch.tensor([[0, 1]]))
CACHE = ("x", 3, KVCache(CONFIG, 2))  # of two rows, where there is one
REQUESTS = (
    *(Request(()), Request((99,)), Request((1,), eos_ids=(40,)), Request((1,), n=0)),
    *(Request((1,), stop=("x",)), Request((1,), logprobs=-1), Request((1,), n=99)),
)
STOP = ("x", -1, 40, 1.5, [1.5], ["x"], True)
PAD = ("x", -1, 40, 1.5)
GENERATOR = ("x", 3)
DTYPE = ("x", None, 3)
DEVICE = ("x", 3, None)
MODEL = (None, "x", torch.nn.Linear(2, 2))
A_CONFIG = (None, "x", {}, 3)
ENGINE = ("x", {}, 3, EngineConfig("nope"), EngineConfig("cuda:7"))
SETTINGS = ("x", {}, 3)
HERE = Path(__file__).parent
NO_PATH = (None, 3, b"x", "", "a\0b")
NO_FILE = (*NO_PATH, "/no/such", "~nosuchuser/x", "a" * 300, __file__, HERE)
NO_PLACE = (*NO_PATH, "a" * 300, Path(__file__) / "x", Path("/proc/no/such"))
NAME = (None, 3, "nope", ["x"])
MANY_IDS = (None, 3, "x", ["x"], [1.5], [None], [-1])
MESSAGES = (
    *(None, 3, "x", [3], [None], [{}], [{"role": 1, "content": "x"}]),
    {"role": "user", "content": "x"},
)
HUGE = 10**400  # no float holds it
SCALING = (
    *("x", 3, {}, {"rope_type": "x"}, {"rope_type": ["x"]}, {"rope_type": "linear"}),
    {"rope_type": "linear", "factor": HUGE},
)
SIZES = ("vocab_size", "hidden_dim", "intermediate_dim", "num_layers", "num_heads")

# name -> argument -> bad values
BAD: dict[str, dict[str, tuple[Any, ...]]] = {
    "ModelConfig": dict.fromkeys(SIZES, SIZE)
    | {
        "num_kv_heads": ("x", 0, 3, 1.5),
        "head_dim": ("x", 0, 3, 1.5),
        "max_position_embeddings": SIZE,
        "rope_theta": (*NUMBER, 0.5, math.inf, HUGE),
        "rope_scaling": SCALING,
        "rms_norm_eps": (*NUMBER, HUGE),
        "tie_word_embeddings": FLAG,
    },
    "EngineConfig": {"device": (None, 3, ""), "dtype": (*DTYPE, ["x"], torch.float32)},
    "GenerationConfig": {
        "max_new_tokens": SIZE,
        "do_sample": FLAG,
        "temperature": (*NUMBER, HUGE),
        "top_k": ("x", -1, 1.5, True),
        "top_p": SHARE,
        "min_p": SHARE,
        "repetition_penalty": (*NUMBER, 0.0, HUGE),
        "seed": ("x", 1.5, True, 2**64),
        "use_cache": FLAG,
    },
    "ModelConfig.from_json": {"path": NO_FILE},
    "ModelConfig.from_dict": {
        "values": (*A_CONFIG[:2], 3, [1], {}, {1: 2}, {"a": 1, 2: 3}),
        "source": (),
    },
    "RMSNorm": {"hidden_dim": SIZE, "eps": NUMBER},
    "RMSNorm.forward": {"x": VECTORS},
    "MLP": {"hidden_dim": SIZE, "intermediate_dim": SIZE},
    "MLP.forward": {"x": VECTORS},
    "RotaryEmbedding": {
        "head_dim": (*SIZE, 3),
        "max_position_embeddings": SIZE,
        "rope_theta": (*NUMBER, 0.0),
        "rope_scaling": SCALING[:-1],
    },
    "RotaryEmbedding.forward": {
        "q": (*TENSOR, Q[..., :6]),
        "k": (*TENSOR, K[..., :6]),
        "position_ids": (*TENSOR, FAR, BROKEN, torch.arange(4)[None]),
    },
    "apply_rotary": {
        "x": (*TENSOR, Q[..., :6], Q[0]),
        "cos": (*TENSOR, ANGLES[..., :2]),
        "sin": (*TENSOR, ANGLES[..., :2]),
    },
    "SelfAttention": {
        "config": A_CONFIG,
        "layer_idx": INT,
        "rotary": ("x", 3),
    },
    "SelfAttention.forward": {
        "hidden_states": (*TENSOR, torch.ones(1, 3, 31), torch.ones(3, 32)),
        "attention_mask": FULL_MASK,
        "position_ids": POSITIONS,
        "kv_cache": CACHE,
    },
    "attention_weights": {
        "q": (*TENSOR, Q[..., :6], Q[0], Q[:, :3]),
        "k": (*TENSOR, K[..., :6]),
        "mask": FULL_MASK,
    },
    "capture_attention": {"model": MODEL, "layers": ("x", 3, [9], [-1], ["x"])},
    "DecoderLayer": {"config": A_CONFIG, "layer_idx": INT, "rotary": ("x", 3)},
    "DecoderOnlyModel": {"config": A_CONFIG},
    "DecoderOnlyModel.forward": {
        "input_ids": TOKENS,
        "attention_mask": MASK,
        "position_ids": POSITIONS,
        "kv_cache": CACHE,
        "last_only": FLAG,
    },
    "build_decoder_only_model": {
        "model_config": A_CONFIG,
        "engine_config": (None, *ENGINE),
    },
    "generate": {
        "model": MODEL,
        "input_ids": TOKENS,
        "model_config": A_CONFIG,
        "engine_config": (None, *ENGINE),
        "gen_config": SETTINGS,
        "eos_token_id": STOP,
        "logger": ("x", 3),
        "attention_mask": (*MASK, torch.tensor([[1, 1, 0]])),
        "pad_token_id": PAD,
        "generator": GENERATOR,
        "kv_cache": CACHE,
        "vocab_size": OPTIONAL_SIZE,
    },
    "generate_stream": {
        "model": MODEL,
        "input_ids": TOKENS,
        "gen_config": SETTINGS,
        "eos_token_id": STOP,
        "attention_mask": MASK,
        "pad_token_id": PAD,
        "generator": GENERATOR,
        "kv_cache": CACHE,
        "logger": ("x", 3),
        "vocab_size": OPTIONAL_SIZE,
    },
    "Guesser": {"config": A_CONFIG},
    "choose_token": {"logits": FLOATS, "config": A_CONFIG, "generator": GENERATOR},
    "sample_next_token": {
        "logits": FLOATS,
        "temperature": NUMBER,
        "top_k": ("x", -1, 1.5),
        "top_p": SHARE,
        "do_sample": FLAG,
        "min_p": SHARE,
        "generator": GENERATOR,
    },
    "top_k_filtering": {"logits": FLOATS, "top_k": ("x", -1, 1.5, True)},
    "top_p_filtering": {"logits": FLOATS, "top_p": SHARE},
    "min_p_filtering": {"logits": FLOATS, "min_p": SHARE},
    "apply_repetition_penalty": {
        "logits": FLOATS,
        "input_ids": (*TOKENS[:4], torch.tensor([[99]]), torch.tensor([[-1]])),
        "penalty": (*NUMBER, 0.0),
        "attention_mask": ("x", 3, torch.ones(1, 9)),
    },
    "cache_bytes": {
        "config": A_CONFIG,
        "num_tokens": INT,
        "batch_size": INT,
        "dtype": DTYPE,
    },
    "KVCache": {
        "config": A_CONFIG,
        "batch_size": SIZE,
        "capacity": SIZE,
        "max_length": OPTIONAL_SIZE,
        "device": DEVICE,
        "dtype": DTYPE,
        "buffers": ("x", 3, [], [torch.zeros(3)] * 2),
    },
    "KVCache.update": {
        "layer_idx": (*INT, 9),
        "k": (*TENSOR, K[:, :1]),
        "v": (*TENSOR, K[:, :1]),
    },
    "KVCache.advance": {"n": (*INT, 99)},
    "KVCache.truncate": {"length": (*INT, 9)},
    "KVCacheManager": {
        "config": A_CONFIG,
        "budget": INT,
        "device": DEVICE,
        "dtype": DTYPE,
    },
    "KVCacheManager.allocate": {"num_tokens": SIZE, "batch_size": SIZE},
    "KVCacheManager.free": {"cache": (None, *CACHE)},
    "Engine": {
        "model": MODEL,
        "tokenizer": ("x", 3),
        "budget": SIZE,
        "max_rows": SIZE,
        "max_step_tokens": SIZE,
        "page_size": SIZE,
        "clock": ("x", 3),
    },
    "Engine.add": {"request": ("x", None, *REQUESTS)},
    "Scheduler": {"pool": ("x", None), "max_rows": SIZE, "max_step_tokens": SIZE},
    "PagePool": {"num_pages": SIZE, "page_size": SIZE},
    "PagedCache": {
        "config": A_CONFIG,
        "num_pages": SIZE,
        "page_size": SIZE,
        "device": DEVICE,
        "dtype": DTYPE,
    },
    "prefill": {
        "model": MODEL,
        "input_ids": TOKENS,
        "cache": (None, *CACHE),
        "mask": MASK,
        "chunk_size": OPTIONAL_SIZE,
    },
    "decode": {
        "model": MODEL,
        "token": (*TOKENS, IDS),
        "cache": (None, *CACHE),
        "mask": MASK,
    },
    "make_cache": {
        "model": MODEL,
        "batch_size": SIZE,
        "capacity": SIZE,
        "max_length": OPTIONAL_SIZE,
    },
    "prepare_for_inference": {
        "model": MODEL,
        "weights": ("x", None, 3, ["int8"]),
        "threads": (*OPTIONAL_SIZE, True),
    },
    "NativeModel.forward": {
        "input_ids": TOKENS,
        "attention_mask": MASK,
        "position_ids": POSITIONS,
        "kv_cache": CACHE,
        "last_only": FLAG,
    },
    "FusedModel": {"model": MODEL},
    "pack": {
        "weight": ("x", None, torch.ones(4).numpy(), torch.ones(4, 4)),
        "kind": ("x", None, 3, ["x"]),
    },
    "Conversation": {"model": MODEL},
    "Conversation.stream": {
        "input_ids": (*MANY_IDS, [], [40]),
        "gen_config": SETTINGS,
        "eos_token_id": STOP,
        "generator": GENERATOR,
        "vocab_size": OPTIONAL_SIZE,
    },
    "load_pretrained": {
        "name_or_path": NO_FILE,
        "engine_config": ENGINE,
        "weights": ("x", None, 3, ["x"]),
        "threads": ("x", 0, 2, 1.5),
    },
    "load_pretrained from the file": {
        "name_or_path": NO_FILE,
        "engine_config": ENGINE[:3],
        "threads": (*OPTIONAL_SIZE, True),
    },
    "load_tensors": {"name_or_path": NO_FILE},
    "save_pretrained": {
        "model": MODEL,
        "tokenizer": ("x", 3),
        "folder": NO_PLACE,
        "overwrite": FLAG,
        "max_shard_bytes": SIZE,
    },
    "read_gguf": {"path": NO_FILE, "dtype": DTYPE},
    "read_folder": {"folder": NO_FILE},
    "convert_gguf": {"path": NO_FILE, "folder": NO_PLACE},
    "converted_folder": {"name": NAME},
    "ensure_gguf": {"name": NAME},
    "dequantize": {"data": ("x", None, 3, [1.0]), "kind": ("x", None, 99)},
    "to_adjacent": {"weight": (*TENSOR, torch.zeros(())), "num_heads": (*SIZE, 3, 8)},
    "to_half_split": {"weight": (*TENSOR, torch.zeros(())), "num_heads": (*SIZE, 3, 8)},
    "Tokenizer.from_folder": {"folder": NO_PATH},
    "Tokenizer.from_gguf_metadata": {"metadata": (None, 3, "x", [1])},
    "Tokenizer.encode": {
        "text": (None, 3, b"x", ["x"], "\ud800"),
        "parse_special": FLAG,
    },
    "Tokenizer.decode": {"ids": MANY_IDS, "skip_special_tokens": FLAG},
    "Tokenizer.decode_stream": {"ids": MANY_IDS, "skip_special_tokens": FLAG},
    "Tokenizer.tokens": {"ids": MANY_IDS},
    "Tokenizer.apply_chat_template": {
        "messages": MESSAGES,
        "add_generation_prompt": FLAG,
    },
    "Tokenizer.encode_chat": {"messages": MESSAGES, "add_generation_prompt": FLAG},
    "Tokenizer.save": {"path": NO_PLACE},
    "Tokenizer.name_of": {"token_id": ("x", 1.5, [1])},
}
