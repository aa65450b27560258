"""Sliders for the next-token distribution, and a prompt that streams its
continuation."""

from __future__ import annotations

import html
import io
import threading
from collections.abc import Iterator
from functools import cached_property

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from llm_course.config import GenerationConfig
from llm_course.engine.conversation import Conversation
from llm_course.engine.generation import next_token_logits
from llm_course.engine.sampling import filtered_logits
from llm_course.models import DecoderOnlyModel
from llm_course.text import Tokenizer
from llm_course.viz.sampling import filter_bars

MODES = {"raw text": "raw", "chat message": "chat"}


def distribution(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The probabilities [V] from which `sample_next_token` draws, for the logits [V] of
    one prompt."""
    if config.temperature == 0:  # greedy: all probability on the largest logit
        return torch.nn.functional.one_hot(logits.argmax(), len(logits)).float()
    kept = filtered_logits(
        logits, config.temperature, config.top_k, config.top_p, min_p=config.min_p
    )
    return torch.softmax(kept, dim=-1)


class Sampler(widgets.VBox):
    """Prompt, filters, and Generate and Stop buttons around a `Conversation`.

    The picture shows the distribution of the first new token under the filters as they
    are set. It is redrawn when a slider moves, from logits computed once per prompt,
    and hidden while the prompt has none. After an error the next change or click tries
    again. Generation runs in a thread of its own, so that Stop is heard; a click on
    Generate during a run does nothing. What a prompt has in common with the last one,
    from the start, is not computed again.
    """

    def __init__(
        self,
        model: DecoderOnlyModel,
        tokenizer: Tokenizer,
        prompt: str = "I opened the door and saw a",
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.logits: Tensor | None = None  # [V]: after the last token of the prompt
        self.thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._build(prompt)
        super().__init__(self._rows())
        self._on_prompt()

    def __repr__(self) -> str:
        """Short, so that a stored notebook holds no picture in place of a name."""
        return f"Sampler({self.prompt.value!r})"

    @property
    def config(self) -> GenerationConfig:
        """The settings of all controls."""
        return GenerationConfig(
            max_new_tokens=self.max_tokens.value,
            temperature=self.temperature.value,
            top_k=self.top_k.value,
            top_p=self.top_p.value,
            min_p=self.min_p.value,
            seed=self.seed.value,
        )

    @cached_property
    def conversation(self) -> Conversation:
        """What generates, made by the first run: with the model prepared for inference,
        if it is one as built."""
        from llm_course.engine import prepare_for_inference

        as_built = type(self.model) is DecoderOnlyModel
        return Conversation(
            prepare_for_inference(self.model) if as_built else self.model
        )

    def prompt_ids(self) -> list[int]:
        """The ids of the prompt as it stands; ValueError when it is empty or cannot be
        spelled."""
        text = self.prompt.value
        if not text.strip():
            raise ValueError("The prompt is empty: type something to continue.")
        if self.mode.value == "chat":
            return self.tokenizer.encode_chat([{"role": "user", "content": text}])
        return self.tokenizer.encode(text)

    def generate(self) -> None:
        """Start a run in the background, unless one is going on."""
        if self.running:
            return
        try:
            ids = self.prompt_ids()
        except ValueError as error:
            self._show_error(error)
            return
        self._stop.clear()
        self.generate_button.disabled, self.stop_button.disabled = True, False
        head = "" if self.mode.value == "chat" else self.prompt.value
        arguments = (ids, head, self.config)
        self.thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the run after the token it is working on."""
        self._stop.set()

    @property
    def running(self) -> bool:
        return self.generate_button.disabled

    def wait(self, timeout: float | None = None) -> None:
        """Block until the run has ended."""
        if self.thread is not None:
            self.thread.join(timeout)

    def _run(self, ids: list[int], head: str, config: GenerationConfig) -> None:
        try:
            new = self._new_ids(ids, config)
            written = ""
            self._show(head, written, "reading the prompt …")
            for piece in self.tokenizer.decode_stream(new, skip_special_tokens=True):
                written += piece
                self._show(head, written, "writing …")
            self._show(head, written, self._ending)
        except Exception as error:  # in a thread: what is not shown is lost
            self._show_error(error)
        finally:
            self.generate_button.disabled, self.stop_button.disabled = False, True

    def _new_ids(self, ids: list[int], config: GenerationConfig) -> Iterator[int]:
        eos = self.tokenizer.eos_token_ids
        size = self.tokenizer.vocab_size  # an embedding may be padded beyond it
        tokens = self.conversation.stream(ids, config, eos, vocab_size=size)
        for count, token in enumerate(tokens, 1):
            self._ending = f"{count} token{'s' * (count > 1)}"
            if token in eos:
                self._ending += ", the last one ends the text"
            yield token
            if self._stop.is_set():
                self._ending = f"stopped after {self._ending}"
                return

    def _on_prompt(self, _change: object = None) -> None:
        """Compute the logits of a new prompt, and draw them."""
        try:
            ids = torch.tensor([self.prompt_ids()])  # [1, S]
            # [V]: an embedding may have more rows than there are tokens
            logits = next_token_logits(self.model, ids, torch.ones_like(ids))[0]
            self.logits = logits[: self.tokenizer.vocab_size]
        except (
            Exception
        ) as error:  # raised in a callback, it would go to the log, unseen
            self.logits = None
            self.picture.layout.visibility = "hidden"  # it shows another prompt
            self._show_error(error)
            return
        self.message.value = ""
        self._on_filter()

    def _on_filter(self, _change: object = None) -> None:
        if self.logits is None:  # the model may work by now
            self._on_prompt()
            return
        before = torch.softmax(self.logits, dim=-1)
        after = {self._title(): distribution(self.logits, self.config)}
        figure = filter_bars(before, after, self.tokenizer.tokens)
        png = io.BytesIO()
        figure.savefig(png, format="png")
        plt.close(figure)  # or the notebook would show it a second time
        self.picture.value = png.getvalue()
        self.picture.layout.visibility = "visible"

    def _title(self) -> str:
        c = self.config
        return (
            f"T = {c.temperature:g}, k = {c.top_k or 'off'}, p = {c.top_p:g}, min-p ="
            f" {c.min_p:g}"
        )

    def _show(self, head: str, written: str, status: str) -> None:
        """Escaped: a model may well write HTML."""
        self.output.value = (
            '<div style="white-space: pre-wrap; line-height: 1.5"><span style="color:'
            f' #7F7F7F">{html.escape(head)}</span>{html.escape(written)}</div>'
        )
        self.message.value = f"<i>{html.escape(status)}</i>"

    def _show_error(self, error: Exception) -> None:
        self.message.value = f'<b style="color: #D55E00">{html.escape(str(error))}</b>'

    def _build(self, prompt: str) -> None:
        """Make the controls and connect them."""
        wide = {"layout": {"width": "97%"}, "style": {"description_width": "90px"}}
        # a redraw takes a fifth of a second
        slow = {**wide, "continuous_update": False}
        self.prompt = widgets.Textarea(prompt, description="prompt", rows=2, **slow)
        self.mode = widgets.ToggleButtons(
            options=MODES, description="read as", style={"description_width": "90px"}
        )
        self.temperature = widgets.FloatSlider(
            0.8, min=0, max=2.5, step=0.05, description="temperature", **slow
        )
        self.top_k = widgets.IntSlider(
            50, min=0, max=200, description="top-k (0: off)", **slow
        )
        self.top_p = widgets.FloatSlider(
            0.8, min=0, max=1, step=0.01, description="top-p", **slow
        )
        self.min_p = widgets.FloatSlider(
            0, min=0, max=1, step=0.01, description="min-p", **slow
        )
        self.seed = widgets.IntSlider(0, min=0, max=99, description="seed", **slow)
        self.max_tokens = widgets.IntSlider(
            120, min=1, max=400, description="max tokens", **slow
        )
        self.generate_button = widgets.Button(
            description="Generate", button_style="primary"
        )
        self.stop_button = widgets.Button(description="Stop", disabled=True)
        self.message, self.output = widgets.HTML(), widgets.HTML()
        self.picture = widgets.Image(format="png")
        for widget, name in (
            (self.temperature, "temperature"),
            (self.generate_button, "generate"),
            (self.stop_button, "stop"),
            (self.output, "output"),
            (self.picture, "figure"),
        ):
            widget.add_class(f"sampler-{name}")
        for control in (self.prompt, self.mode):
            control.observe(self._on_prompt, "value")
        for slider in (self.temperature, self.top_k, self.top_p, self.min_p):
            slider.observe(self._on_filter, "value")
        self.generate_button.on_click(lambda _button: self.generate())
        self.stop_button.on_click(lambda _button: self.stop())

    def _rows(self) -> list[widgets.Widget]:
        sliders = [self.temperature, self.top_k, self.top_p, self.min_p, self.seed]
        controls = widgets.VBox([*sliders, self.max_tokens], layout={"width": "38%"})
        picture = widgets.Box([self.picture], layout={"width": "62%"})
        buttons = widgets.HBox([self.generate_button, self.stop_button, self.message])
        top = [self.prompt, self.mode]
        return [*top, widgets.HBox([controls, picture]), buttons, self.output]
