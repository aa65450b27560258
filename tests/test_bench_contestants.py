"""Who takes part in the benchmark: what each generates, reads and is fed."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llm_course.bench import child, llama, measure
from llm_course.bench.contestants import (
    Contestant,
    ours,
    reference_model,
    theirs,
    weight_bytes,
)
from llm_course.bench.results import (
    CACHED,
    EXACT,
    FUSED,
    NATIVE,
    OURS,
    REFERENCE,
    REFERENCE_LOOP,
    REFERENCE_UNCACHED,
    THEIRS,
    UNCACHED,
    CacheMemory,
)
from llm_course.checkpoints import load_pretrained
from tests.helpers import random_ids, small_config, small_model


@pytest.fixture
def both(tiny_folder):
    """(our model, that of transformers) on one folder of tiny random weights."""
    folder = tiny_folder()
    return load_pretrained(folder)[0], reference_model(folder)


def told(contestant: Contestant, prompt: torch.Tensor, n: int) -> torch.Tensor:
    return torch.tensor(child.generate(contestant, prompt.tolist(), n)["tokens"])


@pytest.mark.slow
def test_contestants_with_the_same_weights_generate_the_same_tokens(both):
    model, reference = both
    prompt = random_ids(3, 7, vocab_size=40)
    contestants = {name: ours(name, model) for name in OURS}
    contestants |= {name: theirs(name, reference) for name in THEIRS}
    tokens = {name: told(c, prompt, 12) for name, c in contestants.items()}
    assert all(found.shape == (3, 12) for found in tokens.values())
    for name in EXACT:
        assert torch.equal(tokens[name], tokens[CACHED])
    assert len(tokens[CACHED].unique()) > 5  # not one token over and over
    case = measure.Case(prompt, dict.fromkeys(tokens, 12))
    measure.check_same_tokens(tokens, case, model)


def test_what_a_forward_pass_reads(both):
    model, reference = both
    full = weight_bytes(model)
    assert {ours(n, model).read for n in (UNCACHED, CACHED, FUSED)} == {full}
    assert {theirs(n, reference).read for n in THEIRS} == {full}
    kinds = {kind: ours(name, model).read for kind, name in NATIVE.items()}
    # packed matrices are filled up to whole tiles; norms are not counted
    assert kinds["float32"] == 2 * kinds["bfloat16"]
    assert kinds["bfloat16"] > kinds["int8"] > kinds["q4_1"]


def test_perplexity_is_that_of_the_next_tokens(both):
    model, reference = both
    ids = random_ids(1, 20, vocab_size=40)
    with torch.inference_mode():
        chances = model(ids)[0].softmax(dim=-1)
    right = [-math.log(chances[i, ids[0, i + 1]]) for i in range(19)]
    expected = pytest.approx(math.exp(sum(right) / 19), rel=1e-5)
    for contestant in (
        ours(CACHED, model),
        ours(NATIVE["float32"], model),
        theirs(REFERENCE, reference),
    ):
        assert child.perplexity(contestant, ids[0].tolist()) == expected


def test_with_a_cache_each_step_feeds_one_token_and_without_it_all(both):
    model, reference = both
    grows, single = [(2, 5), (2, 6), (2, 7)], [(2, 5), (2, 1), (2, 1)]
    for network, make, name, shapes in (
        (model, ours, UNCACHED, grows),
        (model, ours, CACHED, single),
        (reference, theirs, REFERENCE_LOOP, single),
        (reference, theirs, REFERENCE, single),
        (reference, theirs, REFERENCE_UNCACHED, grows),
    ):
        fed: list[tuple[int, ...]] = []
        hook = network.register_forward_pre_hook(
            lambda _, args, given, fed=fed: fed.append(
                tuple((args[0] if args else given["input_ids"]).shape)
            ),
            with_kwargs=True,
        )
        tokens = told(make(name, network), random_ids(2, 5, vocab_size=40), 3)
        hook.remove()
        assert (tokens.shape, fed) == ((2, 3), shapes)


def test_transformers_computes_the_last_logits_only_and_without_gradients(both):
    _, reference = both
    seen = []

    def look(_module, _args, out) -> None:
        seen.append((tuple(out.logits.shape), out.logits.requires_grad))

    reference.register_forward_hook(look)
    for name in (REFERENCE, REFERENCE_LOOP):
        told(theirs(name, reference), random_ids(2, 5, vocab_size=40), 2)
    assert seen == [((2, 1, 40), False)] * 4


def test_transformers_has_the_same_weights_and_pytorchs_attention(both):
    model, reference = both
    assert reference.config._attn_implementation == "sdpa"
    assert {p.dtype for p in reference.parameters()} == {torch.float32}
    assert not reference.training
    others = reference.state_dict()
    for name, weight in model.state_dict().items():
        # whose rows stand in another order
        if "q_proj" not in name and "k_proj" not in name:
            other = others[name if "lm_head" in name else f"model.{name}"]
            assert torch.equal(weight, other)
    prompt = random_ids(1, 9, vocab_size=40)
    with torch.inference_mode():
        torch.testing.assert_close(model(prompt), reference(prompt).logits)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_read_by_a_pass(tied):
    model = small_model(tie_word_embeddings=tied)
    table = 96 * 64 * 4
    layer = (64 * 64 * 2 + 64 * 16 * 2 + 3 * 64 * 80 + 2 * 64) * 4
    assert weight_bytes(model) == 2 * layer + 64 * 4 + table


def test_the_cache_takes_what_the_formula_says():
    memory = measure.cache_memory(small_model(), random_ids(3, 5), new_tokens=4)
    config = small_config()
    numbers = 2 * config.num_layers * 3 * config.num_kv_heads * 9 * config.head_dim
    assert memory == CacheMemory(9, 3, numbers * 4, numbers * 4)


# llama.cpp, with a library made up.


def test_llama_makes_a_file_of_each_kind_once(clean_environment, tmp_path, monkeypatch):
    made: list[tuple[int, bool]] = []

    def quantize(source: bytes, target: bytes, params) -> int:
        made.append((params._obj.ftype, params._obj.allow_requantize))
        Path(target.decode()).write_bytes(Path(source.decode()).read_bytes())
        return 0

    class Params(llama.ctypes.Structure):
        _fields_ = [
            ("ftype", llama.ctypes.c_int),
            ("allow_requantize", llama.ctypes.c_bool),
        ]

    library = SimpleNamespace(
        llama_model_quantize_default_params=Params, llama_model_quantize=quantize
    )
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    source = tmp_path / "Some.Q4_1.gguf"
    source.write_bytes(b"GGUF")
    assert llama.quantized(source, "Q4_1") == source
    for kind in (*llama.FILE_TYPES, *llama.FILE_TYPES):
        file = llama.quantized(source, kind)
        assert file == clean_environment / "llama.cpp" / f"Some.{kind}.gguf"
        assert file.read_bytes() == b"GGUF"
    assert made == [(0, True), (1, True), (7, True)]
    library.llama_model_quantize = lambda *args: 1
    with pytest.raises(RuntimeError, match="could not make"):
        llama.quantized(tmp_path / "Other.Q4_1.gguf", "F16")


def test_llama_is_fed_the_prompt_and_then_token_by_token():
    fed: list[list[int]] = []
    buffer = (llama.ctypes.c_float * 5)()

    def logits(_context, _which):  # the token after t is t + 1, in one buffer for all
        buffer[:] = [float(i == (fed[-1][-1] + 1) % 5) for i in range(5)]
        return llama.ctypes.cast(buffer, llama.ctypes.POINTER(llama.ctypes.c_float))

    model = SimpleNamespace(
        reset=lambda: fed.append([]), eval=fed.append, ctx=None, n_vocab=lambda: 5
    )
    speaker = llama.Speaker(SimpleNamespace(llama_get_logits_ith=logits), model)
    tokens: list[int] = []
    speaker.generate(torch.tensor([[0, 3, 1]]), 3, lambda t: tokens.append(t.item()))
    assert (fed, tokens) == ([[], [0, 3, 1], [2], [3]], [2, 3, 4])
    found = speaker.logits(torch.tensor([[3, 0]]))
    assert found.argmax(dim=-1).tolist() == [4, 1]
