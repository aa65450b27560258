"""Say in one sentence how a result differs from what was expected."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SMALL = 12  # tensors with more entries are described by their shape


class Observed(dict[str, Any]):
    """What a check looked at in a result, by names that can start a sentence ("The
    length").

    `kind` says what the result is, for a reader who returned something else.
    """

    def __init__(self, kind: str, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.kind = kind


def show(value: Any) -> str:
    """`value` in a few characters: small tensors by their entries, large ones by their
    shape."""
    if isinstance(value, Tensor | np.ndarray):
        kind = f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        # the shape stands beside them
        entries = value.squeeze() if value.ndim > 2 else value
        return (
            f"{show(entries.tolist())}, {kind}"
            if math.prod(value.shape) <= SMALL
            else f"{'tensor' if isinstance(value, Tensor) else 'array'} {kind}"
        )
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        parts = [show(item) for item in value[:SMALL]] + ["…"] * (len(value) > SMALL)
        if len(parts) > 1 and all(map(_holds_tensors, value)):
            # a line for each
            return "[" + "".join(f"\n    {part}" for part in parts) + "]"
        left, right = "()" if isinstance(value, tuple) else "[]"
        separator = "; " if any(isinstance(item, Tensor) for item in value) else ", "
        return left + separator.join(parts) + right
    if isinstance(value, dict) and len(value) > 3:
        return f"a dict of {len(value)}"
    if isinstance(value, nn.Module) or callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def show_apart(got: Any, expected: Any) -> tuple[str, str]:
    """Both values, with as many digits or characters as it takes to tell them
    apart."""
    if isinstance(got, float) and isinstance(expected, float):
        for digits in range(4, 18):
            mine, right = f"{got:.{digits}g}", f"{expected:.{digits}g}"
            if mine != right:
                return mine, right
    mine, right = show(got), show(expected)
    if mine == right:
        mine, right = repr(got), repr(expected)
        pairs = enumerate(zip(mine, right, strict=False))
        same = next((i for i, (a, b) in pairs if a != b), min(len(mine), len(right)))
        start = max(0, same - 20)
        dots = "…" if start else ""
        mine, right = (f"{dots}{t[start : same + 40]}" for t in (mine, right))
    return mine, right


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(
        isinstance(item, Tensor) for item in value
    )


def kind_of(value: Any) -> str:
    """What `value` is, for a reader who returned something else."""
    if isinstance(value, Observed):
        return value.kind
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of shape {list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"of type {type(value).__name__}"


def difference(
    expected: Any, got: Any, rtol: float, atol: float, name: str = "Your result"
) -> str | None:
    """The first difference in one or two sentences, or None when there is none."""
    expected, got = _number(expected, got)
    if isinstance(expected, np.ndarray):
        if isinstance(got, np.ndarray):
            return _arrays(expected, got, rtol, atol, name)
    elif isinstance(expected, Tensor):
        if isinstance(got, Tensor):
            # on the CPU, since not every device has float64
            right, mine = expected.detach().cpu(), got.detach().cpu()
            return _tensors(right, mine, rtol, atol, name)
    elif isinstance(expected, list | tuple):
        if isinstance(got, list | tuple):
            return _sequences(expected, got, rtol, atol, name)
    elif isinstance(expected, Observed):
        if isinstance(got, Observed):
            pairs = zip(expected.items(), got.values(), strict=True)
            found = (
                difference(fact, seen, rtol, atol, name) for (name, fact), seen in pairs
            )
            return next((sentence for sentence in found if sentence), None)
    elif isinstance(expected, dict):
        if isinstance(got, dict):
            return _dicts(expected, got, rtol, atol, name)
    elif isinstance(expected, float) and isinstance(got, numbers.Real):
        right = torch.tensor(expected, dtype=torch.float64)
        mine = torch.tensor(float(got), dtype=torch.float64)
        return _tensors(right, mine, rtol, atol, name)
    elif type(got) is type(expected):
        return None if got == expected else _apart(name, got, expected)
    whole = name == "Your result"  # not an entry of it
    return_missing = " Is a `return` missing?" if got is None and whole else ""
    return f"{name} is {kind_of(got)}; expected {kind_of(expected)}.{return_missing}"


def _number(expected: Any, got: Any) -> tuple[Any, Any]:
    """Both as they are compared: a number is a number, whoever holds it.

    NumPy's scalars and arrays or tensors without dimensions count as numbers, unless
    both sides are tensors, whose dtypes then count.
    """
    if isinstance(got, np.generic):
        got = got.item()
    if isinstance(expected, Tensor) and expected.ndim == 0:
        if isinstance(got, numbers.Number):
            return expected.item(), got
    elif isinstance(expected, numbers.Number) and isinstance(got, Tensor | np.ndarray):
        return expected, got.item() if got.ndim == 0 else got
    return expected, got


def _apart(name: str, got: Any, expected: Any) -> str:
    return "{} is {}; expected {}.".format(name, *show_apart(got, expected))


def _sequences(
    expected: Any, got: Any, rtol: float, atol: float, name: str
) -> str | None:
    if len(expected) != len(got):
        return f"{name} has {len(got)} entries; expected {len(expected)}."
    found = [
        difference(e, g, rtol, atol, f"{name}[{i}]")
        for i, (e, g) in enumerate(zip(expected, got, strict=True))
    ]
    return next((sentence for sentence in found if sentence), None)


def _dicts(expected: Any, got: Any, rtol: float, atol: float, name: str) -> str | None:
    if set(expected) != set(got):
        return (
            f"{name} has the keys {show(list(got))}; expected {show(list(expected))}."
        )
    found = [
        difference(value, got[key], rtol, atol, f"{name}[{key!r}]")
        for key, value in expected.items()
    ]
    return next((sentence for sentence in found if sentence), None)


def _tensors(
    expected: Tensor, got: Tensor, rtol: float, atol: float, name: str
) -> str | None:
    if got.shape != expected.shape:
        return f"{name} has shape {list(got.shape)}; expected {list(expected.shape)}."
    if got.dtype != expected.dtype:
        return f"{name} has dtype {got.dtype}; expected {expected.dtype}."
    wide = torch.complex128 if got.is_complex() else torch.float64
    mine, right = got.to(wide), expected.to(wide)
    equal = torch.isclose(mine, right, rtol=rtol, atol=atol, equal_nan=True)
    if equal.all():
        return None
    if got.ndim == 0:
        return _apart(name, got.item(), expected.item())
    place = (~equal).nonzero()[0].tolist()
    here, wanted = show_apart(got[tuple(place)].item(), expected[tuple(place)].item())
    return (
        f"{int((~equal).sum())} of {equal.numel()} entries of"
        f" {name[0].lower() + name[1:]} are wrong, the first at {place}: {here},"
        f" expected {wanted}.{_symptom(mine, right)}"
    )


def _arrays(
    expected: np.ndarray, got: np.ndarray, rtol: float, atol: float, name: str
) -> str | None:
    if got.dtype != expected.dtype:  # PyTorch does not have all of NumPy's
        return f"{name} has dtype {got.dtype}; expected {expected.dtype}."
    right, mine = (torch.from_numpy(array.copy()) for array in (expected, got))
    return _tensors(right, mine, rtol, atol, name)


def _symptom(got: Tensor, expected: Tensor) -> str:
    """What the wrong entries have in common, where that is easy to see."""
    if count := int((got.isnan() & ~expected.isnan()).sum()):
        return f" NaN in {count}."
    counted = expected.abs() > 1e-3 * expected.abs().max()
    ratio = (got / expected)[counted]
    same = len(ratio) > 1 and torch.isclose(ratio, ratio[0], rtol=1e-3, atol=0).all()
    if same and got.any() and abs(ratio[0].item() - 1) > 1e-3:
        return (
            f" All entries are {show(ratio[0].item() + 0.0)} times the expected ones."
        )
    return ""


def unchanged(before: Any, after: Any) -> bool:
    """True when an argument holds after a call what it held before."""
    if isinstance(before, Tensor):
        same = before.shape == after.shape and before.dtype == after.dtype
        return same and bool(
            torch.isclose(before, after, rtol=0, atol=0, equal_nan=True).all()
        )
    if isinstance(before, np.ndarray):
        return difference(before, after, rtol=0, atol=0) is None
    if isinstance(before, nn.Module):
        return unchanged(before.state_dict(), after.state_dict())
    if isinstance(before, dict):
        return list(before) == list(after) and unchanged(
            list(before.values()), [*after.values()]
        )
    if isinstance(before, list | tuple):
        pairs: Callable[..., Any] = zip
        return len(before) == len(after) and all(
            unchanged(b, a) for b, a in pairs(before, after)
        )
    return True
