"""Wrong versions of a reference, as a text of hints and edits.

A wrong version says what a reader did differently, and nothing else. Each hint stands
above the edits of the reference's source that make its version:

    that divides by the weight
        * -> /
    with epsilon outside the root
        rsqrt(mean -> 1 / (mean ;; True) -> True).sqrt()
    that multiplies by the weight first, so that it counts in the mean: it
    belongs behind the division
        x.pow -> (x * weight).pow
        return weight * -> return

An edit is "old -> new". Each has a line, or " ;; " stands between them; a line that is
indented further goes on with code. The first may be the name of another function of the
module, which is then edited in place of the reference; a name alone is a version too.
An edit whose old text does not stand in the source exactly once is an error when the
exercise is imported, so that no wrong version can rot unnoticed.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from itertools import groupby, zip_longest
from typing import Any

Function = Callable[..., Any]
ARROW = " ->"
BETWEEN = re.compile(r";;|\n(?! )")  # edits


def edited(reference: Function, edits: str) -> Function:
    """`reference`, a function or a class, with each "old -> new" made, in order.

    The new one sees the names of the reference's module, as they are when it is
    made. Raises ValueError for an old text that does not stand exactly once in what the
    edits before it left.
    """
    names = dict(vars(sys.modules[reference.__module__]))
    steps = [edit.strip() for edit in BETWEEN.split(edits)]
    if ARROW not in steps[0] and steps[0] in names:
        reference = names[steps.pop(0)]
    if not steps:
        return reference
    source, name = textwrap.dedent(inspect.getsource(reference)), reference.__name__
    for step in steps:
        old, arrow, new = step.partition(ARROW)
        if not arrow:
            raise ValueError(f"{step!r} is neither 'old -> new' nor a function")
        if (found := source.count(old)) != 1:
            raise ValueError(f"{old!r} stands {found} times in {name}, not once")
        source = source.replace(old, new.strip())
    exec(compile(source, f"<{name}: {edits}>", "exec"), names)
    return names[name]


def wrong_versions(reference: Function, text: str) -> dict[str, Function]:
    """The versions of `text` by hint, in its order.

    Raises ValueError, which names the hint, for one that stands twice, for one without
    edits, for edits without one, and for edits that do not fit.
    """
    versions: dict[str, Function] = {}
    lines = filter(None, text.splitlines())
    groups = [list(group) for _, group in groupby(lines, lambda line: line[0] == " ")]
    for above, below in zip_longest(groups[::2], groups[1::2], fillvalue=()):
        hint = " ".join(above)
        if hint.startswith(" "):
            raise ValueError(f"no hint stands above {hint.strip()!r}")
        if hint in versions:
            raise ValueError(f"{hint!r} stands twice")
        try:
            versions[hint] = edited(reference, "\n".join(line[4:] for line in below))
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"{hint}: {error}") from error
    return versions
