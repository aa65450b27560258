"""Arguments, checked where a public function is called: types, sizes and shapes.

Python takes no notice of annotations. Without a check, a list where a tensor belongs
gets deep into the code, and what comes back is an error of some library that names
neither the argument nor its value. `checked` reads the annotations and says both at
once. What an annotation cannot say, such as the size of a dimension, is one of the
three short questions at the end.
"""

from __future__ import annotations

import inspect
import numbers
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from types import EllipsisType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

if TYPE_CHECKING:  # tokenizers are checked too, and need no torch
    from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
# What stands for a number; NumPy's numbers are of these kinds too.
NUMBERS = {int: numbers.Integral, float: numbers.Real}


@dataclass(frozen=True)
class Must:
    """In `Annotated[type, Must(words, holds)]`: what `checked` asks beside the type."""

    words: str  # "be …"
    holds: Callable[[Any], bool]


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check the types of `function`'s arguments before it runs.

    The wrapper raises TypeError with the argument's name, its value and the type that
    is wanted, and ValueError where a `Must` does not hold. Lists and dicts are told
    apart from other things, but nobody looks at what is in them; True and False are no
    numbers; a str is no sequence.
    """
    names = [*inspect.signature(function).parameters]
    title = function.__qualname__.removesuffix(".__init__")
    kinds: dict[str, Any] = {}
    rules: dict[str, Must] = {}
    known: set[tuple[str, type]] = set()  # was right once, and always is

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kinds:  # at the first call: a name may be defined after the function
            kinds.update(kinds_of(function))
            rules.update(rules_of(kinds))
        for name, value in chain(zip(names, args, strict=False), kwargs.items()):
            if (name, type(value)) not in known:
                if name in kinds and not fits(value, kinds[name]):
                    raise TypeError(
                        f"{title}: {name} = {value!r:.60} is"
                        f" {article(type(value).__name__)}; give {wanted(kinds[name])}"
                    )
                known.add((name, type(value)))
            if name in rules and not rules[name].holds(value):
                raise ValueError(
                    f"{title}: {name} = {shown(value)}: must {rules[name].words}"
                )
        return function(*args, **kwargs)

    return call


def kinds_of(function: Callable[..., object]) -> dict[str, Any]:
    """The annotations of a function's arguments, as types. Those that only a type
    checker can resolve are left out."""
    names = inspect.unwrap(function).__globals__
    found = {}
    for name, kind in inspect.get_annotations(function).items():
        try:  # in a notebook's cell annotations are types, in a module their text
            kind = eval(kind, names) if isinstance(kind, str) else kind
        except NameError:
            continue
        found[name] = kind if name != "return" else Any
    return found


def rules_of(kinds: dict[str, Any]) -> dict[str, Must]:
    """What annotations ask beside the type."""
    return {
        name: rule
        for name, kind in kinds.items()
        for rule in getattr(kind, "__metadata__", ())
        if isinstance(rule, Must)
    }


def fits(value: object, kind: Any) -> bool:
    """Whether an annotation admits a value."""
    if kind is Any:
        return True
    if kind is None:
        return value is None
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        return any(fits(value, one) for one in get_args(kind))
    if get_origin(kind) is Annotated:
        return fits(value, get_args(kind)[0])
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
    if get_origin(kind) is Annotated:
        return wanted(get_args(kind)[0])
    return article(getattr(get_origin(kind) or kind, "__name__", str(kind)))


def article(name: str) -> str:
    """ "an int", "a Tensor"."""
    return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


def shown(value: object) -> str:
    """A value in a message; of a tensor or an array, shape and dtype."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{[*value.shape]} of {value.dtype}"
    return f"{value!r:.60}"


def at_least(low: float, **values: float | None) -> None:
    """Raise ValueError for a value below `low`, or NaN. None is let through."""
    for name, value in values.items():
        if value is not None and not value >= low:
            raise ValueError(f"{name} = {value}: must be at least {low}")


def within(low: float, high: float, **values: float) -> None:
    """Raise ValueError for a value outside [low, high], or NaN."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} = {value}: must be from {low} to {high}")


def shaped(shape: tuple[int | EllipsisType | None, ...], **tensors: Tensor) -> None:
    """Raise ValueError for a tensor of another shape. None in `shape` is a dimension of
    any size, and `...` at its beginning any number of dimensions."""
    sizes = shape[1:] if shape[0] is ... else shape
    for name, x in tensors.items():
        own = x.shape[-len(sizes) :] if shape[0] is ... else x.shape
        if len(own) != len(sizes) or any(
            size not in (None, has) for size, has in zip(sizes, own, strict=True)
        ):
            marks: dict[Any, str] = {None: "_", ...: "..."}
            text = ", ".join(marks.get(size, str(size)) for size in shape)
            raise ValueError(f"{name} has shape {[*x.shape]}: must be [{text}]")
