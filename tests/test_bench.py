"""The benchmark's arithmetic, and how it reports, on made-up times."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from llm_course.bench import report
from llm_course.bench.figure import figure
from llm_course.bench.results import (
    CACHED,
    REFERENCE,
    UNCACHED,
    CacheMemory,
    growth,
    speedup,
    summary,
    times_as_fast,
)
from llm_course.bench.targets import Target, as_json, targets
from tests.bench_tools import (
    CASE,
    F32,
    FLOAT,
    GB,
    INT8,
    LONG,
    MACHINE,
    Q4,
    Q4_1,
    Q8_0,
    READ,
    made_up,
    only,
    steady,
    timings,
)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    assert times_as_fast([1.0, 10.0, 1.0], than=[2.0, 20.0, 8.0]) == 2.0
    assert times_as_fast([2.0], than=[1.0]) == 0.5
    with pytest.raises(ValueError, match="argument 2 is longer"):
        times_as_fast([1.0], than=[1.0, 2.0])


def test_the_summary_of_a_row():
    row = summary(CASE, FLOAT, READ[FLOAT])
    assert row == {
        "first_seconds": 0.1,
        "first_speedup": 2.0,  # 2, 2 and 3
        "first_speedup_over_llama": pytest.approx(1.1),  # 1.1, 1.1 and 2
        "later_seconds": 0.05,
        "later_speedup": 2.0,  # 2, 2 and 1.6
        "later_speedup_over_llama": pytest.approx(1.4),  # 1.4, 1.4 and 1.2
        "later_speedup_over_no_cache": 8.0,
        "tokens_per_second": 20.0,
        "prompt_tokens_per_second": 320.0,
        "weights_gb_per_second": 10.0,
        "share_of_bandwidth": 0.25,  # in each round
    }
    assert summary(replace(CASE, batch=8), FLOAT, 1)["tokens_per_second"] == 160.0
    assert summary(CASE, REFERENCE, 1)["later_speedup"] == 1.0


def test_each_kind_of_weights_is_compared_with_its_counterpart():
    case = replace(
        CASE,
        timings={
            name: timings((1.0, later))
            for name, later in ((INT8, 1.0), (Q8_0, 3.0), (Q4_1, 5.0), (F32, 7.0))
        },
        bandwidth=[GB],
    )
    found = {n: summary(case, n, 1)["later_speedup_over_llama"] for n in case.timings}
    assert found == {INT8: 3.0, Q8_0: 7 / 3, Q4_1: 1.4, F32: 1.0}


def test_a_ratio_to_a_contestant_that_is_not_there_is_none():
    alone = only(CASE, UNCACHED, FLOAT)
    assert speedup(alone, FLOAT, REFERENCE, "later") is None
    assert speedup(alone, REFERENCE, FLOAT, "later") is None
    assert summary(alone, FLOAT, 1)["first_speedup"] is None
    assert summary(alone, FLOAT, 1)["later_speedup_over_llama"] is None


def test_growth_compares_rounds():
    assert growth(made_up()) == {FLOAT: pytest.approx(1.3)}  # 1.2 and 1.4
    assert growth(made_up(growth=[])) == {}


# Targets.


def test_targets_speak_of_what_was_measured():
    found = {
        t.what: (round(t.measured, 3), t.bound, t.verdict) for t in targets(made_up())
    }
    assert found == {
        f"decode at 32: {FLOAT}, x {F32}": (1.4, 1.2, "reached"),
        f"decode at 32: {FLOAT}, share of the bandwidth": (0.25, 0.9, "disturbed"),
        f"prefill of 512: {FLOAT}, x {REFERENCE}": (2.0, 1.2, "reached"),
        f"prefill of 512: {FLOAT}, x {F32}": (1.1, 1.2, "disturbed"),
        f"a token at 2,048 against one at 64: {FLOAT}": (1.3, 1.4, "reached"),
        f"perplexity: {INT8}, % above float32": (0.4, 0.5, "reached"),
        "load_pretrained, seconds": (0.5, 1.5, "reached"),
    }
    nothing = {"growth": [], "load": [], "perplexity": {}}
    alone = made_up(cases=[only(CASE, FLOAT)], **nothing)
    assert [t.bound for t in targets(alone)] == [0.9]
    fewer = replace(CASE, new_tokens=dict.fromkeys(CASE.new_tokens, 16))
    rows = replace(CASE, batch=8)
    assert targets(made_up(cases=[fewer, rows], **nothing)) == []


def test_the_targets_of_each_kind_and_of_rows():
    times = ((INT8, 1.0), (Q8_0, 1.4), (Q4, 1.0), (Q4_1, 1.8), (FLOAT, 1.0))
    times = {name: timings((1.0, later)) for name, later in (*times, (REFERENCE, 3.5))}
    one = replace(CASE, timings=times, bandwidth=[0.2 * GB])
    found = {
        t.what: (round(t.measured, 3), t.bound, t.verdict)
        for t in targets(made_up(cases=[one, replace(one, batch=16)], growth=[]))
    }
    assert list(found.items())[:5] == [
        (f"decode at 32: {INT8}, x {Q8_0}", (1.4, 1.5, "NOT reached")),
        (f"decode at 32: {Q4}, x {Q4_1}", (1.8, 1.7, "reached")),
        (f"decode at 32: {FLOAT}, share of the bandwidth", (2.5, 0.9, "reached")),
        (f"decode at 32: {INT8}, share of the bandwidth", (0.7, 0.7, "reached")),
        (f"decode at 32, 16 rows: {FLOAT}, x {REFERENCE}", (3.5, 3.0, "reached")),
    ]


@pytest.mark.parametrize(
    ("measured", "at_least", "spread", "verdict"),
    [
        (1.3, True, 0.0, "reached"),
        (1.29, True, 0.2, "NOT reached"),
        (1.29, True, 0.21, "disturbed"),
        (1.3, False, 9.0, "reached"),
        (1.31, False, 0.0, "NOT reached"),
    ],
)
def test_a_bound_is_met_from_its_side(measured, at_least, spread, verdict):
    target = Target("", measured, 1.3, at_least, spread)
    assert target.verdict == verdict
    assert target.reached is (verdict == "reached")


def test_the_spread_is_the_largest_bandwidth_over_the_smallest():
    assert CASE.spread == 9.0
    assert steady(CASE).spread == 0.0
    assert replace(CASE, bandwidth=[40.0, 50.0, 44.0]).spread == pytest.approx(0.25)


# Table, JSON, figure.


def test_the_table_line_by_line():
    few = replace(CASE, new_tokens=CASE.new_tokens | {UNCACHED: 8})
    assert report.table(few, READ).splitlines() == [
        ("prompt 32, batch 1, 64 new tokens; a plain sum reads 4.0 to 40.0 GB/s"),
        (
            "                first token  x ref  x llama  each after it  x ref  x llama"
            "  tokens/s  GB/s  of memory"
        ),
        (
            "no cache (8)       200.0 ms   1.00     0.55       400.0 ms   0.25     0.17"
            "       2.5   1.2         3%"
        ),
        (
            "native float32     100.0 ms   2.00     1.10        50.0 ms   2.00     1.40"
            "      20.0  10.0        25%"
        ),
        (
            "transformers       300.0 ms   1.00     0.55       100.0 ms   1.00     0.70"
            "      10.0   5.0        12%"
        ),
        (
            "llama.cpp F32      200.0 ms   1.82     1.00        70.0 ms   1.43     1.00"
            "      14.3   7.1        18%"
        ),
    ]
    note = "the first n tokens only"
    assert note in report.text(made_up(cases=[few]))
    assert note not in report.text(made_up())


def test_the_text_holds_all_that_was_measured():
    text = report.text(made_up(notes=["A note."]))
    for line in (
        (
            "a-model, 2 threads of x86_64, torch 2.13, transformers 5.0,"
            " llama-cpp-python 0.3.1"
        ),
        "time for one token at 2,048 tokens, relative to 64: native float32 1.30",
        "perplexity of the passage: native float32 20.000; native int8 20.080",
        "cache of 96 tokens, batch 1: 1,000 bytes, equal to the formula",
        "load_pretrained: 0.50 s beyond `import torch`",
        (
            "target: decode at 32: native float32, x llama.cpp F32: 1.40 (at least"
            " 1.2): reached"
        ),
        (
            "target: decode at 32: native float32, share of the bandwidth: 0.25 (at"
            " least 0.9): disturbed"
        ),
        "A note.",
    ):
        assert line in text.splitlines()
    slow = report.text(made_up(load=[1.6], memory=[CacheMemory(96, 1, 1001, 1000)]))
    assert "target: load_pretrained, seconds: 1.60 (at most 1.5): NOT reached" in slow
    assert "1,001 bytes, NOT 1,000, as by the formula" in slow


def test_a_share_above_one_is_doubted():
    quick = replace(CASE, bandwidth=[8 * GB, 4 * GB, 40 * GB])
    text = report.text(made_up(cases=[quick]))
    assert (
        "doubtful: prompt 32, batch 1: native float32 read faster than the plain sum in"
        " 1 of 3 rounds (shares 0.25 to 1.25)"
    ) in text.splitlines()
    assert "doubtful" not in report.text(made_up())


@pytest.mark.parametrize("there", ["transformers", "llama-cpp-python"])
def test_columns_of_who_is_not_there_are_left_out(there):
    kept = {"transformers": REFERENCE, "llama-cpp-python": F32}[there]
    machine = MACHINE | {"transformers": None, "llama-cpp-python": None}
    machine[there] = "1.0"
    text = report.text(
        made_up(cases=[only(CASE, FLOAT, kept)], machine=machine, growth=[])
    )
    assert ("x ref" in text) is ("transformers" in text) is (kept == REFERENCE)
    assert ("x llama" in text) is ("llama" in text) is (kept == F32)


def test_json_holds_each_round_and_the_figures_of_the_table():
    data = json.loads(json.dumps(as_json(made_up())))
    assert set(data) == {
        *("machine", "model", "read", "cases", "growth", "growth_ratio"),
        *("perplexity", "memory", "load", "notes", "targets"),
    }
    case = data["cases"][0]
    assert case["timings"][FLOAT][1] == {"first": 1.0, "later": 0.5}
    assert case["bandwidth"] == CASE.bandwidth
    assert case["summary"][FLOAT] == summary(CASE, FLOAT, READ[FLOAT])
    assert data["growth_ratio"] == growth(made_up())
    assert [t["verdict"] for t in data["targets"][:2]] == ["reached", "disturbed"]
    assert data["targets"][0]["reached"] is True


@pytest.mark.parametrize("base", [REFERENCE, CACHED])
def test_the_figure_shows_rounds_and_medians(base):
    def renamed(case):
        times = {base if n == REFERENCE else n: t for n, t in case.timings.items()}
        return replace(case, timings=times)

    read = READ | {CACHED: READ[REFERENCE]}
    fig = figure(made_up(cases=[renamed(CASE), renamed(LONG)], read=read))
    first, later, memory = fig.axes
    assert f"as {base} " in first.get_xlabel()
    assert f"as {base} " in later.get_xlabel()
    assert [t.get_text() for t in first.get_yticklabels()] == [
        "prompt 32\nbatch 1",
        "prompt 512\nbatch 1",
    ]
    shown = [t.get_text() for t in fig.legends[0].get_texts()]
    assert sorted(shown) == sorted([FLOAT, base, F32])  # not the one without a cache
    i = 2 * shown.index(FLOAT)
    for ax, values, middle in (
        (first, [2, 2, 3], 2),
        (later, [2, 2, 1.6], 2),
        (memory, [0.25, 0.25, 0.25], 0.25),
    ):
        rounds, point = ax.lines[i : i + 2]  # of the first case
        assert list(rounds.get_xdata()) == pytest.approx(values)
        assert list(point.get_xdata()) == pytest.approx([middle])
