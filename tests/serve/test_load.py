"""The benchmark of a server under load: its trace, its numbers, its table."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from llm_course.bench.load import Seen, Served, percentile, poisson_trace
from llm_course.bench.serve import figure, main, parse, table
from tests.notebook_tools import clean_env
from tests.serve.tools import NAME, Server


def test_a_trace_is_a_poisson_process_and_the_same_each_time() -> None:
    trace = poisson_trace(4.0, 4000, (3, 5), [7, 8, 9], seed=0)
    gaps = [b.at - a.at for a, b in itertools.pairwise(trace)]
    assert mean(gaps) == pytest.approx(0.25, rel=0.05)
    # as many below the mean as an exponential distribution has
    assert sum(gap < 0.25 for gap in gaps) / len(gaps) == pytest.approx(
        1 - math.exp(-1), abs=0.03
    )
    assert trace[0].at == 0
    assert {len(one.prompt) for one in trace} == {3, 4, 5}
    assert {i for one in trace for i in one.prompt} == {7, 8, 9}
    assert trace == poisson_trace(4.0, 4000, (3, 5), [7, 8, 9], seed=0)
    assert trace != poisson_trace(4.0, 4000, (3, 5), [7, 8, 9], seed=1)


def test_all_at_once_is_a_rate_without_end() -> None:
    trace = poisson_trace(math.inf, 5, (1, 1), [1], seed=0)
    assert [one.at for one in trace] == [0.0] * 5


def test_percentiles() -> None:
    values = [float(i) for i in range(101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 95) == 95
    assert percentile([3.0], 95) == 3


SERVED = [
    Served(2.0, 10.0, [Seen(0.5, 1.5, 11), Seen(3.0, 4.0, 11)]),
    Served(math.inf, 4.0, [Seen(1.0, 2.0, 21), Seen(1.0, 9.0, 21)]),
]


def test_what_is_counted() -> None:
    one = SERVED[0]
    assert one.throughput == 2.2
    assert one.seen[0].per_token == pytest.approx(0.1)
    assert one.goodput(1.0, 0.2) == 0.1
    assert one.goodput(5.0, 0.2) == 0.2
    assert one.goodput(5.0, 0.05) == 0.0
    assert Seen(0.5, 0.5, 1).per_token == 0


def test_the_table_has_a_line_for_each_rate() -> None:
    lines = table(SERVED, parse([])).splitlines()
    assert "2 requests, prompts of 100 to 200 tokens, 64 new ones" in lines[0]
    assert lines[3].split()[:4] == ["2", "2.2", "1.75", "2.88"]
    assert lines[4].split()[:5] == ["all", "at", "once", "10.5", "1.00"]


def test_the_figure_shows_every_rate() -> None:
    first, later, throughput = figure([*SERVED, *SERVED]).axes
    assert list(first.lines[0].get_xdata()) == [2.0, 2.0]
    assert list(later.lines[0].get_ydata()) == pytest.approx([100.0, 100.0])
    assert [text.get_text() for text in throughput.texts] == ["all at once"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rates", "0"], "--rates: 0 is not above 0"),
        (["--rates", "x"], "--rates: invalid rate value: 'x'"),
        (["--requests", "0"], "--requests: '0': must be a whole number from 1"),
        (["--prompt", "x", "3"], "--prompt: 'x': must be a whole number from 1"),
        (["--prompt", "9", "3"], "--prompt: the shortest comes first"),
    ],
)
def test_options_that_cannot_be(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(options)
    assert message in capsys.readouterr().err


def test_no_server_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_is_measured(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    command = ["-m", "llm_course.bench", "serve", "--url", server.url, "--model", NAME]
    command += ["--rates", "50", "inf", "--requests", "4", "--new-tokens", "5"]
    done = subprocess.run(
        [sys.executable, *command, "--json", str(file)],
        env=clean_env(), capture_output=True, encoding="utf-8", timeout=100,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all at once" in done.stdout
    paced, at_once = json.loads(file.read_text(encoding="utf-8"))
    assert (paced["rate"], at_once["rate"]) == (50, None)
    for served in (paced, at_once):
        assert [seen["tokens"] for seen in served["seen"]] == [5] * 4
        assert all(0 < seen["first"] <= seen["last"] for seen in served["seen"])
