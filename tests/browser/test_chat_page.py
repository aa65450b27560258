"""The server's page in a browser: a chat, a stop, a key, the keyboard, both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_course.checkpoints import load_pretrained
from tests import lab
from tests.serve.tools import Server, running, wait_until, write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.browser]

KEY = "a key"
ROOM = ("--rows", "2", "--cache", "8")
# The contrast of a text and what is behind it, as WCAG 2.2 defines it.
CONTRAST = """() => {
  const lightness = (color) => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255);
    const [r, g, b] = parts.map((x) =>
      x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    const seen = !/, 0\\)$/.test(color);
    return seen || !node.parentElement ? color : behind(node.parentElement);
  };
  const read = "h1, b, span, p, label, button, summary";
  const nodes = [...document.querySelectorAll(read)].filter((node) =>
    node.textContent.trim() && !node.disabled);
  return nodes.map((node) => {
    const pair = [getComputedStyle(node).color, behind(node)].map(lightness);
    const [low, high] = pair.sort((a, b) => a - b);
    return [node.textContent, (high + 0.05) / (low + 0.05)];
  });
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = load_pretrained("smollm2-135m-instruct")[1]
    assert tokenizer is not None
    # room for answers that go on until they are stopped
    folder = tmp_path_factory.mktemp("page") / "tiny"
    return write_tiny_model(folder, tokenizer, context=16384)


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "log"
    with running(folder, log, *ROOM, env={"LLM_COURSE_API_KEY": KEY}) as server:
        yield server


@pytest.fixture
def page(server: Server) -> Iterator[Any]:
    """The page in a browser of its own. `page.troubles` lists what went wrong in it."""
    from playwright.sync_api import sync_playwright

    if not lab.find_browser():
        pytest.skip(lab.required("no Chrome or Chromium"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=lab.find_browser(), args=lab.FLAGS
        )
        page = browser.new_page()
        page.troubles = []
        note = page.troubles.append
        page.on("requestfailed", lambda request: note(f"failed: {request.url}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on("console", lambda line: line.type == "error" and note(line.text))
        page.goto(server.url)
        yield page
        browser.close()


def status(page: Any, text: str) -> None:
    """Wait until the line below the chat holds `text`."""
    page.locator("#status", has_text=text).wait_for()


def with_key(page: Any, tokens: int) -> None:
    """Settle what the server asks for, and the length of an answer."""
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_label("Temperature").fill("0")
    page.locator("#model", has_text="tiny").wait_for()


def send(page: Any, text: str) -> None:
    """Type a message as somebody does who has no mouse."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def test_a_chat(page: Any, server: Server) -> None:
    status(page, "API key")  # it is asked for before anything is typed
    page.troubles.clear()  # the browser reports that refusal
    with_key(page, 12)
    send(page, "Hi <b>there</b>")
    status(page, "12 tokens; cut at the limit")
    mine, reply = page.locator("#log li").all()
    assert mine.inner_text() == "You\nHi <b>there</b>"
    asked = {"messages": [{"role": "user", "content": "Hi <b>there</b>"}]}
    asked |= {"max_tokens": 12, "temperature": 0}
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = server.post("/v1/chat/completions", asked, headers=headers).json()
    said = answer["choices"][0]["message"]["content"]
    assert reply.locator("span").text_content() == said
    before = server.metrics(headers)["prompt_tokens_total"]
    send(page, "And?")
    page.locator("#log li").nth(3).wait_for()
    status(page, "tokens")
    page.locator("#send:enabled").wait_for()
    first = answer["usage"]["prompt_tokens"]
    assert server.metrics(headers)["prompt_tokens_total"] - before > first + 12
    page.get_by_role("button", name="New chat").click()
    assert page.locator("#log li").count() == 0
    assert page.troubles == []


def test_escape_stops_an_answer_and_frees_its_pages(page: Any, server: Server) -> None:
    status(page, "API key")
    with_key(page, 16000)
    send(page, "Once upon a time")
    page.locator("#log li.assistant span:not(:empty)").wait_for()
    assert page.get_by_role("button", name="Stop").is_enabled()
    page.keyboard.press("Escape")
    page.locator("#send:enabled").wait_for()
    headers = {"Authorization": f"Bearer {KEY}"}
    wait_until(lambda: server.metrics(headers)["num_requests_running"] == 0)
    assert page.evaluate("document.activeElement.id") == "text"


def test_what_the_server_refuses_is_said_and_the_words_are_kept(page: Any) -> None:
    status(page, "API key")
    with_key(page, 20000)
    send(page, "Too much")
    status(page, "context of 16384")
    assert page.get_by_label("Message", exact=True).input_value() == "Too much"
    assert page.locator("#log li").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_can_be_read_in_both_themes(page: Any, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 700})
    status(page, "API key")
    with_key(page, 8)
    send(page, "Hi " + "x" * 300)
    status(page, "tokens")
    page.locator("#send:enabled").wait_for()
    low = [(text, ratio) for text, ratio in page.evaluate(CONTRAST) if ratio < 4.5]
    assert low == []
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)  # nothing scrolls sideways
    unnamed = page.evaluate(
        "[...document.querySelectorAll('textarea, input')]"
        ".filter((field) => !field.labels.length).map((field) => field.id)"
    )
    assert unnamed == []
    order = []
    page.get_by_label("Message", exact=True).focus()
    for _ in range(2):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || 'summary'"))
    assert order == ["send", "summary"]


def test_everything_comes_from_the_server_itself(page: Any, server: Server) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    status(page, "API key")
    assert all(url.startswith((server.url, "data:")) for url in asked), asked
    assert len(asked) >= 4
