"""The reference: a page for each module of the package that a reader may use, from its
docstrings, with links to the section of the course that builds a name."""

from __future__ import annotations

import ast
import re
from typing import Any

from course_site.chapters import ROOT, Chapter, Section, built_in

PACKAGE = ROOT / "llm_course"
# Folders and modules, in the order of the index, and what they are.
PARTS = {
    "config": "Configurations",
    "types": "Types",
    "models": "The network, exported from notebooks 01 to 04",
    "engine": "The engine, exported from the later notebooks",
    "checkpoints": "Weights",
    "text": "Text",
    "viz": "Figures",
    "errors": "Errors",
}
# A bar outside of `code`, which would be the mark of a substitution.
BAR = re.compile(r"\|(?=[^`]*(?:`[^`]*`[^`]*)*$)")
PAGE = """# {name}

```{{eval-rst}}
.. automodule:: llm_course.{name}
```
"""


def modules(part: str) -> list[str]:
    """ "models" -> ["models.attention", …]; "config" -> ["config"]."""
    folder = PACKAGE / part
    if not folder.is_dir():
        return [part]
    return [f"{part}.{path.stem}" for path in sorted(folder.glob("[!_]*.py"))]


def pages() -> dict[str, str]:
    """File name -> Markdown, the index among them."""
    parts = {part: modules(part) for part in PARTS if exists(part)}
    names = [name for found in parts.values() for name in found]
    return {f"{name}.md": PAGE.format(name=name) for name in names} | {
        "index.md": index(parts)
    }


def exists(part: str) -> bool:
    return (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()


def index(parts: dict[str, list[str]]) -> str:
    """The page that lists all modules."""
    lines = [
        "# Reference",
        "",
        "Every class and function that has a docstring, module by module. What a"
        " notebook exports says in which section it is built.",
    ]
    for part, names in parts.items():
        lines += ["", f"## {PARTS[part]}", ""]
        lines += [f"- [`{name}`]({name}.md): {summary(name)}" for name in names]
    listed = [name for names in parts.values() for name in names]
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", *listed, "```", ""])


def summary(name: str) -> str:
    """The first sentence of a module's docstring."""
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


# A type with a rule of `checked` is shown as the type.
RULE = re.compile(r"(?:~?typing\.|~?torch\.)?Annotated\[(~?[\w.]+), .*?Must\(.*?>\)\]")


def on_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, arguments: Any, result: Any
) -> tuple[Any, Any]:
    return tuple(x and RULE.sub(r"\1", x) for x in (arguments, result))


def on_docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Say at an exported name where the course builds it. Bars are only bars."""
    lines[:] = [re.sub(r"\|(?=[^`]*(?:`[^`]*`[^`]*)*$)", r"\|", line) for line in lines]
    found = built_in().get(name.removeprefix("llm_course."))
    if not found:
        return
    link = f":ref:`{words_for(*found)} <{found[1].label}>`"
    lines += ["", f"Built in {link}."]


def words_for(chapter: Chapter, section: Section) -> str:
    """A section as text names it: section 7 of 01, The class."""
    numbered = re.match(r"(\d+) · (.*)", section.title)
    if numbered:
        return f"section {numbered[1]} of {chapter.number}, {numbered[2]}"
    return f"{chapter.number}, {section.title}"


def on_skip(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out fields: what Python itself writes for those of a named tuple, and bare
    defaults of a dataclass, which the signature has."""
    said = getattr(obj, "__doc__", None) or ""
    alias = said.startswith("Alias for field number")
    bare = what == "class" and isinstance(obj, int | float | str | tuple | None)
    return True if alias or bare else None
