"""The parity dashboard draws the errors it is given, and the errors are those of the
record."""

import numpy as np
import pytest
import torch

from llm_course.viz import parity

LAYERS = 2
NAMES = [
    f"layers.{n}.{part}".rstrip(".") for n in range(LAYERS) for part in parity.COLUMNS
]
NAMES = ["embed_tokens", *NAMES, "norm", "lm_head"]
RECORDED = {
    "places": {"3": [[0, 2], [1, 0]], "2": [[0, 0], [1, 1]]},
    "parts": {
        "a": {"scale": [2.0, 100.0], "values": [1.0, 50.0]},
        "b": {"scale": [4.0, 1.0], "values": [0.0, -1.0]},
    },
}
OUTPUTS = {
    "a": torch.tensor([[9.0, 9.0, 1.0], [50.0, 9.0, 9.0]]),
    "b": torch.tensor([[0.0, 9.0], [9.0, -1.0]]),
}


def some_errors(**changes):
    return dict.fromkeys(NAMES, 1e-7) | changes


def test_errors_are_taken_at_the_recorded_places_only():
    assert parity.errors(RECORDED, OUTPUTS) == {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize(
    ("name", "place", "value", "error"),
    [
        ("a", (0, 2), 1.5, 0.25),  # relative to 2, the largest at position 0
        ("a", (1, 0), 51.0, 0.01),  # and to 100 at position 1
        ("b", (0, 0), -2.0, 0.5),
        ("b", (1, 1), float("nan"), float("inf")),
    ],
)
def test_an_error_is_relative_to_the_largest_entry_at_its_position(
    name, place, value, error
):
    outputs = {key: tensor.clone() for key, tensor in OUTPUTS.items()}
    outputs[name][place] = value
    found = parity.errors(RECORDED, outputs)
    assert found.pop(name) == pytest.approx(error)
    assert list(found.values()) == [0.0]


def test_the_first_part_above_the_threshold_is_named():
    assert parity.first_off(some_errors()) is None
    late = {"layers.1.mlp": 0.1, "layers.0.self_attn": 2e-5, "lm_head": 1.0}
    assert parity.first_off(some_errors(**late)) == "layers.0.self_attn"
    assert parity.first_off(some_errors(**late), threshold=1e-3) == "layers.1.mlp"
    assert parity.first_off(some_errors(norm=parity.THRESHOLD)) is None


def test_the_grid_has_a_row_for_each_layer_and_for_the_ends():
    found = {name: float(n) for n, name in enumerate(NAMES)}
    values = parity.grid(found)
    assert values.shape == (LAYERS + 3, len(parity.COLUMNS))
    np.testing.assert_array_equal(values[1:-2].ravel(), range(1, 17))
    for row, value in ((0, 0.0), (-2, 17.0), (-1, 18.0)):
        assert (values[row] == value).all()


def drawn(fig):
    """The image of each panel, without the colour bar."""
    return [np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images]


def test_the_dashboard_draws_the_logarithm_of_the_errors():
    right, wrong = (
        some_errors(embed_tokens=0.0),
        some_errors(**{"layers.1.self_attn.k_proj": 0.01}),
    )
    wrong["lm_head"] = float("inf")
    fig = parity.dashboard({"right": right, "wrong": wrong}, recorded=["right"])
    first, second = drawn(fig)
    assert (first[0] == -8).all()  # the floor
    assert (first[1:] == -7).all()
    within = np.log10(parity.WITHIN)  # measured just now: rounding is not shown
    assert (second[:2] == within).all()
    assert second[2, 2] == -2
    assert (second[-1] == 0).all()  # the top
    assert [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["right", "wrong"]
    labels = [t.get_text() for t in fig.axes[0].get_xticklabels()]
    assert labels == ["norm 1", "q", "k", "v", "attention", "norm 2", "MLP", "layer"]
    rows = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert rows == ["embedding", "layer 0", "layer 1", "final norm", "logits"]
    (key,) = fig.legends
    assert key.get_texts()[0].get_text() == "on the right: within 1e-5, not graded"


def test_recorded_errors_are_relative_and_the_worst_of_the_prompts():
    labels = ["input_layernorm", "q_proj", "k_proj", "v_proj", "self_attn"]
    labels += ["post_attention_layernorm", "mlp", "layer"]

    def prompt(off):
        layers = {label: [[off, 2.0], [0.0, 1.0]] for label in labels}
        return {
            "embedding": [0.0, 1.0],
            "layers": layers,
            "norm": [1.0, 4.0],
            "logits": [off, 8.0],
        }

    found = parity.recorded_errors([prompt(0.5), prompt(1.0)])
    assert list(found) == NAMES
    assert [found[name] for name in NAMES] == [0.0] + [0.5] * 8 + [0.0] * 8 + [
        0.25,
        0.125,
    ]


def test_the_colour_changes_at_the_threshold():
    """Blue and pale up to it, yellow to red above: told apart at a glance."""
    image = parity.dashboard({"one": some_errors()}).axes[0].images[0]
    red, _, blue, _ = image.cmap(image.norm(np.array([-7.9, -6.0, -5.01]))).T
    assert (blue > red).all()
    red, _, blue, _ = image.cmap(image.norm(np.array([-4.99, -3.0, -0.01]))).T
    assert (red > blue + 0.3).all()
