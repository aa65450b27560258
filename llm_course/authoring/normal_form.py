"""The one form in which notebooks are stored, so that a diff shows only what
changed."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from llm_course.authoring.pictures import pixels, strip_png

SANITIZE_FILE = Path(__file__).with_name("sanitize.cfg")
KERNEL = {
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "name": "python3",
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PNG = "image/png"
# `#| fig-alt: One sentence.`, continued on lines that start with `#|   `
ALT_TEXT = re.compile(r"^#\| fig-alt: (.+(?:\n#\|   .+)*)", re.MULTILINE)
# what a progress bar drew over
OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)


@dataclass(frozen=True)
class Rules:
    """The regular expressions of sanitize.cfg: (pattern, replacement) pairs."""

    scrub: list[tuple[re.Pattern[str], str]]
    measure: list[tuple[re.Pattern[str], str]]

    @classmethod
    def load(cls, path: Path = SANITIZE_FILE) -> Rules:
        parser = configparser.RawConfigParser(delimiters=(":",))
        parser.read_string(path.read_text(encoding="utf-8"))
        found: dict[str, list[tuple[re.Pattern[str], str]]] = {
            "scrub": [],
            "measure": [],
        }
        for section in parser.sections():
            rule = (re.compile(parser[section]["regex"]), parser[section]["replace"])
            found[section.split()[0]].append(rule)
        return cls(**found)

    def stored(self, text: str) -> str:
        """`text` without what differs between machines or tells about them."""
        for pattern, replacement in self.scrub:
            text = pattern.sub(replacement, text)
        return text

    def compared(self, text: str) -> str:
        """`text` as nbval compares it: measurements are gone too."""
        for pattern, replacement in [*self.scrub, *self.measure]:
            text = pattern.sub(replacement, text)
        return text


RULES = Rules.load()


def normal_form(nb: Any, stem: str, before: Any = None, timing: bool = False) -> str:
    """The text of notebook `nb` in normal form; `nb` is changed.

    `before` is the notebook as it was stored. An output of `before` stays when the new
    one differs from it only in measurements or in the bytes, not the pixels, of a
    picture. Cells tagged `timing` keep their stored outputs altogether, or with
    `timing` none of them.
    """
    nb.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.cells = [cell for cell in nb.cells if cell.source.strip()]
    old_outputs = (
        {cell.get("id"): cell.get("outputs") for cell in before.cells} if before else {}
    )
    used: set[str] = set()
    count = 0
    for i, cell in enumerate(nb.cells):
        old = old_outputs.get(cell.get("id")) or []
        if not cell.get("id") or cell.id in used:
            cell["id"] = f"{stem[:2]}-{i:03d}"
        used.add(cell.id)
        tags = set(cell.metadata.get("tags", []))
        cell.pop("attachments", None)
        if cell.cell_type == "code":
            cell.source = cell.source.rstrip("\n")
            count += 1
            cell.execution_count = count
            if shows_widget(cell.outputs):
                tags.add("widget")
            measured = timing and "timing" in tags
            if old and "timing" in tags and not timing:
                cell.outputs = old
            cell.outputs = [out for out in map(normal_output, cell.outputs) if out]
            if not measured:  # or one run's numbers would stand beside another's
                keep_old_outputs(
                    cell.outputs, [out for out in map(normal_output, old) if out]
                )
            alt = alt_text(cell.source)
            for out in cell.outputs:
                if out.output_type == "execute_result":
                    out.execution_count = count
                if alt and PNG in out.get("data", {}):
                    out.metadata.setdefault(PNG, {})["alt"] = alt
        cell.metadata = nbformat.from_dict({"tags": sorted(tags)} if tags else {})
    return nbformat.writes(nb).rstrip("\n") + "\n"


def alt_text(source: str) -> str | None:
    """What a cell says of its figure, for who cannot see it: its line `#| fig-alt:`.

    No viewer of notebooks takes alt texts from one common place. Written in the cell,
    the sentence is read out wherever the code is; refresh also puts it into the
    metadata of the picture (nbconvert's classic template reads it there, and the site
    does).
    """
    found = ALT_TEXT.search(source)
    return " ".join(found[1].replace("\n#|", " ").split()) if found else None


def shows_widget(outputs: list[Any]) -> bool:
    """True when a widget is among the outputs."""
    return any(WIDGET_VIEW in out.get("data", {}) for out in outputs)


def normal_output(out: Any) -> Any:
    """One output in normal form; None when nothing of it is left."""
    if out.output_type == "stream":
        out.text = RULES.stored(OVERWRITTEN.sub("", out.text))
        return out if out.text.strip() else None
    if out.output_type == "error":
        out.traceback = [RULES.stored(line) for line in out.traceback]
        return out
    for kind in list(out.data):
        if kind == WIDGET_VIEW:
            del out.data[kind]
        elif kind == PNG:
            out.data[kind] = strip_png(out.data[kind])
        elif kind.startswith("text/"):
            out.data[kind] = RULES.stored(out.data[kind])
    # An image drawn at double density carries its size; nothing else is needed here.
    sizes = {
        kind: {name: values[name] for name in ("width", "height") if name in values}
        for kind, values in out.metadata.items()
        if kind in out.data and "width" in values
    }
    out.metadata = nbformat.from_dict(sizes)
    return out


def keep_old_outputs(outputs: list[Any], old: list[Any]) -> None:
    """Put back each old output that says the same, so that re-execution gives no
    diff."""
    if [out.output_type for out in outputs] != [out.output_type for out in old]:
        return
    for new, stored in zip(outputs, old, strict=True):
        if new.output_type == "stream" and new.name == stored.name:
            new.text = _keep(new.text, stored.text)
        for kind, value in new.get("data", {}).items():
            if (was := stored.data.get(kind)) is None:
                continue
            if kind == PNG:
                if np.array_equal(pixels(value), pixels(was)):
                    new.data[kind] = was
            elif kind.startswith("text/"):
                new.data[kind] = _keep(value, was)


def _keep(new: str, old: str) -> str:
    return old if RULES.compared(new) == RULES.compared(old) else new
