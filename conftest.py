"""Settings for `pytest --nbval notebooks/` and `pytest tests/`, from any folder of the
repository.

nbval alone compares text. The hook below makes it compare pictures too, drop outputs
that hold nothing but notices, and take the tag `timing` to mean that an output is not
compared.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

# One thread each: two workers with two threads each would fight for two cores. Set
# before torch is imported; what is printed does not depend on it.
if "PYTEST_XDIST_WORKER" in os.environ:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ.setdefault(
        "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers))
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set nbval's options, where nbval is installed and asked for."""
    if not getattr(config.option, "nbval", False):
        return
    from llm_course.authoring.location import SESSION, VERIFY
    from llm_course.authoring.normal_form import SANITIZE_FILE

    os.environ[VERIFY] = "1"  # kernels inherit it: they write nothing
    os.environ.pop(SESSION, None)  # of the notebook that runs pytest, if one does
    config.option.nbval_sanitize_with = config.option.nbval_sanitize_with or str(
        SANITIZE_FILE
    )
    config.option.nbval_current_env = not config.option.nbval_kernel_name
    config.option.nbval_cell_timeout = min(config.option.nbval_cell_timeout, 300)
    extend_nbval()


def extend_nbval() -> None:
    """Let nbval compare pictures, know the tag `timing`, and see widgets that are not
    tagged."""
    from nbval import plugin

    from llm_course.authoring.normal_form import shows_widget
    from llm_course.authoring.pictures import compare_pictures

    plugin.metadata_tags["timing"] = ("check", False)
    compare_text = plugin.IPyNbCell.compare_outputs
    if hasattr(compare_text, "with_pictures"):
        return  # a second pytest in the same process

    def compare_outputs(
        self: Any, test: list[Any], ref: list[Any], skip_compare: Any = None
    ) -> bool:
        same = compare_text(
            self, speaking(self, test), speaking(self, ref), skip_compare
        )
        found = compare_pictures(ref, test)
        if shows_widget(test) and "widget" not in self.cell.metadata.get("tags", []):
            found.append(
                "the cell shows a widget and lacks the tag `widget`, which refresh sets"
            )
        self.comparison_traceback.extend(found)
        return same and not found

    compare_outputs.with_pictures = True  # type: ignore[attr-defined]
    plugin.IPyNbCell.compare_outputs = compare_outputs


def speaking(cell: Any, outputs: list[Any]) -> list[Any]:
    """The outputs without streams of which the sanitize rules leave nothing."""
    return [
        out
        for out in outputs
        if out.output_type != "stream" or cell.sanitize(out.text).strip()
    ]
