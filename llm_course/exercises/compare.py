"""Say in one sentence how a result differs from what was expected."""

import math
import numbers
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

Close = Callable[[Tensor, Tensor], Tensor]
SMALL = 12  # tensors with more entries are described by their shape


@dataclass
class Observed:
    """What a check looked at in a result: `facts` by names that can start a sentence
    ("The length"). `kind` says what it is, for a reader who returned something else."""

    kind: str
    facts: dict[str, Any]


def show(value: Any) -> str:
    """`value` in a few characters: small tensors by their entries, others by shape."""
    if isinstance(value, Tensor | np.ndarray):
        kind = f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if math.prod(value.shape) > SMALL:
            return f"{'tensor' if isinstance(value, Tensor) else 'array'} {kind}"
        entries = value.squeeze() if value.ndim > 2 else value  # its shape follows
        return f"{show(entries.tolist())}, {kind}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        parts = [show(item) for item in value[:SMALL]] + ["…"] * (len(value) > SMALL)
        if len(parts) > 1 and all(map(_holds_tensors, value)):  # a line for each
            return "[" + "".join(f"\n    {part}" for part in parts) + "]"
        left, right = "()" if isinstance(value, tuple) else "[]"
        return left + ("; " if _holds_tensors(value) else ", ").join(parts) + right
    if isinstance(value, dict) and len(value) > 3:
        return f"a dict of {len(value)}"
    if isinstance(value, nn.Module) or callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def show_apart(got: Any, expected: Any) -> tuple[str, str]:
    """Both values, with as many digits or characters as tell them apart."""
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
    return isinstance(value, list | tuple) and any(isinstance(x, Tensor) for x in value)


def kind_of(value: Any) -> str:
    """What `value` is, for a reader who returned something else."""
    if isinstance(value, Observed):
        return value.kind
    if isinstance(value, Tensor | np.ndarray):
        name = "tensor" if isinstance(value, Tensor) else "NumPy array"
        return f"a {name} of shape {list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"of type {type(value).__name__}"


def difference(expected: Any, got: Any, rtol: float, atol: float) -> str | None:
    """The first difference in one or two sentences, or None when there is none."""
    close = partial(torch.isclose, rtol=rtol, atol=atol, equal_nan=True)
    return next(_differences("Your result", expected, got, close), None)


def _differences(name: str, expected: Any, got: Any, close: Close) -> Iterator[str]:
    """One after the other; `name` says where in the result they are."""
    expected, got = _comparable(expected, got)
    match expected, got:
        case Tensor(), Tensor() if got.shape != expected.shape:
            yield f"{name} has shape {[*got.shape]}; expected {[*expected.shape]}."
        case Tensor(), Tensor() if got.dtype == expected.dtype:
            yield from _entries(name, expected.detach(), got.detach(), close)
        case (Tensor(), Tensor()) | (np.ndarray(), np.ndarray()):
            yield f"{name} has dtype {got.dtype}; expected {expected.dtype}."
        case ((list() | tuple()), (list() | tuple())):
            if len(expected) != len(got):
                yield f"{name} has {len(got)} entries; expected {len(expected)}."
            for i, (right, mine) in enumerate(zip(expected, got, strict=False)):
                yield from _differences(f"{name}[{i}]", right, mine, close)
        case Observed(), Observed():
            for fact, right in expected.facts.items():
                yield from _differences(fact, right, got.facts[fact], close)
        case dict(), dict():
            if set(expected) != set(got):
                mine, right = show(list(got)), show(list(expected))
                yield f"{name} has the keys {mine}; expected {right}."
            for key, right in expected.items():
                yield from _differences(f"{name}[{key!r}]", right, got[key], close)
        case _ if type(got) is not type(expected):
            whole = name == "Your result"  # not an entry of it
            missing = " Is a `return` missing?" if got is None and whole else ""
            yield f"{name} is {kind_of(got)}; expected {kind_of(expected)}.{missing}"
        case _ if got != expected:
            yield _apart(name, got, expected)


def _comparable(expected: Any, got: Any) -> tuple[Any, Any]:
    """Both as they are compared: a number is a number, whoever holds it.

    NumPy's scalars and arrays or tensors without dimensions count as numbers, unless
    both sides are tensors, whose dtypes then count. A real number is a tensor in the
    end, and so are two arrays of one dtype; PyTorch does not have all of NumPy's.
    """
    if isinstance(got, np.generic):
        got = got.item()
    if isinstance(expected, Tensor) and isinstance(got, numbers.Number):
        expected = expected.item() if expected.ndim == 0 else expected
    elif isinstance(expected, numbers.Number) and isinstance(got, Tensor | np.ndarray):
        got = got.item() if got.ndim == 0 else got
    if isinstance(expected, float) and isinstance(got, numbers.Real):
        wide = partial(torch.tensor, dtype=torch.float64)
        return wide(expected), wide(float(got))
    arrays = isinstance(expected, np.ndarray) and isinstance(got, np.ndarray)
    if arrays and expected.dtype == got.dtype:
        return torch.from_numpy(expected.copy()), torch.from_numpy(got.copy())
    return expected, got


def _apart(name: str, got: Any, expected: Any) -> str:
    return "{} is {}; expected {}.".format(name, *show_apart(got, expected))


def _entries(name: str, expected: Tensor, got: Tensor, close: Close) -> Iterator[str]:
    wide = torch.complex128 if got.is_complex() else torch.float64
    mine, right = got.cpu().to(wide), expected.cpu().to(wide)  # not all have float64
    wrong = ~close(mine, right)
    if wrong.any() and got.ndim == 0:
        yield _apart(name, got.item(), expected.item())
    elif wrong.any():
        place = wrong.nonzero()[0].tolist()
        here, wanted = show_apart(*(t[tuple(place)].item() for t in (got, expected)))
        yield (
            f"{int(wrong.sum())} of {wrong.numel()} entries of"
            f" {name[0].lower() + name[1:]} are wrong, the first at {place}: {here},"
            f" expected {wanted}.{_symptom(mine, right)}"
        )


def _symptom(got: Tensor, expected: Tensor) -> str:
    """What the wrong entries have in common, where that is easy to see."""
    if count := int((got.isnan() & ~expected.isnan()).sum()):
        return f" NaN in {count}."
    counted = expected.abs() > 1e-3 * expected.abs().max()
    ratio = (got / expected)[counted]
    same = len(ratio) > 1 and torch.isclose(ratio, ratio[0], rtol=1e-3, atol=0).all()
    if same and got.any() and abs(ratio[0].item() - 1) > 1e-3:
        times = show(ratio[0].item() + 0.0)
        return f" All entries are {times} times the expected ones."
    return ""


def unchanged(before: Any, after: Any) -> bool:
    """True when an argument holds after a call what it held before."""
    olds, old_form = tree_flatten(before)
    news, new_form = tree_flatten(after)
    return old_form == new_form and all(map(_leaf_unchanged, olds, news))


def _leaf_unchanged(before: Any, after: Any) -> bool:
    if type(before) is not type(after):
        return False
    if isinstance(before, nn.Module):
        return unchanged(before.state_dict(), after.state_dict())
    if isinstance(before, Tensor | np.ndarray | numbers.Number | str):
        return difference(before, after, rtol=0, atol=0) is None
    return True
