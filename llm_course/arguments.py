"""Arguments, checked where a public function is called: types, sizes and shapes.

Python takes no notice of annotations. Without a check, a list where a tensor belongs
gets deep into the code, and what comes back is an error of some library that names
neither the argument nor its value. `checked` reads the annotations and says both at
once. What an annotation cannot say, such as the size of a dimension, is left to the
short functions at the end.
"""

from __future__ import annotations

import inspect
import numbers
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
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
    from numpy.typing import NDArray
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
    # a notebook's own edition of a class counts as the class
    names = [one.__name__ for one in type(value).__mro__]
    return isinstance(value, kind) or kind.__name__ in names


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


def above(low: float, **values: float) -> None:
    """Raise ValueError for a value that is not above `low`."""
    for name, value in values.items():
        if not value > low:
            raise ValueError(f"{name} = {value}: must be above {low}")


def within(low: float, high: float, **values: float) -> None:
    """Raise ValueError for a value outside [low, high], or NaN."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} = {value}: must be from {low} to {high}")


def shaped(
    shape: tuple[int | EllipsisType | None, ...], **tensors: Tensor | NDArray
) -> None:
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


def ids_below(limit: int, **tensors: Tensor) -> None:
    """Raise ValueError for ids that are no whole numbers from 0 to `limit` - 1."""
    for name, ids in tensors.items():
        low, high = (i.item() for i in ids.aminmax()) if ids.numel() else (0, 0)
        if ids.is_floating_point() or low < 0 or high >= limit:
            raise ValueError(
                f"{name} are {low} to {high}, {ids.dtype}: must be whole numbers from 0"
                f" to {limit - 1}"
            )


@lru_cache
def _axes(wanted: str) -> list[list[tuple[str, int]]]:
    """ "B H D, B D/2" -> [[(B, 1), (H, 1), (D, 1)], [(B, 1), (D, 2)]]."""
    pairs = [[axis.partition("/") for axis in one.split()] for one in wanted.split(",")]
    return [[(name, int(half or 1)) for name, _, half in one] for one in pairs]


def axes_agree(wanted: str, **tensors: Tensor) -> None:
    """Raise ValueError unless the tensors have the axes that `wanted` names, such as
    "B H S D, b S D/2", and each letter means one size; b is B or 1."""
    sizes: dict[str, int] = {}
    for axes, x in zip(_axes(wanted), tensors.values(), strict=True):
        same = x.ndim == len(axes)
        for (name, times), size in zip(axes, x.shape, strict=False):
            if name == "b":
                name, size = "B", sizes["B"] if size == 1 else size
            same &= sizes.setdefault(name, times * size) == times * size
        if not same:
            shapes = ", ".join(
                f"{k} has shape {[*x.shape]}" for k, x in tensors.items()
            )
            raise ValueError(f"{shapes}: must be [{wanted.replace(', ', '], [')}]")


def boolean_mask(shape: tuple[int, ...], **masks: Tensor | None) -> None:
    """Raise ValueError for a mask that is not boolean, or not broadcastable."""
    for name, mask in masks.items():
        if mask is None:
            continue
        if str(mask.dtype) != "torch.bool":
            raise ValueError(
                f"{name} is {mask.dtype}: must be boolean, True = may attend (a 0/1"
                " mask: use mask.bool())"
            )
        pairs = zip(reversed(mask.shape), reversed(shape), strict=False)
        if mask.ndim > len(shape) or any(has not in (1, size) for has, size in pairs):
            raise ValueError(
                f"{name} has shape {[*mask.shape]}: must be broadcastable to {[*shape]}"
            )
