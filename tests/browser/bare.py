"""A widget in a bare page: its own module and style, and a stub of the model that
Jupyter would give it. Python's side is the real one."""

from __future__ import annotations

import base64
import queue
from typing import Any

from llm_course.widgets.base import LabWidget

# A narrow window; what JupyterLab leaves a cell of 1200, and that without a side bar.
WIDTHS = (600, 784, 1080)
HIDDEN = ("_esm", "_css", "layout", "tooltip", "tabbable")
# `window.model` is as anywidget hands it to `render`; `sent` waits for Python.
MOUNT = """async ({ source, style, state }) => {
  const heard = {};
  const read = (value) => value?.base64 === undefined ? value // Jupyter gives bytes so:
    : new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
  for (const name of Object.keys(state)) state[name] = read(state[name]);
  window.model = {
    sent: [],
    get: (name) => state[name],
    send(content) { this.sent.push(content); },
    on: (names, call) => names.split(" ").forEach((n) => (heard[n] ??= []).push(call)),
    widget_manager: { kernel: { statusChanged: {
      connect(call) { window.kernelIs = (status) => call(null, status); },
      disconnect() { window.kernelIs = null; },
    } } },
    fire: (event) => heard[event]?.forEach((call) => call()),
    change(name, value) {
      state[name] = read(value);
      this.fire(`change:${name}`);
    },
  };
  const sheet = document.createElement("style");
  sheet.textContent = style;
  document.head.append(sheet);
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  window.view = new AbortController();
  const el = document.createElement("div"); // not in the page yet, as in JupyterLab
  await widget.render({ model: window.model, el, signal: window.view.signal });
  document.body.append(el);
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
}"""


def _sent(value: Any) -> Any:
    """A trait on its way to the page, which reads bytes from letters."""
    if not isinstance(value, bytes | memoryview):
        return value
    return {"base64": base64.b64encode(value).decode()}


class Bare:
    """`widget` in `page`. Nothing passes between them but by `pump`."""

    def __init__(self, page: Any, widget: LabWidget) -> None:
        self.page, self.widget = page, widget
        self._changes: queue.Queue[tuple[str, Any]] = queue.Queue()
        state = {k: _sent(v) for k, v in widget.get_state().items() if k not in HIDDEN}
        self._names = [name for name in state if not name.startswith("_")]
        widget.observe(self._note, names=self._names)
        page.goto("about:blank")
        parts = {"source": widget._esm, "style": widget._css, "state": state}
        page.evaluate(MOUNT, parts)

    def _note(self, change: Any) -> None:
        self._changes.put((change.name, _sent(change.new)))

    def sent(self) -> list[dict[str, Any]]:
        """What the page has sent since the last call; Python does not get it."""
        return self.page.evaluate("model.sent.splice(0)")

    def tell(self) -> None:
        """Give the page what changed on Python's side."""
        while not self._changes.empty():
            self.page.evaluate("c => model.change(...c)", self._changes.get())

    def assert_fits(self) -> None:
        """Nothing is wider than the page, and from 700 on all stands on one screen."""
        width = self.page.evaluate("innerWidth")
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        box = self.page.locator(".lab").bounding_box()
        assert box["width"] <= width
        assert width < 700 or box["height"] < 680  # JupyterLab's bars leave that of 900

    def move_every_slider(self) -> dict[str, Any]:
        """Press the right arrow on each; the settings of their names in Python."""
        names = []
        for slider in self.page.get_by_role("slider").all():
            slider.press("ArrowRight")
            self.pump()
            names.append(slider.get_attribute("name"))
        return {name: self.widget.settings[name] for name in names}

    def pump(self) -> list[dict[str, Any]]:
        """Let Python answer all messages, and the page hear it; the messages."""
        done = []
        while contents := self.sent():
            for content in contents:
                self.widget._on_message(self.widget, content, [])
            done += contents
            self.tell()
        self.tell()
        return done
