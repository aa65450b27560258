"""Labels: any text is drawn as it is, and tokens are named by whole characters."""

from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from llm_course.config import ModelConfig
from llm_course.models import DecoderOnlyModel
from llm_course.viz import (
    attention,
    cache,
    cache_lab,
    decoder,
    layers,
    rope_scores,
    sampling,
)
from llm_course.viz.labels import MISSING, _drawable, fonts, plain, token_names
from llm_course.viz.style import lines
from llm_course.widgets import AttentionExplorer
from llm_course.widgets.figures import png

TEXT = r"$$ 5$ \$x^$ %d {} \frac"
TOKENS = [TEXT, "$", "🌍", "<0x20><0xE6>", "<0x97>", "<0xA5>"]
SIZE = len(TOKENS)
MAP = np.tril(np.ones((SIZE, SIZE))) / SIZE
PROBS = torch.full((SIZE,), 1 / SIZE)
FIGURES = {
    "attention_map": lambda: attention.attention_map(MAP, TOKENS, TEXT),
    "mask_stages": lambda: attention.mask_stages(MAP, MAP, MAP, TOKENS),
    "head_grid": lambda: attention.head_grid(np.stack([MAP] * 2), TOKENS, 1, TEXT),
    "alignments": lambda: attention.alignments({TEXT: MAP}),
    "new_rows": lambda: cache.new_rows([MAP[:5, :5], MAP], TOKENS),
    "memory_bars": lambda: cache_lab.memory_bars({TEXT: (1.0, 2.0)}, TEXT),
    "slots": lambda: cache_lab.slots(TOKENS, ["prompt"] * SIZE),
    "next_words": lambda: decoder.next_words(TOKENS, PROBS, TEXT),
    "stream_norms": lambda: decoder.stream_norms(1 + 99 * MAP, TOKENS),
    "influence": lambda: decoder.influence(MAP * 99, TOKENS),
    "lens_grid": lambda: decoder.lens_grid([TOKENS] * 2, MAP[:2], TOKENS),
    "lens_curves": lambda: decoder.lens_curves({TEXT: [9, 1]}, {TEXT: [0, 1]}),
    "word_race": lambda: decoder.word_race(0.1, [1, 2], [2, 1], TEXT, "$"),
    "scale_by_layer": lambda: layers.scale_by_layer(
        torch.ones(3, SIZE), torch.ones(3, SIZE), TOKENS
    ),
    "maps_side_by_side": lambda: rope_scores.maps_side_by_side(
        {TEXT: MAP, "b": MAP}, TOKENS
    ),
    "next_token_bars": lambda: sampling.next_token_bars(
        {TEXT: PROBS}, lambda ids: [TOKENS[i] for i in ids], top=SIZE - 1
    ),
    "filter_bars": lambda: sampling.filter_bars(
        PROBS, {TEXT: PROBS}, lambda ids: [TOKENS[i] for i in ids], top=SIZE - 1
    ),
    "cumulative_mass": lambda: sampling.cumulative_mass({TEXT: PROBS}, 0.9, 2),
    "draws_against_exact": lambda: sampling.draws_against_exact(PROBS, PROBS, TOKENS),
    "batch_grid": lambda: sampling.batch_grid([TOKENS], [["prompt"] * SIZE]),
    "lines": lambda: lines([1, 2], {TEXT: [1, 2], "b": [2, 3]}, TEXT, TEXT),
}
# Tokens that do not follow one another: each stands alone, if need be by its bytes.
CANDIDATES = (
    *("next_words", "lens_grid", "next_token_bars", "filter_bars"),
    "draws_against_exact",
)


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_any_text_is_drawn_and_no_glyph_is_missing(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = FIGURES[name]()
        fig.canvas.draw()  # a formula that cannot be read raises here
    texts = [t.get_text() for t in fig.findobj(plt.Text) if t.get_visible()]
    formulas = {t for t in texts if t.startswith("$\\mathdefault")}  # 10², on log axes
    # either the text or, in a narrow cell, its beginning
    assert any("$" in text for text in set(texts) - formulas)
    assert not any(r"\$\$" in text for text in texts)
    if name not in CANDIDATES:
        assert not any("<0x" in text for text in texts)


LOGARITHMIC = {
    "both axes": lambda: lines(
        [1, 10, 100], {"a": [1, 9, 99]}, "x", "y", xscale="log", yscale="log"
    ),
    "a colour bar": lambda: FIGURES["influence"](),
    "shared axes": lambda: layers.depth_bands(
        {name: [torch.rand(99) ** n for n in range(1, 9)] for name in "abc"}
    ),
    "shared axes again": lambda: FIGURES["scale_by_layer"](),
}


@pytest.mark.parametrize("kind", LOGARITHMIC)
def test_labels_of_logarithmic_axes_are_still_formulas(kind):
    fig = LOGARITHMIC[kind]()
    fig.canvas.draw()
    found = [
        label
        for ax in fig.axes
        for axis in (ax.xaxis, ax.yaxis)
        for label in axis.get_ticklabels(which="both")
        if "mathdefault" in label.get_text()
    ]
    assert len(found) > 1
    assert all(label.get_parse_math() for label in found)
    assert not fig.axes[0].xaxis.label.get_parse_math()


def test_tokens_that_share_a_character_are_named_by_it(monkeypatch):
    monkeypatch.setattr("llm_course.viz.labels.plain", lambda text: text)
    names = token_names(["a", "<0x20><0xE6>", "<0x97>", "<0xA5>", "<0xF0>", " b"])
    assert names == ["a", " 日 1/3", " 日 2/3", " 日 3/3", "<0xF0>", " b"]
    assert token_names(["<0xC3><0xA9>"]) == ["é 1/1"]
    assert token_names(["<0xFF>", "<0xC3>", "<0xA9>"]) == ["<0xFF>", "é 1/2", "é 2/2"]
    assert token_names([]) == []


def test_labels_of_real_tokens(smollm2, monkeypatch):
    monkeypatch.setattr("llm_course.viz.labels.plain", lambda text: text)
    tokenizer = smollm2[1]
    names = token_names(tokenizer.tokens(tokenizer.encode("世界 🌍 naïve 𓀀!")))
    assert not any("<0x" in name for name in names)
    assert [name for name in names if "世" in name]
    assert [name for name in names if "🌍" in name]


def test_a_mark_stands_for_what_no_font_has():
    assert ord(MISSING) in _drawable()
    assert plain("a\nß é") == "a\nß é"
    absent = next(chr(c) for c in range(0xE000, 0xF8FF) if c not in _drawable())
    assert plain(f"x{absent}y") == f"x{MISSING}y"
    assert fonts()[0] == "DejaVu Sans"


def test_the_explorer_s_picture_shows_a_price(smollm2):
    torch.manual_seed(0)
    model = DecoderOnlyModel(ModelConfig(49152, 8, 16, 2, 2)).eval()
    for sentence in ("It costs $$ 5$ or 日本", r"$\frac$"):
        explorer = AttentionExplorer(model, smollm2[1], sentence)
        assert explorer.error == ""
        assert png(explorer.figure())
