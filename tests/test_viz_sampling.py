"""The figures of notebook 05: what is drawn is what was given."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import same_color, to_hex

from llm_course.viz import sampling as viz
from llm_course.viz.style import BLUE

PROBS = torch.tensor([0.05, 0.4, 0.3, 0.2, 0.05])
KEPT = torch.tensor([0.0, 4 / 7, 3 / 7, 0.0, 0.0])


def tokens(ids: list[int]) -> list[str]:
    return [f" t{i}" for i in ids]


def widths(ax: plt.Axes, color: str) -> list[float]:
    """Lengths of the filled bars of one colour, from top to bottom."""
    bars = [
        b for b in ax.patches if b.get_fill() and same_color(b.get_facecolor(), color)
    ]
    return [round(b.get_width(), 4) for b in sorted(bars, key=lambda b: b.get_y())]


def test_next_token_bars_are_ranked_and_name_the_rest() -> None:
    (ax,) = viz.next_token_bars({"prompt": PROBS}, tokens, top=3).axes
    assert widths(ax, BLUE) == [0.4, 0.3, 0.2]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "␣t1",
        "␣t2",
        "␣t3",
    ]
    assert "the other 2 tokens: 10%" in [text.get_text() for text in ax.texts]


def test_filter_bars_show_kept_removed_and_before() -> None:
    (ax,) = viz.filter_bars(PROBS, {"k = 2": KEPT}, tokens, top=4).axes
    assert widths(ax, BLUE) == [0.5714, 0.4286, 0.0, 0.0]
    assert widths(ax, viz.PALE) == [0.2, 0.05]
    outlines = [
        bar.get_width()
        for bar in ax.patches
        if to_hex(bar.get_edgecolor()) == "#000000"
    ]
    assert outlines[-4:] == pytest.approx([0.4, 0.3, 0.2, 0.05])
    assert ax.get_title(loc="left") == "k = 2\ntokens left: 2"
    assert ax.get_yticklabels()[-1].get_text() == "all others"
    assert [text.get_text() for text in ax.texts] == ["5% → 0%"]


def test_temperature_curves_hold_the_given_values() -> None:
    temperatures, probs = torch.tensor([0.1, 1.0, 10.0]), torch.rand(3, 2)
    entropy = torch.tensor([0.1, 1.0, 1.5])
    left, right = viz.temperature_curves(
        temperatures, probs, entropy, 1.6, ["a", "b"]
    ).axes
    for line, column in zip(left.lines, probs.T, strict=False):
        assert torch.equal(torch.from_numpy(line.get_ydata()), column)
    assert torch.equal(torch.from_numpy(right.lines[0].get_ydata()), entropy)
    assert left.get_yscale() == "log"


def test_cumulative_mass_marks_the_nucleus() -> None:
    fig = viz.cumulative_mass(
        {"x": PROBS, "y": torch.full((5,), 0.2)}, top_p=0.65, top_k=2
    )
    notes = [text.get_text() for text in fig.axes[0].texts]
    assert "top-p keeps 2" in notes
    assert "top-p keeps 4" in notes


def test_draws_against_exact() -> None:
    counts = torch.tensor([50, 400, 310, 190, 50])
    (ax,) = viz.draws_against_exact(PROBS, counts, tokens([0, 1, 2, 3, 4])).axes
    dots = next(line for line in ax.lines if line.get_label() == "1,000 draws")
    assert dots.get_ydata().tolist() == pytest.approx((counts / 1000).tolist())
    bars = ax.collections[0].get_segments()
    sigma = (PROBS * (1 - PROBS) / 1000).sqrt()
    assert [b[1][1] - b[0][1] for b in bars] == pytest.approx(
        (4 * sigma).tolist(), rel=1e-3
    )


def test_batch_grid_writes_pads_and_tokens() -> None:
    fig = viz.batch_grid(
        [["$", "a"], [" ", " c"]], [["pad", "prompt"], ["generated", "end"]]
    )
    assert [text.get_text() for text in fig.axes[0].texts] == [
        "pad",
        "a",
        "␣",
        "␣c",
    ]
    assert fig.axes[0].get_xlabel() == "column"
    faces = [to_hex(bar.get_facecolor()) for bar in fig.axes[0].patches]
    kinds = ("pad", "prompt", "generated", "end")
    assert faces == [to_hex(viz.KINDS[kind][0]) for kind in kinds]


def test_batch_grid_goes_on_in_a_second_panel() -> None:
    labels = [["a", "$b", "<|im_end|>", "d_e", "f"]]
    fig = viz.batch_grid(labels, [["prompt"] * 5], columns=3)
    texts = [[text.get_text() for text in ax.texts] for ax in fig.axes]
    assert texts == [["a", "$b", "<|im_\nend|>"], ["d_e", "f"]]
    columns = [[label.get_text() for label in ax.get_xticklabels()] for ax in fig.axes]
    assert columns == [["0", "1", "2"], ["3", "4"]]
    assert fig.axes[0].get_xlim() == (-0.5, 2.5)
    assert fig.axes[1].get_xlim() == (2.5, 5.5)


def test_lines_start_at_zero() -> None:
    (ax,) = viz.lines([1, 2], {"a": [3, 4], "b": [5, 6]}, "x", "y", top=7).axes
    assert ax.get_ylim() == (0, 7)
    assert [list(line.get_ydata()) for line in ax.lines] == [[3, 4], [5, 6]]


def test_dollar_signs_are_not_formulas() -> None:
    fig = viz.next_token_bars({"p": PROBS}, lambda ids: [r"$x^$" for _ in ids], top=2)
    fig.canvas.draw()  # matplotlib raises here for a formula it cannot read
