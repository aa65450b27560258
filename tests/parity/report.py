"""Write docs/parity.md: what was compared with `transformers`, on what, and the worst
error seen.

    python -m tests.parity.report

Runs every comparison of the harness (about half a minute) and reads the recorded values
of the real model. The rows come from the tests themselves.
"""

# ruff: noqa: E501 (a Markdown text, one paragraph a line)
from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from tests.parity import (
    by_layer,
    test_generate,
    test_model,
    test_modules,
    test_processors,
)
from tests.parity.harness import EQUAL, ROWS, Row

TARGET = Path(__file__).parents[2] / "docs" / "parity.md"
# in the order of the table
PARTS = (test_modules, test_model, test_processors, test_generate)

TEXT = """# Parity with the reference implementation

Written by `python -m tests.parity.report`, with PyTorch {torch} and transformers {transformers}.
The same comparisons run as tests (`tests/parity/`); a test keeps this table's rows and tolerances in step with them.

## Tiny random models

Shapes and weights are drawn by Hypothesis, the same in each run: 1 to 3 layers, 1 to 12 query heads on 1 to 3 K/V heads, head_dim 2 to 16 (of its own or hidden / heads), θ from 2 to 2,000,000, RoPE scaling none, linear or llama3, eps from 1e-6 to 1e-3, tied and untied heads, batches of 1 to 3 rows padded on the left.
An error is the largest difference divided by the largest magnitude of the reference. "Equal" means that not one element differs.
In bfloat16 the reference computes in float32 on the same rounded weights wherever RoPE takes part: its own bfloat16 rounds the cos and sin.

{rows}

Two cases are drawn again instead of compared, because rounding alone decides them: a filter's boundary within {clear:g} of a token's own value, and, for greedy tokens, two largest logits closer than {near:g} of the largest.

## The real model, layer by layer

SmolLM2-135M-Instruct from the pinned GGUF file, read by `transformers`' own loader, in float32, on {prompts} prompts (`python -m tests.parity.by_layer`, recorded in `tests/data/parity_by_layer.json` with PyTorch {recorded_torch} and transformers {recorded_transformers}). The worst of all layers and prompts:

{layers}

`tests/test_reference.py` compares logits and greedy tokens on more prompts (within 1e-3 of logits up to 44), and `tests/test_tokenizer.py` the token ids of 1,536 strings with llama.cpp's.
"""


def table(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def rows() -> list[Row]:
    """All rows, in the order of the table."""
    names = [part.__name__ for part in PARTS]
    return sorted(ROWS, key=lambda row: names.index(row.measure.__module__))


def facts(row: Row) -> list[str]:
    """The columns of a row that are the same on every machine."""
    tolerance = "equal" if row.tolerance == EQUAL else f"{row.tolerance:g}"
    return [row.what, row.on, row.dtype, tolerance]


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    lines = []
    for row in rows():
        cases, worst = row.run()
        lines.append([*facts(row), str(cases), f"{worst:.0e}" if worst else "0"])
    recorded = json.loads(by_layer.TARGET.read_text("utf-8"))
    layers = [
        [
            label,
            f"{max(e for e, _ in pairs):.0e}",
            f"{max(e / m for e, m in pairs):.0e}",
        ]
        for label, pairs in by_layer.by_part(recorded).items()
    ]
    text = TEXT.format(
        torch=torch.__version__.partition("+")[0],
        transformers=transformers.__version__,
        rows=table(["what", "on", "dtype", "tolerance", "cases", "worst error"], lines),
        clear=test_processors.CLEAR,
        near=test_generate.NEAR_TIE,
        prompts=len(recorded["prompts"]),
        recorded_torch=recorded["versions"]["torch"].partition("+")[0],
        recorded_transformers=recorded["versions"]["transformers"],
        layers=table(
            ["output of", "worst absolute error", "worst relative error"], layers
        ),
    )
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
