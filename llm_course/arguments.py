"""The types of arguments, checked where a public function is called.

Python takes no notice of annotations. Without a check, a list where a tensor belongs
gets deep into the code, and what comes back is an error of some library that names
neither the argument nor its value. `checked` reads the annotations and says both at
once.
"""

from __future__ import annotations

import inspect
import numbers
import types
from collections.abc import Callable
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

P = ParamSpec("P")
R = TypeVar("R")
# What stands for a number; NumPy's numbers are of these kinds too.
NUMBERS = {int: numbers.Integral, float: numbers.Real}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the types of `function`'s arguments before it runs.

    The wrapper raises TypeError with the argument's name, its value and the type that
    is wanted. Lists and dicts are told apart from other things, but nobody looks at
    what is in them; True and False are no numbers; a str is no sequence.
    """
    names = [*inspect.signature(function).parameters]
    title = function.__qualname__.removesuffix(".__init__")
    kinds: dict[str, Any] = {}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kinds:  # at the first call: a name may be defined after the function
            kinds.update(kinds_of(function))
        for name, value in chain(zip(names, args, strict=False), kwargs.items()):
            if name in kinds and not fits(value, kinds[name]):
                raise TypeError(
                    f"{title}: {name} = {value!r:.60} is"
                    f" {article(type(value).__name__)}; give {wanted(kinds[name])}"
                )
        return function(*args, **kwargs)

    return call


def kinds_of(function: Callable[..., object]) -> dict[str, Any]:
    """The annotations of a function's arguments, as types. Those that only a type
    checker can resolve are left out."""
    found = {}
    for name, text in inspect.get_annotations(function).items():
        try:
            found[name] = eval(text, function.__globals__) if name != "return" else Any
        except NameError:
            continue
    return found


def fits(value: object, kind: Any) -> bool:
    """Whether an annotation admits a value."""
    if kind is Any:
        return True
    if kind is None:
        return value is None
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        return any(fits(value, one) for one in get_args(kind))
    if kind in NUMBERS:
        return isinstance(value, NUMBERS[kind]) and not isinstance(value, bool)
    kind = get_origin(kind) or kind
    if isinstance(value, str | bytes):
        return isinstance(value, kind) and kind in (str, bytes, object)
    return isinstance(value, kind)


def wanted(kind: Any) -> str:
    """An annotation in words: "a Tensor or None"."""
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        return " or ".join(wanted(one) for one in get_args(kind))
    if kind in (None, types.NoneType):
        return "None"
    return article(getattr(get_origin(kind) or kind, "__name__", str(kind)))


def article(name: str) -> str:
    """ "an int", "a Tensor"."""
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"
