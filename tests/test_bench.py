"""The benchmark: its arithmetic on made-up times, its contestants on tiny models, its
command line.

No test asserts how long anything takes.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llm_course.bench import measure, report
from llm_course.bench.__main__ import QUICK, main, parse
from llm_course.bench.contestants import (
    Contestant,
    our_stream,
    ours,
    reference_model,
    streamed,
    their_generate,
    their_loop,
    theirs,
    weight_bytes,
)
from llm_course.bench.results import (
    CACHED,
    PREPARED,
    REFERENCE,
    REFERENCE_LOOP,
    REFERENCE_UNCACHED,
    UNCACHED,
    CacheMemory,
    CaseResult,
    Results,
    Target,
    Timing,
    as_json,
    growth,
    speedup,
    summary,
    targets,
    times_as_fast,
)
from llm_course.checkpoints import load_pretrained
from llm_course.engine import prepare_for_inference
from tests.helpers import random_ids, small_config, small_model

GB = 1e9


def timings(*pairs: tuple[float, float]) -> list[Timing]:
    return [Timing(first, later) for first, later in pairs]


# In the second round everything takes ten times as long: ratios within a round do not
# see it.
CASE = CaseResult(
    prompt=32,
    batch=1,
    new_tokens={UNCACHED: 64, PREPARED: 64, REFERENCE: 64},
    timings={
        UNCACHED: timings((0.2, 0.4), (2.0, 4.0), (0.2, 0.4)),
        PREPARED: timings((0.1, 0.05), (1.0, 0.5), (0.1, 0.05)),
        REFERENCE: timings((0.2, 0.1), (2.0, 1.0), (0.3, 0.08)),
    },
    bandwidth=[40 * GB, 4 * GB, 40 * GB],
)
LONG = replace(CASE, prompt=512)
MACHINE = {
    "threads": 2,
    "processor": "x86_64",
    "torch": "2.13",
    "transformers": "5.0",
    "rounds": 3,
}


def made_up(**changes: object) -> Results:
    short = CaseResult(
        64, 1, {PREPARED: 16}, {PREPARED: timings((1, 0.1), (1, 0.2))}, [GB, GB]
    )
    long = CaseResult(
        2048, 1, {PREPARED: 16}, {PREPARED: timings((9, 0.12), (9, 0.28))}, [GB, GB]
    )
    results = Results(
        machine=MACHINE,
        model="a-model",
        weight_bytes=500_000_000,
        cases=[CASE, LONG],
        growth=[short, long],
        memory=[CacheMemory(tokens=96, batch=1, measured=1000, formula=1000)],
        load=[0.5, 9.0, 0.4],
    )
    return replace(results, **changes)


def without_reference(case: CaseResult) -> CaseResult:
    return replace(
        case, timings={n: t for n, t in case.timings.items() if n != REFERENCE}
    )


# The arithmetic.


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert times_as_fast([1.0, 10.0, 1.0], than=[2.0, 20.0, 8.0]) == 2.0
    assert times_as_fast([2.0], than=[1.0]) == 0.5
    with pytest.raises(ValueError, match="argument 2 is longer"):
        times_as_fast([1.0], than=[1.0, 2.0])


def test_the_summary_of_a_row():
    row = summary(CASE, PREPARED, weight_bytes=500_000_000)
    assert row == {
        "first_seconds": 0.1,
        "first_speedup": 2.0,  # 2, 2 and 3
        "later_seconds": 0.05,
        "later_speedup": 2.0,  # 2, 2 and 1.6
        "later_speedup_over_no_cache": 8.0,
        "tokens_per_second": 20.0,
        "weights_gb_per_second": 10.0,
        "share_of_bandwidth": 0.25,  # in each round
    }
    assert summary(replace(CASE, batch=8), PREPARED, 1)["tokens_per_second"] == 160.0
    assert summary(CASE, REFERENCE, 1)["later_speedup"] == 1.0


def test_a_ratio_to_a_contestant_that_is_not_there_is_none():
    alone = without_reference(CASE)
    assert speedup(alone, PREPARED, REFERENCE, "later") is None
    assert speedup(alone, REFERENCE, PREPARED, "later") is None
    assert summary(alone, PREPARED, 1)["first_speedup"] is None


def test_growth_compares_rounds():
    assert growth(made_up()) == {PREPARED: pytest.approx(1.3)}  # 1.2 and 1.4
    assert growth(made_up(growth=[])) == {}


def test_targets_speak_of_what_was_measured():
    found = {
        t.what: (round(t.measured, 3), t.bound, t.reached) for t in targets(made_up())
    }
    assert found == {
        "decode, prompt 32: x transformers": (2.0, 1.3, True),
        "decode, prompt 32: x no cache": (8.0, 4.0, True),
        "prefill of 512: x transformers": (2.0, 1.1, True),
        "a token at 2,048 against one at 64": (1.3, 1.5, True),
        "load_pretrained, seconds": (0.5, 1.5, True),
    }
    alone = made_up(cases=[without_reference(CASE)], growth=[], load=[])
    assert [t.what for t in targets(alone)] == ["decode, prompt 32: x no cache"]
    fewer = replace(CASE, new_tokens=dict.fromkeys(CASE.new_tokens, 16))
    batch = replace(CASE, batch=8)
    assert targets(made_up(cases=[fewer, batch], growth=[], load=[])) == []


@pytest.mark.parametrize(
    ("measured", "at_least", "reached"),
    [(1.3, True, True), (1.29, True, False), (1.3, False, True), (1.31, False, False)],
)
def test_a_bound_is_met_from_its_side(measured, at_least, reached):
    assert Target("", measured, 1.3, at_least).reached is reached


@pytest.mark.parametrize(
    ("prompt", "batch", "tokens", "with_all"),
    [(32, 1, 64, 64), (512, 1, 8, 8), (32, 8, 13, 13), (512, 8, 0, 2)],
)
def test_fewer_tokens_where_each_recomputes_a_long_sequence(
    prompt, batch, tokens, with_all
):
    assert measure.tokens_without_cache(prompt, batch, 64) == tokens
    assert measure.tokens_without_cache(prompt, batch, 64, everything=True) == with_all
    assert measure.tokens_without_cache(prompt, batch, 3) == min(tokens, 3)


# Table, JSON, figure.


def test_the_table_line_by_line():
    few = replace(CASE, new_tokens=CASE.new_tokens | {UNCACHED: 8})
    assert report.table(few, 500_000_000).splitlines() == [
        "prompt 32, batch 1, 64 new tokens",
        (
            "                 first token  x ref  each after it  x ref  x no cache "
            " tokens/s  GB/s  of memory"
        ),
        (
            "no cache (8)        200.0 ms   1.00       400.0 ms   0.25        1.00     "
            "  2.5   1.2         3%"
        ),
        (
            "cache, prepared     100.0 ms   2.00        50.0 ms   2.00        8.00     "
            " 20.0  10.0        25%"
        ),
        (
            "transformers        300.0 ms   1.00       100.0 ms   1.00        4.00     "
            " 10.0   5.0        12%"
        ),
    ]
    note = "the first n tokens only"
    assert note in report.text(made_up(cases=[few]))
    assert note not in report.text(made_up())


def test_the_text_holds_all_that_was_measured():
    text = report.text(made_up(notes=["A note."]))
    for line in (
        (
            "a-model: 500.0 MB of weights, float32, 2 threads of x86_64, torch 2.13,"
            " transformers 5.0"
        ),
        "time for one token at 2,048 tokens, relative to 64: cache, prepared 1.30",
        "cache of 96 tokens, batch 1: 1,000 bytes, equal to the formula",
        "load_pretrained: 0.50 s beyond `import torch`",
        "target: decode, prompt 32: x transformers: 2.00 (at least 1.3): reached",
        "A note.",
    ):
        assert line in text.splitlines()
    slow = report.text(made_up(load=[1.6], memory=[CacheMemory(96, 1, 1001, 1000)]))
    assert "target: load_pretrained, seconds: 1.60 (at most 1.5): NOT reached" in slow
    assert "1,001 bytes, NOT 1,000, as by the formula" in slow


def test_without_transformers_its_columns_are_left_out():
    alone = made_up(
        cases=[without_reference(CASE)],
        machine=MACHINE | {"transformers": None},
        growth=[],
    )
    text = report.text(alone)
    assert "x ref" not in text
    assert "transformers" not in text
    assert "x no cache" in text


def test_json_holds_each_round_and_the_figures_of_the_table():
    data = json.loads(json.dumps(as_json(made_up())))
    assert set(data) == {
        "machine",
        "model",
        "weight_bytes",
        "cases",
        "growth",
        "growth_ratio",
        "memory",
        "load",
        "notes",
        "targets",
    }
    case = data["cases"][0]
    assert case["timings"][PREPARED][1] == {"first": 1.0, "later": 0.5}
    assert case["bandwidth"] == CASE.bandwidth
    assert case["summary"][PREPARED] == summary(CASE, PREPARED, 500_000_000)
    assert data["growth_ratio"] == growth(made_up())
    assert data["targets"][0]["reached"] is True


@pytest.mark.parametrize("base", [REFERENCE, CACHED])
def test_the_figure_shows_rounds_and_medians(base):
    cases = [CASE, LONG]
    if base == CACHED:
        cases = [
            replace(
                c,
                timings={
                    (CACHED if n == REFERENCE else n): t for n, t in c.timings.items()
                },
            )
            for c in cases
        ]
    fig = report.figure(made_up(cases=cases))
    first, later, memory = fig.axes
    assert f"as {base} " in first.get_xlabel()
    assert f"as {base} " in later.get_xlabel()
    assert [t.get_text() for t in first.get_yticklabels()] == [
        "prompt 32\nbatch 1",
        "prompt 512\nbatch 1",
    ]
    for ax, values, middle in (
        (first, [2, 2, 3], 2),
        (later, [2, 2, 1.6], 2),
        (memory, [0.25, 0.25, 0.25], 0.25),
    ):
        rounds, point = ax.lines[2:4]  # the second contestant of the first case
        assert list(rounds.get_xdata()) == pytest.approx(values)
        assert list(point.get_xdata()) == pytest.approx([middle])
    assert [t.get_text() for t in fig.legends[0].get_texts()] == list(cases[0].timings)


# The contestants.


@pytest.fixture
def both(tiny_folder):
    """(our model, that of transformers) on one folder of tiny random weights."""
    folder = tiny_folder()
    return load_pretrained(folder)[0], reference_model(folder)


def told(generate, prompt: torch.Tensor, n: int) -> torch.Tensor:
    tokens: list[torch.Tensor] = []
    generate(prompt, n, tokens.append)
    return torch.cat(tokens, dim=-1)  # [B, n]


def test_all_contestants_generate_the_same_tokens(both):
    model, reference = both
    contestants = [*ours(model), *theirs(reference)]
    assert [c.name for c in contestants] == [
        UNCACHED,
        CACHED,
        PREPARED,
        REFERENCE,
        REFERENCE_LOOP,
        REFERENCE_UNCACHED,
    ]
    prompt = random_ids(3, 7, vocab_size=40)
    tokens = {c.name: told(c.generate, prompt, 12) for c in contestants}
    assert tokens[CACHED].shape == (3, 12)
    for found in tokens.values():
        assert torch.equal(found, tokens[CACHED])
    assert len(tokens[CACHED].unique()) > 5  # not one token over and over
    case = measure.Case(prompt, {c.name: 12 for c in contestants})
    measure.check_same_tokens(tokens, case, model)


def test_with_a_cache_each_step_feeds_one_token_and_without_it_all(both):
    model, reference = both
    grows, single = [(2, 5), (2, 6), (2, 7)], [(2, 5), (2, 1), (2, 1)]
    for network, use_cache, make in (
        (model, False, lambda model: streamed(our_stream(model, False))),
        (model, True, lambda model: streamed(our_stream(model, True))),
        (
            prepare_for_inference(model),
            True,
            lambda model: streamed(our_stream(model, True)),
        ),
        (reference, True, lambda model: streamed(their_loop(model))),
        (reference, True, lambda model: their_generate(model, True)),
        (reference, False, lambda model: their_generate(model, False)),
    ):
        fed: list[tuple[int, ...]] = []
        hook = network.register_forward_pre_hook(
            lambda _, args, given, fed=fed: fed.append(
                tuple((args[0] if args else given["input_ids"]).shape)
            ),
            with_kwargs=True,
        )
        assert told(make(network), random_ids(2, 5, vocab_size=40), 3).shape == (2, 3)
        hook.remove()
        assert fed == (single if use_cache else grows)


def test_transformers_computes_the_last_logits_only_and_without_gradients(both):
    _, reference = both
    seen = []

    def look(_module, _args, out) -> None:
        seen.append((tuple(out.logits.shape), out.logits.requires_grad))

    reference.register_forward_hook(look)
    for generate in (their_generate(reference, True), streamed(their_loop(reference))):
        told(generate, random_ids(2, 5, vocab_size=40), 2)
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
            assert torch.equal(
                weight, others[name if "lm_head" in name else f"model.{name}"]
            )
    prompt = random_ids(1, 9, vocab_size=40)
    with torch.inference_mode():
        torch.testing.assert_close(model(prompt), reference(prompt).logits)


def test_other_tokens_are_refused_with_the_gap_between_the_logits():
    model = small_model()
    prompt = random_ids(2, 5)
    right = torch.cat([*our_stream(model, True)(prompt, 6)], dim=-1)
    wrong = right.clone()
    wrong[1, 2] = (wrong[1, 2] + 1) % 96
    wrong[0, 4] = (wrong[0, 4] + 1) % 96  # a later step: not the one that is named
    case = measure.Case(prompt, {"a": 6, "b": 6})
    with pytest.raises(
        RuntimeError, match=r"prompt of 5, row 1, new token 2: 'b' chose"
    ) as error:
        measure.check_same_tokens({"a": right, "b": wrong}, case, model)
    with torch.inference_mode():
        logits = model(torch.cat([prompt[1], right[1, :2]])[None])[0, -1]
    gap = float(logits[right[1, 2]] - logits[wrong[1, 2]])
    assert f"differ by {gap:.1e}" in str(error.value)
    shorter = measure.Case(prompt, {"a": 6, "b": 2})
    measure.check_same_tokens({"a": right, "b": wrong[:, :2]}, shorter, model)


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


# The rounds, with contestants and a clock made up.


def scripted(log: list[str]) -> list[Contestant]:
    """Three contestants that log their turns and always yield token 1."""

    def make(name: str) -> Contestant:
        def stream(prompt: torch.Tensor, n: int) -> Iterator[torch.Tensor]:
            log.append(f"{name}{len(prompt)}")
            for _ in range(n):
                yield torch.ones(len(prompt), 1, dtype=torch.long)

        return Contestant(name, True, streamed(stream))

    return [make(name) for name in "abc"]


def test_times_are_taken_at_each_token():
    ticks = iter([10.0, 12.0, 12.5, 13.0, 14.0])
    timing, tokens = measure.timed(
        scripted([])[0], random_ids(2, 3), 4, lambda: next(ticks)
    )
    assert timing == Timing(first=2.0, later=pytest.approx(2.0 / 3))
    assert tokens.shape == (2, 4)


def test_all_take_turns_within_a_round_and_the_first_round_does_not_count():
    log: list[str] = []
    contestants = scripted(log)
    cases = [
        measure.Case(random_ids(1, 3), {"a": 2, "b": 2, "c": 2}),
        measure.Case(random_ids(8, 3), {"a": 2, "c": 2}),
    ]
    count = itertools.count()
    results = measure.run(
        contestants,
        cases,
        small_model(),
        2,
        lambda: 7.0,
        clock=lambda: float(next(count)),
    )
    assert log == [
        *("a1", "b1", "c1", "a8", "c8"),  # the tokens are compared
        *("a1", "b1", "c1", "a8", "c8"),
        *("b1", "c1", "a1", "c8", "a8"),
    ]
    assert [(r.prompt, r.batch, r.bandwidth) for r in results] == [
        (3, 1, [7.0, 7.0]),
        (3, 8, [7.0, 7.0]),
    ]
    assert results[1].timings == {name: [Timing(1.0, 1.0)] * 2 for name in "ac"}


def test_a_case_takes_random_ids_and_only_who_can_afford_it():
    def somebody(prompt, n, tell):
        raise AssertionError

    contestants = [
        Contestant("fast", True, somebody),
        Contestant("slow", False, somebody),
    ]
    case = measure.make_case(contestants, 50, 512, 1, 64, seed=3)
    assert case.prompt.shape == (1, 512)
    assert case.new_tokens == {"fast": 64, "slow": 8}
    assert measure.make_case(contestants, 50, 512, 8, 64).new_tokens == {"fast": 64}
    assert measure.make_case(
        contestants, 50, 9, 1, 16, cached_only=True
    ).new_tokens == {"fast": 16}
    again, other = (
        measure.make_case(contestants, 50, 512, 1, 64, seed=s) for s in (3, 4)
    )
    assert torch.equal(case.prompt, again.prompt)
    assert not torch.equal(case.prompt, other.prompt)


def test_bandwidth_is_bytes_a_second():
    assert measure.memory_bandwidth(1000)() > 0


# The command line.

SMALL = ["--rounds=1", "--prompts", "5", "--batches", "1", "2", "--new-tokens=4"]
SMALL += ["--contexts", "6", "12"]


def test_a_run_on_a_tiny_model(tiny_folder, tmp_path: Path, capsys):
    folder, file, picture = (
        tiny_folder(),
        tmp_path / "bench.json",
        tmp_path / "bench.png",
    )
    places = ["--json", str(file), "--figure", str(picture)]
    assert main(["--model", str(folder), *SMALL, *places]) == 0
    text, data = capsys.readouterr().out, json.loads(file.read_text("utf-8"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [(c["prompt"], c["batch"]) for c in data["cases"]] == [(5, 1), (5, 2)]
    names = [UNCACHED, CACHED, PREPARED, REFERENCE, REFERENCE_LOOP, REFERENCE_UNCACHED]
    for case in data["cases"]:
        assert list(case["timings"]) == list(case["summary"]) == names
        assert all(len(rounds) == 1 for rounds in case["timings"].values())
        assert all(
            row[0]["first"] > 0 < row[0]["later"] for row in case["timings"].values()
        )
        assert case["new_tokens"] == dict.fromkeys(names, 4)
    assert list(data["growth_ratio"]) == [CACHED, PREPARED, REFERENCE, REFERENCE_LOOP]
    assert [c["prompt"] for c in data["growth"]] == [6, 12]
    assert all(m["measured"] == m["formula"] > 0 for m in data["memory"])
    assert len(data["load"]) == 1
    assert data["machine"]["threads"] == torch.get_num_threads()
    assert [t["what"] for t in data["targets"]] == ["load_pretrained, seconds"]
    lines = text.splitlines()
    for name in names:
        assert sum(line.startswith(f"{name}  ") for line in lines) == 2
    assert "prompt 5, batch 2, 4 new tokens" in lines
    assert "time for one token at 12 tokens, relative to 6: cache " in text


def test_without_transformers_a_line_says_how_to_install_it(
    tiny_folder, monkeypatch, capsys
):
    folder = tiny_folder()
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(measure, "load_seconds", lambda model, times: [0.1] * times)
    assert main(["--model", str(folder), *SMALL, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)  # nothing else on stdout
    assert data["machine"]["transformers"] is None
    assert list(data["cases"][0]["timings"]) == [UNCACHED, CACHED, PREPARED]
    (note,) = data["notes"]
    assert "pip install 'transformers" in note


def test_the_options(monkeypatch, capsys):
    full = parse([])
    assert (full.rounds, full.prompts, full.batches, full.new_tokens) == (
        5,
        [32, 512],
        [1, 8],
        64,
    )
    quick = parse(["--quick", "--rounds", "7"])
    assert (quick.rounds, quick.prompts) == (7, QUICK["prompts"])
    for wrong in (
        ["--new-tokens", "1"],
        ["--rounds", "0"],
        ["--model", "nowhere.gguf"],
    ):
        with pytest.raises(SystemExit) as stopped:
            parse(wrong)
        assert stopped.value.code == 2
        assert wrong[0] in capsys.readouterr().err


def test_what_goes_wrong_is_one_line_and_status_1(tmp_path: Path, monkeypatch, capsys):
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert main(["--model", str(tmp_path), "--threads", "3"]) == 1
    assert threads == [3]
    assert "config.json" in capsys.readouterr().err


def test_what_is_left_out_is_said(tiny_folder, monkeypatch, capsys):
    monkeypatch.setattr(measure, "UNCACHED_POSITIONS", 5)
    monkeypatch.setattr(measure, "load_seconds", lambda model, times: [0.1] * times)
    monkeypatch.setitem(sys.modules, "transformers", None)
    folder = tiny_folder()
    assert main(["--model", str(folder), *SMALL]) == 0
    text = capsys.readouterr().out
    assert (
        "Left out at prompt 5, batch 2, where it takes long: 'no cache'. --all" in text
    )
    assert main(["--model", str(folder), *SMALL, "--all"]) == 0
    text = capsys.readouterr().out
    assert "Left out" not in text
    assert "no cache (2)" in text
