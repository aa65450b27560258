"""The playground as a page of its own, served by Voila."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import lab
from tests.notebook_tools import PLAYGROUND, ROOT, clean_env

pytestmark = pytest.mark.browser

# Extensions of JupyterLab that the tests' packages bring, and that need more of it than
# Voila has.
NOT_FOR_VOILA = ["@jupyter/nbgrader", "@jupyter-notebook/lab-extension"]
ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/"  # in Voila's own template


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Voila with the playground, without the user's settings."""
    if importlib.util.find_spec("voila") is None:
        pytest.skip(lab.required("Voila, of the extra `lab`, is not installed"))
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    env = clean_env(**{name: str(tmp_path / name) for name in places})
    env |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", str(PLAYGROUND), "--no-browser"]
    command += [f"--port={port}", "--Voila.ip=127.0.0.1"]
    command += [f"--VoilaConfiguration.extension_denylist={NOT_FOR_VOILA}"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        lab.wait_until(lambda: server.poll() is not None or answers(port), "no Voila")
        assert server.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()  # takes its kernels along
        server.wait(30)


def answers(port: int) -> bool:
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def test_the_playground_is_a_page(page: Any, address: str) -> None:
    page.route(f"{ICONS}**", lambda route: route.fulfill(content_type="text/css"))
    page.goto(address)
    root = page.get_by_role("region", name="Sampling playground")
    root.wait_for()
    page.troubles[:] = [line for line in page.troubles if ICONS not in line]
    assert page.get_by_role("heading", name="The sampling playground").is_visible()
    assert not page.locator(".jp-RenderedImage img").is_visible()
    assert page.locator(".jp-CodeCell .jp-InputArea").count() == 0  # no code
    box = root.bounding_box()
    assert box["y"] + box["height"] < 900
    numbers = root.locator(".pg-number").first
    before = numbers.inner_text()
    root.get_by_role("slider", name="temperature").press("ArrowRight")
    lab.wait_until(lambda: numbers.inner_text() != before, "no answer to a move")
    root.get_by_role("slider", name="length").fill("5")
    root.get_by_role("button", name="Generate").click()
    tokens = root.locator(".pg-token")
    lab.wait_until(lambda: tokens.count() == 5, "no text")
