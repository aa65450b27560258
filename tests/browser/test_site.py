"""Every page of the website in a browser: wide and narrow, light and dark."""

from __future__ import annotations

import functools
import http.server
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests import lab
from tests.site import built

pytestmark = pytest.mark.browser

WIDTHS = (1400, 400)
NARROW = {"width": 400, "height": 900}
# Elements that are wider than the page leaves them, or that scroll inside. Code may,
# and wide figures.
TOO_WIDE = """() => {
  const main = document.querySelector(".bd-article-container"), found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page");
  for (const el of main.querySelectorAll("*")) {
    if (el.closest("pre, mjx-container, .headerlink, .visually-hidden")) continue;
    if (el.matches("img.wide") || el.querySelector(":scope > img.wide")) continue;
    const { width, right } = el.getBoundingClientRect();
    const scrolls = ["auto", "scroll"].includes(getComputedStyle(el).overflowX);
    if (width && right > innerWidth + 1) found.push(el.outerHTML.slice(0, 120));
    else if (scrolls && el.scrollWidth > el.clientWidth + 1
        && !el.querySelector("pre, img.wide"))
      found.push("scrolls: " + el.outerHTML.slice(0, 120));
  }
  return found.slice(0, 5);
}"""
FORMULAS_DRAWN = """async () => {
  await window.MathJax?.startup?.promise;
  return [...document.querySelectorAll(".math")].every(
    (el) => el.closest("details:not([open])") || el.querySelector("mjx-container"));
}"""
TYPED = r"""() => {
  const walk = document.createTreeWalker(document.querySelector("main"), 4);
  const found = [];
  for (let node; (node = walk.nextNode()); )
    if (/\$\$|\\\(|\\\[/.test(node.data))
      if (!node.parentElement.closest("pre, code, script"))
        found.push(node.data.slice(0, 80));
  return found;
}"""
THEME_IS = "(name) => document.documentElement.dataset.theme == name"
# Whatever is folded is looked at, too.
UNFOLD = "document.querySelectorAll('details').forEach((el) => (el.open = true))"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The built site, served on loopback."""
    handler = functools.partial(Quiet, directory=str(built.build()))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def names() -> list[str]:
    return [path.relative_to(built.SITE).as_posix() for path in built.pages()]


def test_every_page_wide_and_narrow_light_and_dark(page: Any, address: str) -> None:
    wrong = []
    for name in names():
        page.goto(address + name)
        page.evaluate(UNFOLD)
        if not page.evaluate(FORMULAS_DRAWN):
            page.troubles.append("a formula is not drawn")
        page.troubles += [f"typed: {text}" for text in page.evaluate(TYPED)]
        for width, theme in itertools.product(WIDTHS, ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            page.wait_for_function(THEME_IS, arg=theme)
            if width < 500:
                page.troubles += [f"too wide: {it}" for it in page.evaluate(TOO_WIDE)]
        wrong += [f"{name}: {trouble}" for trouble in page.troubles]
        page.troubles.clear()
    assert wrong == []


def test_the_dark_theme_is_dark_and_figures_stay_on_paper(
    page: Any, address: str
) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}notebooks/01_rmsnorm.html")
    colour = "(el) => getComputedStyle(el).backgroundColor"
    assert page.locator("body").evaluate(colour) == "rgb(18, 18, 18)"
    figure = page.locator(".cell_output img").first
    assert figure.evaluate(colour) == "rgb(255, 255, 255)"


def test_a_prediction_opens_by_a_click(page: Any, address: str) -> None:
    page.set_viewport_size(NARROW)
    page.goto(f"{address}notebooks/01_rmsnorm.html")
    answer = page.get_by_text("size 237 after 30 matrices")
    assert answer.count() == 1
    assert not answer.is_visible()
    page.get_by_text("Show the output").first.click()
    assert answer.is_visible()


def test_the_search_finds_a_term_without_a_server(page: Any, address: str) -> None:
    page.goto(f"{address}search.html?q=sink")
    found = page.locator("#search-results a", has_text="Attention with grouped queries")
    found.first.wait_for()


def test_a_link_to_a_section_opens_there(page: Any, address: str) -> None:
    page.set_viewport_size(NARROW)
    page.goto(f"{address}terms.html")
    page.get_by_role("link", name="section 7 of 01, The class").first.click()
    page.wait_for_url("**/notebooks/01_rmsnorm.html#ch01-7")
    top = page.get_by_role("heading", name="7 · The class").bounding_box()["y"]
    assert 0 <= top < 200


def test_the_picture_on_the_front_page_plays_and_stops(page: Any, address: str) -> None:
    page.set_viewport_size(NARROW)
    page.goto(address)
    text = page.locator(".steps-text")
    lab.wait_until(lambda: text.inner_text().startswith("A language"), "it stands")
    page.get_by_role("button", name="Pause").click()
    before = text.inner_text()
    page.wait_for_timeout(1500)  # two steps' time
    assert text.inner_text() == before
    page.get_by_role("button", name="Play").click()
    lab.wait_until(lambda: len(text.inner_text()) > len(before), "it does not go on")


def test_it_stands_still_for_who_wants_no_motion(page: Any, address: str) -> None:
    page.set_viewport_size(NARROW)
    page.emulate_media(reduced_motion="reduce")
    page.goto(address)
    page.get_by_role("button", name="Play").wait_for()
    assert page.locator(".steps-text").inner_text().endswith("rules.")
