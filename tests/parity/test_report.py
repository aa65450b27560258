"""docs/parity.md and the recorded layers say what the tests check."""

from __future__ import annotations

import json

import pytest

from llm_course.checkpoints import PINNED_MODELS
from tests.parity import by_layer, report
from tests.parity.harness import EQUAL, ROWS, TOLERANCES

RECORDED = json.loads(by_layer.TARGET.read_text("utf-8"))


def test_the_table_has_the_rows_and_tolerances_of_the_tests() -> None:
    text = report.TARGET.read_text("utf-8").partition("## The real model")[0]
    stored = [
        line.strip("| ").split(" | ")
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    assert [columns[:4] for columns in stored[2:]] == [
        report.facts(row) for row in report.rows()
    ]
    for row, (*_, cases, worst) in zip(report.rows(), stored[2:], strict=True):
        assert int(cases) >= row.cases / 2
        assert float(worst) <= row.tolerance


def test_tolerances_are_the_specified_ones() -> None:
    assert TOLERANCES == {"float32": 1e-5, "bfloat16": 2e-2}
    assert {row.tolerance for row in ROWS} == {EQUAL, *TOLERANCES.values()}
    assert all(row.tolerance in (EQUAL, TOLERANCES[row.dtype]) for row in ROWS)


def test_the_recorded_layers_are_of_the_pinned_file() -> None:
    pinned = PINNED_MODELS[by_layer.NAME]
    assert (RECORDED["file"], RECORDED["sha256"]) == (pinned.file_name, pinned.sha256)
    assert [prompt["text"] for prompt in RECORDED["prompts"]] == by_layer.PROMPTS


@pytest.mark.parametrize("label", [*by_layer.IN_LAYER, *by_layer.AT_THE_ENDS])
def test_every_recorded_error_is_within_the_tolerance(label: str) -> None:
    pairs = by_layer.by_part(RECORDED)[label]
    assert len(pairs) == len(by_layer.PROMPTS) * (
        30 if label in by_layer.IN_LAYER else 1
    )
    assert max(error / magnitude for error, magnitude in pairs) <= TOLERANCES["float32"]


def test_the_recorded_magnitudes_are_those_of_our_model(smollm2) -> None:
    """Else the record is stale: run `python -m tests.parity.by_layer`."""
    model, tokenizer = smollm2
    prompt = RECORDED["prompts"][0]
    assert tokenizer.encode(prompt["text"]) == prompt["ids"]
    outputs = by_layer.our_outputs(model, prompt["ids"])
    for label, pairs in prompt["layers"].items():
        for i, (_, magnitude) in enumerate(pairs):
            found = outputs[by_layer.in_layer(i, label)].abs().max().item()
            assert found == pytest.approx(magnitude, rel=1e-2), f"layer {i}, {label}"
