"""The traps of generation and tokenizers. Those of tokenizers proper are in
tests/test_tokenizer.py."""

from __future__ import annotations

import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors

from llm_course.config import GenerationConfig
from llm_course.engine import generate
from llm_course.text import Tokenizer
from tests.helpers import CPU, random_ids, small_config, small_model
from tests.parity import report

GREEDY = GenerationConfig(max_new_tokens=6, do_sample=False)


def test_several_eos_and_pads_after_each_row_ends():
    model, config, ids = small_model(), small_config(), random_ids(4, 5)
    free = generate(model, ids, config, CPU, GREEDY)[:, 5:]
    eos = [int(free[0, 1]), int(free[1, 3])]
    out = generate(model, ids, config, CPU, GREEDY, eos_token_id=eos, pad_token_id=95)[
        :, 5:
    ]
    longest = 0
    for row, wanted in zip(out.tolist(), free.tolist(), strict=True):
        end = next(
            (i + 1 for i, token in enumerate(wanted) if token in eos), len(wanted)
        )
        wanted[end:] = [95] * (len(wanted) - end)
        assert row == wanted[: len(row)]
        longest = max(longest, end)
    # it goes on until the last row has ended, and no further
    assert out.shape[1] == longest


def test_pad_defaults_to_the_first_eos_and_a_row_after_eos_changes_no_other():
    model, config, ids = small_model(), small_config(), random_ids(2, 5)
    free = generate(model, ids, config, CPU, GREEDY)[:, 5:]
    eos = int(free[0, 0])
    out = generate(model, ids, config, CPU, GREEDY, eos_token_id=eos)[:, 5:]
    assert (out[0] == eos).all()
    alone = generate(model, ids[1:], config, CPU, GREEDY, eos_token_id=eos)[:, 5:]
    assert torch.equal(out[1:, : alone.shape[1]], alone)


def test_an_eos_in_the_prompt_stops_nothing():
    """Nor does a prompt of nothing but EOS: only generated tokens end a row."""
    model, config, ids = small_model(), small_config(), random_ids(2, 5)
    free = generate(model, ids, config, CPU, GREEDY)
    in_prompt = sorted(
        set(ids.flatten().tolist()) - set(free[:, 5:].flatten().tolist())
    )
    assert in_prompt
    assert torch.equal(
        generate(model, ids, config, CPU, GREEDY, eos_token_id=in_prompt), free
    )
    eos = in_prompt[0]
    all_eos = torch.full((1, 3), eos)
    wanted = generate(model, all_eos, config, CPU, GREEDY)
    out = generate(
        model, all_eos, config, CPU, GREEDY, eos_token_id=eos, pad_token_id=eos
    )
    stop = next((i for i in range(3, 9) if wanted[0, i] == eos), 8)
    assert torch.equal(out, wanted[:, : stop + 1])


def test_pads_are_not_inferred_from_ids():
    """A prompt may begin with the pad's id, or hold it: only the mask says what is
    padding."""
    model, config = small_model(), small_config()
    ids = random_ids(2, 5)
    ids[0, :2] = ids[1, 3] = 0
    told = torch.ones_like(ids)
    wanted = generate(model, ids, config, CPU, GREEDY, attention_mask=told)
    for pad in (0, 7):
        out = generate(
            model, ids, config, CPU, GREEDY, eos_token_id=None, pad_token_id=pad
        )
        assert torch.equal(out, wanted)


def test_a_tokenizer_that_would_add_bos_is_told_not_to():
    """Llama's own tokenizers put BOS before every text; the chat template writes it as
    well."""
    backend = tokenizers.Tokenizer(
        models.WordLevel({"<s>": 0, "hi": 1, "you": 2}, unk_token="<s>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<s>"])
    backend.post_processor = processors.TemplateProcessing(
        "<s> $A", special_tokens=[("<s>", 0)]
    )
    assert backend.encode("hi you").ids == [0, 1, 2]
    template = (
        "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    )
    tokenizer = Tokenizer(backend, bos_token_id=0, chat_template=template)
    assert tokenizer.encode("hi you") == [1, 2]
    assert tokenizer.encode_chat([{"role": "user", "content": "hi you"}]) == [0, 1, 2]


def test_smollm2_theta_is_read_from_its_file(smollm2):
    model, _ = smollm2
    assert model.config.rope_theta == 100_000.0
    frequencies = model.layers[0].self_attn.rotary.inv_freq
    torch.testing.assert_close(frequencies[-1].item(), 100_000.0 ** (-62 / 64))


def test_tokens_are_compared_in_float32_only():
    """Where rounding is coarse an argmax may differ, so bfloat16 has a tolerance and
    never equality."""
    assert {row.dtype for row in report.rows() if row.tolerance == 0} == {"float32"}
    assert {row.tolerance for row in report.rows() if row.dtype == "bfloat16"} == {2e-2}
    model, ids = small_model(), random_ids(4, 12)
    with torch.inference_mode():
        exact, coarse = model(ids), model.bfloat16()(ids).float()
    error = (coarse - exact).abs().max() / exact.abs().max()
    assert 1e-4 < error < 5e-2  # a float32 tolerance would fail, and rightly so
