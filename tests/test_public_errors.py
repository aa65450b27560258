"""Bad input gives one of the project's own errors: one sentence with the value, raised
by a line of ours. Nothing of torch's, of json's or of the system's comes out."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

import llm_course
from llm_course import checkpoints, engine, models, text
from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from llm_course.errors import CheckpointError
from tests.bad_values import ANGLES, BAD, CONFIG, IDS, LOGITS, K, Q

# Public names that are not called, or not by readers: values, records, and what
# `prepare_for_inference` and `pack` make.
NOT_CALLED = {"PINNED_MODELS", "PinnedModel", "Checkpoint", "CacheStats", "cache_dir"}
NOT_CALLED |= {"NativeModel", "PackedMatrix", "Tokenizer"}
NOT_CALLED |= {"Handle", "Choice", "Delta", "Usage", "TokenLogprob", "Row", "PageTable"}
NOT_CALLED |= {"OutOfPages", "Request"}  # `Engine.add` judges a request
PACKAGE = str(Path(llm_course.__file__).parent)
Call = tuple[Callable[..., Any], dict[str, Any]]


@pytest.fixture(scope="module")
def calls(smollm2: Any, smollm2_gguf: Path, tmp_path_factory: Any) -> dict[str, Call]:
    """name -> (what is called, arguments that are good)."""
    folder = tmp_path_factory.mktemp("errors")
    model = models.build_decoder_only_model(CONFIG, EngineConfig("cpu"))
    tiny, tokenizer = folder / "tiny", smollm2[1]
    checkpoints.save_pretrained(model, None, tiny)
    return {
        **model_calls(model),
        **engine_calls(model),
        **reading_calls(model, tiny, smollm2_gguf),
        **tokenizer_calls(tokenizer, folder),
    }


def model_calls(model: models.DecoderOnlyModel) -> dict[str, Call]:
    sizes = {"vocab_size": 40, "hidden_dim": 32, "intermediate_dim": 48}
    sizes |= {"num_layers": 2, "num_heads": 4}
    q_and_k = {"q": Q, "k": K}
    at = {"position_ids": torch.arange(3)[None]}
    layer, x = models.SelfAttention(CONFIG), torch.ones(1, 3, 32)
    return {
        "ModelConfig": (ModelConfig, sizes),
        "EngineConfig": (EngineConfig, {}),
        "GenerationConfig": (GenerationConfig, {}),
        "ModelConfig.from_json": (ModelConfig.from_json, {}),
        "ModelConfig.from_dict": (ModelConfig.from_dict, {}),
        "RMSNorm": (models.RMSNorm, {"hidden_dim": 4}),
        "RMSNorm.forward": (models.RMSNorm(4).forward, {}),
        "MLP": (models.MLP, {"hidden_dim": 4, "intermediate_dim": 4}),
        "MLP.forward": (models.MLP(4, 4).forward, {}),
        "RotaryEmbedding": (models.RotaryEmbedding, {"head_dim": 8}),
        "RotaryEmbedding.forward": (models.RotaryEmbedding(8).forward, q_and_k | at),
        "apply_rotary": (models.apply_rotary, {"x": Q, "cos": ANGLES, "sin": ANGLES}),
        "SelfAttention": (models.SelfAttention, {"config": CONFIG}),
        "SelfAttention.forward": (layer.forward, {"hidden_states": x}),
        "attention_weights": (models.attention_weights, q_and_k | {"mask": None}),
        "capture_attention": (entered(models.capture_attention), {"model": model}),
        "DecoderLayer": (models.DecoderLayer, {"config": CONFIG}),
        "DecoderOnlyModel": (models.DecoderOnlyModel, {"config": CONFIG}),
        "DecoderOnlyModel.forward": (model.forward, {"input_ids": IDS}),
        "build_decoder_only_model": (
            models.build_decoder_only_model,
            {"model_config": CONFIG, "engine_config": EngineConfig("cpu")},
        ),
    }


def entered(manager: Callable[..., Any]) -> Callable[..., Any]:
    """A context manager as a call: it begins and ends."""

    def run(**arguments: Any) -> None:
        with manager(**arguments):
            pass

    return run


def engine_calls(model: models.DecoderOnlyModel) -> dict[str, Call]:
    prompt = {"model": model, "input_ids": IDS}
    settings = {"gen_config": GenerationConfig(max_new_tokens=2)}
    both = {"model_config": CONFIG, "engine_config": EngineConfig("cpu")}
    native = engine.prepare_for_inference(model)
    cut = {"logits": LOGITS}
    k_and_v = {"layer_idx": 0, "k": K, "v": K}
    one = {"logits": LOGITS[:1], "input_ids": IDS, "penalty": 1.5}

    def cache() -> engine.KVCache:
        return engine.KVCache(CONFIG)

    def manager() -> engine.KVCacheManager:
        return engine.KVCacheManager(CONFIG, 10**6)

    def fed(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **given: run(**{"cache": cache()} | given)

    return {
        "generate": (engine.generate, prompt | both | settings),
        "generate_stream": (first(engine.generate_stream), prompt | settings),
        "Guesser": (engine.Guesser, {}),
        "choose_token": (engine.choose_token, cut | {"config": GenerationConfig()}),
        "sample_next_token": (engine.sample_next_token, cut),
        "top_k_filtering": (engine.top_k_filtering, cut | {"top_k": 3}),
        "top_p_filtering": (engine.top_p_filtering, cut | {"top_p": 0.5}),
        "min_p_filtering": (engine.min_p_filtering, cut | {"min_p": 0.5}),
        "apply_repetition_penalty": (engine.apply_repetition_penalty, one),
        "cache_bytes": (engine.cache_bytes, {"config": CONFIG, "num_tokens": 3}),
        "KVCache": (engine.KVCache, {"config": CONFIG}),
        "KVCache.update": (lambda **a: cache().update(**a), k_and_v),
        "KVCache.advance": (lambda **a: cache().advance(**a), {}),
        "KVCache.truncate": (lambda **a: cache().truncate(**a), {}),
        "KVCacheManager": (engine.KVCacheManager, {"config": CONFIG, "budget": 9**9}),
        "KVCacheManager.allocate": (
            lambda **a: manager().allocate(**a),
            {"num_tokens": 3},
        ),
        "KVCacheManager.free": (lambda **a: manager().free(**a), {}),
        "prefill": (fed(engine.prefill), prompt),
        "decode": (fed(engine.decode), {"model": model, "token": IDS[:, :1]}),
        "make_cache": (engine.make_cache, {"model": model}),
        "prepare_for_inference": (engine.prepare_for_inference, {"model": model}),
        "NativeModel.forward": (native.forward, {"input_ids": IDS}),
        "FusedModel": (engine.FusedModel, {"model": model}),
        "pack": (engine.pack, {"weight": torch.ones(4, 32).numpy(), "kind": "q8_0"}),
        "Engine": (engine.Engine, {"model": model}),
        "Engine.add": (lambda **a: engine.Engine(model).add(**a), {}),
        "Scheduler": (
            engine.Scheduler,
            {"pool": engine.PagePool(9, 4), "max_rows": 2, "max_step_tokens": 8},
        ),
        "PagePool": (engine.PagePool, {"num_pages": 9, "page_size": 4}),
        "PagedCache": (engine.PagedCache, {"config": CONFIG, "num_pages": 9}),
        "Conversation": (engine.Conversation, {"model": model}),
        "Conversation.stream": (
            lambda **a: next(engine.Conversation(model).stream(**a)),
            {"input_ids": [1, 2]},
        ),
    }


def first(stream: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
    """A generator as a call: its first piece."""
    return lambda **arguments: next(stream(**arguments))


def reading_calls(
    model: models.DecoderOnlyModel, tiny: Path, gguf: Path
) -> dict[str, Call]:
    load, name = checkpoints.load_pretrained, {"name": "smollm2-135m-instruct"}
    tiny_model = {"name_or_path": tiny, "engine_config": EngineConfig("cpu")}
    new = {"folder": tiny.parent / "new"}
    heads = {"weight": torch.ones(8, 4), "num_heads": 2}
    stored = {"data": torch.ones(4).numpy(), "kind": GGMLQuantizationType.F32}
    return {
        "load_pretrained": (load, tiny_model),
        "load_pretrained from the file": (
            lambda **a: load(weights="file", **a),
            {"name_or_path": gguf},
        ),
        "load_tensors": (checkpoints.load_tensors, {}),
        "save_pretrained": (
            checkpoints.save_pretrained,
            {"model": model, "tokenizer": None} | new,
        ),
        "read_gguf": (checkpoints.read_gguf, {"path": gguf}),
        "read_folder": (checkpoints.read_folder, {}),
        "convert_gguf": (checkpoints.convert_gguf, {"path": gguf} | new),
        "converted_folder": (checkpoints.converted_folder, name),
        "ensure_gguf": (checkpoints.ensure_gguf, name),
        "dequantize": (checkpoints.dequantize, stored),
        "to_adjacent": (checkpoints.to_adjacent, heads),
        "to_half_split": (checkpoints.to_half_split, heads),
    }


def tokenizer_calls(tokenizer: Any, folder: Path) -> dict[str, Call]:
    chat = {"messages": [{"role": "user", "content": "x"}]}
    stream = tokenizer.decode_stream
    return {
        "Tokenizer.from_folder": (text.Tokenizer.from_folder, {}),
        "Tokenizer.from_gguf_metadata": (text.Tokenizer.from_gguf_metadata, {}),
        "Tokenizer.encode": (tokenizer.encode, {"text": "x"}),
        "Tokenizer.decode": (tokenizer.decode, {"ids": [1]}),
        "Tokenizer.decode_stream": (lambda **a: [*stream(**a)], {"ids": [1]}),
        "Tokenizer.tokens": (tokenizer.tokens, {}),
        "Tokenizer.apply_chat_template": (tokenizer.apply_chat_template, chat),
        "Tokenizer.encode_chat": (tokenizer.encode_chat, chat),
        "Tokenizer.save": (tokenizer.save, {"path": folder / "t.json"}),
        "Tokenizer.name_of": (tokenizer.name_of, {}),
    }


def shown(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor {list(value.shape)} {value.dtype}"
    return f"{value!r:.60}"


def fault(call: Call, argument: str, value: object) -> str | None:
    """What is wrong with the answer to a bad value; None where all is well."""
    function, good = call
    try:
        function(**good | {argument: value})
    except BaseException as error:
        return fault_of(error, value)
    return "is accepted"


def fault_of(error: BaseException, value: object) -> str | None:
    """An error is ours if a `raise` of the package's sent it; its text has the value,
    its shape or its type."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    assert trace
    file, message = trace.tb_frame.f_code.co_filename, str(error)
    line = linecache.getline(file, trace.tb_lineno).strip()
    ours = file.startswith(PACKAGE) and line.startswith("raise ")
    if not ours or not isinstance(error, ValueError | TypeError | CheckpointError):
        return f"{type(error).__name__}: {message[:200]}"
    said = [type(value).__name__, *parts(value)]
    if not any(text in message for text in said) or len(message) > 1000:
        return f"the message does not say the value: {message[:200]}"
    return None


def parts(value: object) -> Iterator[str]:
    """How a message may spell a value, or the part of it that is wrong."""
    if isinstance(value, torch.Tensor | np.ndarray):
        yield from (str([*value.shape]), str(value.dtype), type(value).__name__)
        yield from map(str, value.flatten().tolist())
    elif isinstance(value, engine.KVCache):
        yield from (f"{value.batch_size} rows", f"[{value.batch_size}, ")
    elif is_dataclass(value):
        for part in vars(value).values():
            yield from (repr(part), *map(repr, part if isinstance(part, tuple) else ()))
    else:
        yield from (str(value), repr(value)[:60], repr(value)[1:-1])
        if isinstance(value, list | dict):
            yield from map(repr, value)


PAIRS = [
    pytest.param(name, argument, id=f"{name}.{argument}")
    for name, table in BAD.items()
    for argument in table
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "argument"), PAIRS)
def test_bad_values_give_our_errors(
    name: str, argument: str, calls: dict[str, Call]
) -> None:
    found = [
        f"{name}: {argument} = {shown(value)} {reason}"
        for value in BAD[name][argument]
        if (reason := fault(calls[name], argument, value))
    ]
    assert found == []


def test_every_public_name_is_in_the_table() -> None:
    packages = (models, engine, checkpoints, text)
    names = set(chain.from_iterable(package.__all__ for package in packages))
    assert names - NOT_CALLED - {name.split(".")[0] for name in BAD} == set()


@pytest.mark.parametrize("package", [models, engine, checkpoints])
def test_every_argument_is_in_the_table(package: Any) -> None:
    for name in set(package.__all__) & BAD.keys():
        have = inspect.signature(getattr(package, name)).parameters.keys()
        assert BAD[name].keys() == have - {"self"}, name
