"""Run a chat template that came with a checkpoint: no access to Python, and a bounded
amount of work.

Jinja's immutable sandbox keeps a template away from Python's internals, but not from
looping for hours or doubling a string forty times. So work is counted, in characters
and list items: every pass of a loop, every call, filter, comparison and printed value,
and every string or list that is made is charged to a budget, before or as it happens.
The count depends on nothing but template and messages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import jinja2
from jinja2 import filters, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_TEMPLATE = 200_000  # characters; the longest in use have about 20,000
BUDGET = 20_000_000  # beside 100 for every character of the messages
_PER_STEP = 20


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What templates in use need. Left out: whatever makes a long string from a short one
# and a number.
_CHEAP_FILTERS = _words("abs count d default first float int items last length safe")
_FILTERS = _words(
    """capitalize dictsort e escape list lower map max min reject rejectattr reverse
    select selectattr sort string title trim unique upper"""
)
_TESTS = _words(
    """boolean callable defined divisibleby eq equalto == even false filter float ge gt
    in integer iterable le lower lt mapping ne != none number odd sequence string true
    undefined upper"""
)
_METHODS: dict[Any, tuple[str, ...]] = {
    str: _words(
        """capitalize count endswith find index isalnum isalpha isdigit isspace
        join lower lstrip partition removeprefix removesuffix replace rfind rpartition
        rsplit rstrip split splitlines startswith strip title upper"""
    ),
    dict: _words("get items keys values"),
    list: _words("count index"),
    tuple: _words("count index"),
}


class TemplateRefusal(Exception):
    """The template called `raise_exception`: it will not have these messages."""


def render(template: str, values: dict[str, Any], size: int) -> str:
    """Return the text that `template` makes of `values`, whose strings have about
    `size` characters.

    Raises TemplateRefusal where the template itself refuses, jinja2.TemplateError where
    it is wrong or asks for too much, and whatever Python raises for impossible
    operations in it.
    """
    if len(template) > MAX_TEMPLATE:
        raise SecurityError(f"it has {len(template):,} characters")
    sandbox = _Sandbox(BUDGET + 100 * size)
    tree = sandbox.parse(template)
    sandbox.rewrite(tree)
    code = sandbox.compile(tree)
    return jinja2.Template.from_code(sandbox, code, sandbox.make_globals(None)).render(
        values
    )


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, budget: int) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=self.printed,
        )
        self.budget, self.constant = budget, 0
        self.filters = {name: filters.FILTERS[name] for name in _CHEAP_FILTERS}
        self.filters |= {name: self.charged(filters.FILTERS[name]) for name in _FILTERS}
        self.filters |= {
            "join": self.join,
            "replace": self.replace,
            "tojson": self.tojson,
        }
        self.filters |= {" each": self.each, " made": self.made, " joined": self.joined}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: self.charged(tests[name]) for name in _TESTS}
        self.globals = {"range": self.globals["range"], "namespace": Namespace}
        self.globals["raise_exception"] = _refuse

    def charge(self, amount: int) -> None:
        self.budget -= amount
        if self.budget < 0:
            raise SecurityError("it does too much work for these messages")

    def weigh(self, value: Any) -> None:
        """Charge for every character and item in `value`, however deep."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                self.charge(1 + len(item))
            elif isinstance(item, list | tuple | dict):
                self.charge(2 + len(item))
                waiting += [*item, *item.values()] if isinstance(item, dict) else item
            elif isinstance(item, int | float | None | Undefined):
                self.charge(10)
            else:
                self.charge(_PER_STEP)

    # --- the template's tree, before it is compiled ---

    def rewrite(self, tree: nodes.Template) -> None:
        """Put a counter around everything that loops, compares, or makes a string or a
        list."""
        self.constant = sum(map(len, _texts(tree)))
        for parent in [tree, *tree.find_all(nodes.Node)]:
            for field, value in list(parent.iter_fields()):
                if isinstance(value, nodes.Node):
                    setattr(parent, field, self.wrapped(parent, field, value))
                elif isinstance(value, list):
                    value[:] = [
                        (
                            self.wrapped(parent, field, v)
                            if isinstance(v, nodes.Node)
                            else v
                        )
                        for v in value
                    ]

    def wrapped(self, parent: nodes.Node, field: str, node: nodes.Node) -> nodes.Node:
        if isinstance(node, nodes.NSRef) and node.attr.startswith("_"):
            raise SecurityError(f"it sets the attribute {node.attr!r}")
        if isinstance(node, nodes.Concat):
            parts = nodes.List(node.nodes, lineno=node.lineno)
            return _filtered(parts, " joined")
        if isinstance(parent, nodes.For) and field == "iter":
            texts = (data for part in parent.body for data in _texts(part))
            return _filtered(
                node, " each", nodes.Const(_PER_STEP + sum(map(len, texts)))
            )
        makes = isinstance(node, nodes.List | nodes.Tuple | nodes.Dict)
        slices = isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
        compared = isinstance(parent, nodes.Compare | nodes.Operand) and field == "expr"
        if (makes or slices or compared) and getattr(node, "ctx", "load") == "load":
            return _filtered(node, " made")
        return node

    # --- what the counters do ---

    def each(self, values: Iterable[Any], per_pass: int) -> Iterable[Any]:
        """Charge for the passes of a loop: each may print all the text inside it."""
        if isinstance(values, Sized):
            self.charge(len(values) * per_pass)
            return values
        return self.counted(values, per_pass)

    def counted(self, values: Iterable[Any], amount: int = _PER_STEP) -> Iterator[Any]:
        for value in values:
            self.charge(amount)
            yield value

    def made(self, value: Any) -> Any:
        self.weigh(value)
        return value

    def joined(self, values: list[Any]) -> str:
        return "".join(str(self.printed(value)) for value in values)

    def printed(self, value: Any) -> Any:
        """Charge for a value that is about to become text, and refuse what is no
        data."""
        plain = isinstance(
            value, str | int | float | list | tuple | dict | None | Undefined
        )
        if not plain:
            raise SecurityError(f"it prints an object of type {type(value).__name__}")
        self.weigh(value)
        return value

    def charged(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Charge for the arguments and the result of a filter or a test."""

        @functools.wraps(function)  # Jinja keeps its marks in the function's __dict__
        def counted(*args: Any, **kwargs: Any) -> Any:
            for value in (*args, *kwargs.values()):
                self.weigh(value)
            return self.made(function(*args, **kwargs))

        return counted

    def join(self, values: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
        if attribute is not None:
            values = map(filters.make_attrgetter(self, attribute), values)
        parts = [str(self.printed(value)) for value in self.counted(values)]
        separator = str(self.printed(d))
        self.charge(len(separator) * len(parts))
        return separator.join(parts)

    def replace(self, text: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = (str(self.printed(value)) for value in (text, old, new))
        self.charge(text.count(old) * len(new))
        return text.replace(old, new, -1 if count is None else count)

    def tojson(self, value: Any, indent: int | None = None, **options: Any) -> str:
        """JSON as it is: Jinja's own filter escapes for HTML."""
        if indent is not None and not 0 <= indent <= 8:
            raise SecurityError(f"it indents JSON by {indent!r:.100}")
        allowed = {
            k: v for k, v in options.items() if k in ("sort_keys", "ensure_ascii")
        }
        encoder = json.JSONEncoder(indent=indent, **{"ensure_ascii": False} | allowed)
        return "".join(
            self.made(piece) for piece in encoder.iterencode(self.printed(value))
        )

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Raise at once: Jinja would go on, and print nothing."""
        raise SecurityError(f"it reaches for {type(obj).__name__}.{attribute}")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or (operator != "+" and not numbers):
            raise SecurityError(
                f"it computes {type(left).__name__} {operator} {type(right).__name__}"
            )
        if operator == "*" and max(abs(left), abs(right)) > 2**63:
            raise SecurityError("it computes with huge numbers")
        if operator == "+":
            self.weigh(left)
            self.weigh(right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __callee: Any, *args: Any, **kwargs: Any) -> Any:
        self, callee = __self, __callee  # mangled, so that kwargs may have any name
        owner, name = getattr(callee, "__self__", None), getattr(callee, "__name__", "")
        for value in (*args, *kwargs.values()):
            self.weigh(value)
        if isinstance(callee, Macro | LoopContext):
            self.charge(_PER_STEP + self.constant)
        elif type(owner) in _METHODS:
            if name not in _METHODS[type(owner)]:
                raise SecurityError(f"it calls {type(owner).__name__}.{name}")
            if isinstance(owner, str):
                self.weigh(owner)
                if name == "join":
                    return self.join(args[0], owner)
                if name == "replace":
                    return self.replace(owner, *args)
        elif callee is Namespace:
            if args or any(key.startswith("_") for key in kwargs):
                raise SecurityError(
                    "it makes a namespace of other things than named values"
                )
        elif not isinstance(callee, Undefined) and callee not in self.globals.values():
            raise SecurityError(f"it calls {name or type(callee).__name__}")
        return self.made(super().call(__context, callee, *args, **kwargs))


def _filtered(node: nodes.Node, name: str, *args: nodes.Node) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _texts(node: nodes.Node) -> Iterator[str]:
    """Yield the constant texts in a part of a template."""
    if isinstance(node, nodes.TemplateData):
        yield node.data
    yield from (data.data for data in node.find_all(nodes.TemplateData))


def _refuse(reason: Any) -> None:
    raise TemplateRefusal(str(reason))
