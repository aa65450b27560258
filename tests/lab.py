"""JupyterLab in a browser, for tests: a server of its own, and the steps a reader
takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from tests.notebook_tools import clean_env, read

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
MAC_CHROME = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # All cells are in the page, also those that are scrolled out of sight.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
ALL_RAN = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
    return prompts.length > 0 && prompts.every(p => /\\[\\d+\\]/.test(p.textContent));
}"""
HERE = ("http://127.0.0.1:", "ws://127.0.0.1:")  # where a page may ask
MINUTE = 60_000  # Playwright counts milliseconds


def find_browser() -> str | None:
    """The path of a Chrome or Chromium of this machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or (MAC_CHROME if Path(MAC_CHROME).exists() else None)


class Lab:
    """A running JupyterLab server that serves `folder`."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self.folder, self.port, self.token = folder, port, token

    def url(self, path: str) -> str:
        mark = "&" if "?" in path else "?"
        return f"http://127.0.0.1:{self.port}/{path}{mark}token={self.token}"

    def get(self, path: str) -> Any:
        """The server's answer to an API request."""
        with urllib.request.urlopen(self.url(path), timeout=10) as answer:
            return json.load(answer)

    def end_kernels(self) -> None:
        """Shut down what runs; the kernels of the heavy notebooks hold gigabytes."""
        for session in self.get("api/sessions"):
            path = self.url(f"api/sessions/{session['id']}")
            request = urllib.request.Request(path, method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def serve(folder: Path, home: Path) -> Iterator[Lab]:
    """Run JupyterLab on `folder`, with settings and state in `home` instead of the
    user's."""
    for name, settings in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    env = clean_env(
        **{k: str(home / v) for k, v in places.items()}, LLM_COURSE_VERIFY="1"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        lab = Lab(folder, free.getsockname()[1], "course")
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
    ]
    command += [
        f"--port={lab.port}",
        "--ServerApp.port_retries=0",
        f"--notebook-dir={folder}",
    ]
    command += [f"--IdentityProvider.token={lab.token}", "--LabApp.news_url=None"]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until(
            lambda: server.poll() is not None or answers(lab),
            "JupyterLab did not start",
        )
        assert server.poll() is None, (home / "server.log").read_text(encoding="utf-8")
        yield lab
    finally:
        server.terminate()  # takes the kernels along
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def answers(lab: Lab) -> bool:
    try:
        return bool(lab.get("api/status"))
    except OSError:
        return False


def wait_until(
    ready: Callable[[], bool], complaint: str, seconds: float = 120.0
) -> None:
    """Return once `ready()` is true; fail with `complaint` when it never is."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, complaint
        time.sleep(0.2)


@contextmanager
def browser() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def page_of(browser: Any, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A fresh page of a browser. `page.troubles` lists failed requests, requests to
    other machines, and errors of the page or in its console."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(MINUTE)
    page.troubles = []
    note = page.troubles.append

    def local(url: str) -> bool:
        return url.startswith((*HERE, "blob:", "data:", "about:"))

    page.on("request", lambda r: local(r.url) or note(f"off this machine: {r.url}"))
    page.on("requestfailed", lambda r: note(f"failed: {r.url}"))
    page.on("pageerror", lambda error: note(f"error: {error}"))
    page.on(
        "console", lambda line: line.type == "error" and note(f"console: {line.text}")
    )
    yield page
    page.close()


def open_notebook(page: Any, lab: Lab, name: str) -> None:
    """Open a notebook and wait until its kernel is idle and the page knows it."""
    page.goto(lab.url(f"lab/tree/{name}?reset"))
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()

    def idle() -> bool:
        kernels = [session["kernel"] for session in lab.get("api/sessions")]
        return any(k["execution_state"] == "idle" and k["connections"] for k in kernels)

    wait_until(idle, "the kernel did not become idle")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def run_all_and_save(page: Any, lab: Lab, name: str) -> nbformat.NotebookNode:
    """Clear every output, run all cells from the menus, save; the notebook as it is on
    disk."""
    menu(page, "Edit", "Clear Outputs of All Cells")
    menu(page, "Run", "Run All Cells")
    page.wait_for_function(ALL_RAN, timeout=15 * MINUTE)
    path = lab.folder / name
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    wait_until(lambda: path.stat().st_mtime_ns != before, "the notebook was not saved")
    return read(path)


def menu(page: Any, title: str, item: str) -> None:
    """Choose an item of the menu bar; after some names stands a shortcut."""
    page.get_by_role("menuitem", name=title, exact=True).click()
    name = re.compile(rf"^{re.escape(item)}(\W|$)")
    page.get_by_role("menuitem", name=name).first.click()


def grows(page: Any, selector: str, times: int) -> None:
    """Wait until an element's text was seen to grow `times` times: it comes in
    pieces."""
    seen = [page.locator(selector).inner_text()]

    def longer() -> bool:
        text = page.locator(selector).inner_text()
        if len(text) > len(seen[-1]):
            seen.append(text)
        return len(seen) > times

    wait_until(longer, f"the text of {selector} did not grow {times} times")


def required(what: str) -> str:
    """For `pytest.skip`, where a test may be skipped; fails where it must run (CI is
    set)."""
    assert not os.environ.get("CI"), (
        f"{what}; CI is set, so this test may not be skipped"
    )
    return what
