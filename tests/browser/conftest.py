"""One browser for all tests of a worker, a fresh page for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import lab

# A page without network asks in vain for these, and works.
HARMLESS = ("favicon", "service-worker", "ResizeObserver loop")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if lab.find_browser() is None:
        pytest.skip(lab.required("no Chrome or Chromium was found"))
    with lab.browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that must see no failed request, no console error and no other machine."""
    with lab.page_of(browser) as page:
        yield page
        assert [
            line for line in page.troubles if not any(word in line for word in HARMLESS)
        ] == []
