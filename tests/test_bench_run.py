"""The benchmark's rounds, its processes, and its command line.

No test asserts how long anything takes.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from llm_course.bench import __main__ as program
from llm_course.bench import child, measure
from llm_course.bench.__main__ import main, make_cases, who
from llm_course.bench.contestants import Contestant, our_stream
from llm_course.bench.options import QUICK, parse
from llm_course.bench.results import (
    CACHED,
    LLAMA,
    NATIVE,
    OURS,
    REFERENCE,
    THEIRS,
    UNCACHED,
    Timing,
)
from llm_course.bench.team import Child
from tests.helpers import random_ids, small_model

FLOAT, INT8, F32 = NATIVE["float32"], NATIVE["int8"], LLAMA["F32"]


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


def test_a_case_takes_random_ids_and_only_who_can_take_part():
    names = [INT8, UNCACHED, F32]
    case = measure.make_case(names, 50, 512, 1, 64, seed=3)
    assert case.prompt.shape == (1, 512)
    assert case.new_tokens == {INT8: 64, UNCACHED: 8, F32: 64}
    assert measure.make_case(names, 50, 512, 8, 64).new_tokens == {INT8: 64}
    given = measure.make_case(names, 50, 9, 1, 16, cached_only=True).new_tokens
    assert given == {INT8: 16, F32: 16}
    again, other = (measure.make_case(names, 50, 512, 1, 64, seed=s) for s in (3, 4))
    assert torch.equal(case.prompt, again.prompt)
    assert not torch.equal(case.prompt, other.prompt)


# The same tokens.


def test_other_tokens_are_refused_with_the_gap_between_the_logits():
    model = small_model()
    prompt = random_ids(2, 5)
    right = torch.cat([*our_stream(model, True)(prompt, 6)], dim=-1)
    wrong = right.clone()
    wrong[1, 2:] = (wrong[1, 2:] + 1) % 96
    case = measure.Case(prompt, {CACHED: 6, FLOAT: 6})
    with pytest.raises(
        RuntimeError, match=rf"prompt of 5, row 1, new token 2: '{FLOAT}' chose"
    ) as error:
        measure.check_same_tokens({CACHED: right, FLOAT: wrong}, case, model)
    with torch.inference_mode():
        logits = model(torch.cat([prompt[1], right[1, :2]])[None])[0, -1]
    gap = float((logits[right[1, 2]] - logits[wrong[1, 2]]).abs())
    assert f"differ by {gap:.1e}" in str(error.value)
    # as far as the shorter one goes; and rounded weights go their own way
    measure.check_same_tokens({CACHED: right, FLOAT: wrong[:, :2]}, case, model)
    measure.check_same_tokens({CACHED: right, INT8: wrong, F32: wrong}, case, model)
    measure.check_same_tokens({INT8: right, F32: wrong}, case, model)


def test_logits_as_good_as_equal_may_be_told_apart_either_way(monkeypatch):
    model = small_model()
    prompt = random_ids(1, 5)
    right = torch.cat([*our_stream(model, True)(prompt, 3)], dim=-1)
    wrong = (right + 1) % 96
    monkeypatch.setattr(measure, "ROUNDING", 10.0)  # everything is rounding
    case = measure.Case(prompt, {CACHED: 3, FLOAT: 3})
    measure.check_same_tokens({CACHED: right, FLOAT: wrong}, case, model)


# The rounds, with a team made up.


class Scripted:
    """Logs whose turn it is; everybody always generates token 1, a second each."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def generate(self, name, prompt, n):
        self.log.append(f"{name}{len(prompt)}x{n}")
        return [float(2 + i) for i in range(n)], torch.ones(len(prompt), n).long()

    def bandwidth(self) -> float:
        self.log.append("sum")
        return 7.0


def test_what_is_kept_of_the_times():
    assert measure.timing([2.0, 2.5, 3.0, 4.0]) == Timing(2.0, pytest.approx(2 / 3))


def test_all_take_turns_within_a_round_and_the_warm_up_does_not_count():
    team, names = Scripted(), ["a", "b", "c"]
    cases = [
        measure.Case(random_ids(1, 3), {"a": 3, "b": 3, "c": 3}),
        measure.Case(random_ids(8, 3), {"a": 4, "c": 4}),
    ]
    results = measure.run(team, names, cases, small_model(), 2, warm=1)
    assert team.log == [
        *("a1x2", "b1x2", "c1x2"),
        *("sum", "a1x3", "b1x3", "c1x3", "sum", "a8x4", "c8x4"),
        *("sum", "b1x3", "c1x3", "a1x3", "sum", "c8x4", "a8x4"),
    ]
    assert [(r.prompt, r.batch, r.bandwidth) for r in results] == [
        (3, 1, [7.0, 7.0]),
        (3, 8, [7.0, 7.0]),
    ]
    assert results[1].timings == {name: [Timing(2.0, 1.0)] * 2 for name in "ac"}


# The processes.


def test_times_are_taken_at_each_token():
    def generate(prompt, n, tell):
        for _ in range(n):
            tell(torch.ones(len(prompt), 1).long())

    ticks = iter([10.0, 12.0, 12.5, 13.0])
    contestant = Contestant(generate, lambda ids: ids, 1)
    told = child.generate(contestant, [[1, 2], [3, 4]], 3, lambda: next(ticks))
    assert told == {"times": [2.0, 2.5, 3.0], "tokens": [[1, 1, 1], [1, 1, 1]]}


def test_a_process_answers_line_by_line():
    requests, replies = io.StringIO('{"n": 1}\n{"n": 2}\n'), io.StringIO()
    child.serve(requests, replies, {"read": 5}, lambda r: {"double": 2 * r["n"]})
    lines = [json.loads(line) for line in replies.getvalue().splitlines()]
    assert lines == [{"read": 5}, {"double": 2}, {"double": 4}]


def test_a_plain_sum_answers_with_bytes_a_second():
    assert child.summing(1000)({})["bandwidth"] > 0


@pytest.mark.slow
def test_a_process_that_ends_is_named(tmp_path: Path):
    with pytest.raises(RuntimeError, match="the process of 'cache' ended"):
        Child(CACHED, str(tmp_path), 1)


# The command line.

SMALL = ["--rounds=1", "--prompts", "5", "7", "--batches", "1", "2", "--new-tokens=4"]
SMALL += ["--contexts", "6", "12"]


@pytest.mark.slow
def test_a_run_on_a_tiny_model(tiny_folder, tmp_path: Path, capsys):
    folder = tiny_folder()
    file, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    names = [CACHED, INT8, REFERENCE]
    places = ["--json", str(file), "--figure", str(picture), "--threads=1"]
    chosen = ["--contestants", *reversed(names)]
    assert main(["--model", str(folder), *SMALL, *places, *chosen]) == 0
    text, data = capsys.readouterr().out, json.loads(file.read_text("utf-8"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    shapes = [(c["prompt"], c["batch"]) for c in data["cases"]]
    assert shapes == [(5, 1), (5, 2), (7, 1)]
    for case in data["cases"]:
        assert list(case["timings"]) == list(case["summary"]) == names
        assert all(len(rounds) == 1 for rounds in case["timings"].values())
        assert all(
            row[0]["first"] > 0 < row[0]["later"] for row in case["timings"].values()
        )
        assert case["new_tokens"] == dict.fromkeys(names, 4)
    assert list(data["read"]) == list(data["growth_ratio"]) == names
    assert data["perplexity"] == {}  # the folder has no tokenizer
    assert [c["prompt"] for c in data["growth"]] == [6, 12]
    assert all(m["measured"] == m["formula"] > 0 for m in data["memory"])
    assert len(data["load"]) == data["machine"]["threads"] == 1
    assert [t["what"] for t in data["targets"]] == ["load_pretrained, seconds"]
    lines = text.splitlines()
    for name in names:
        assert sum(line.startswith(f"{name}  ") for line in lines) == 3
    assert "prompt 5, batch 2, 4 new tokens; a plain sum reads " in text
    assert "time for one token at 12 tokens, relative to 6: cache " in text


def test_who_takes_part(monkeypatch, tmp_path: Path):
    there = {"transformers", "llama_cpp"}
    monkeypatch.setattr(program, "find_spec", lambda name: name in there or None)
    assert who(parse([], "")) == ([*OURS, *THEIRS, *LLAMA.values()], [])
    assert who(parse(["--contestants", F32, FLOAT], "")) == ([FLOAT, F32], [])
    # llama.cpp reads the pinned GGUF file, not a folder
    assert who(parse(["--model", str(tmp_path)], "")) == ([*OURS, *THEIRS], [])
    there.clear()
    names, notes = who(parse([], ""))
    assert names == [*OURS]
    assert ["pip install 'transformers" in notes[0], "llama" in notes[1]] == [True] * 2


def test_the_cases_of_a_full_run():
    cases, growth = make_cases(parse([], ""), [FLOAT], 50)
    shapes = [tuple(reversed(case.prompt.shape)) for case in cases]
    assert shapes == [(32, 1), (32, 4), (32, 16), (512, 1)]
    assert [tuple(case.prompt.shape) for case in growth] == [(1, 64), (1, 2048)]


def test_the_options(capsys):
    full = parse([], "")
    assert (full.rounds, full.prompts, full.new_tokens) == (5, [32, 512], 64)
    quick = parse(["--quick", "--rounds", "7"], "")
    assert (quick.rounds, quick.prompts) == (7, QUICK["prompts"])
    assert parse(["--contexts"], "").contexts == []
    for wrong in (
        ["--new-tokens", "1"],
        ["--rounds", "0"],
        ["--model", "nowhere.gguf"],
        ["--contexts", "5"],
        ["--contestants", "nobody"],
    ):
        with pytest.raises(SystemExit) as stopped:
            parse(wrong, "")
        assert stopped.value.code == 2
        assert wrong[0] in capsys.readouterr().err


def test_what_goes_wrong_is_one_line_and_status_1(tmp_path: Path, capsys):
    assert main(["--model", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err


def test_what_is_left_out_is_said():
    case = measure.make_case([CACHED, UNCACHED, F32], 50, 512, 16, 64)
    (line,) = program.left_out([CACHED, UNCACHED, F32], [case])
    assert line == (
        "Left out at prompt 512, batch 16, where it takes long: 'no cache'. --all"
        " measures it."
    )
