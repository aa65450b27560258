"""What an exercise is: a record that judges a reader's function and says what is wrong
with it."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from llm_course.exercises.compare import difference, show, unchanged

SOLVED, NOT_YET, FAILING = "solved", "not yet", "failing"
STRICT = (
    "If its values look right: two right ways to compute something differ by rounding,"
    " so compare with a tolerance (torch.testing.assert_close takes rtol and atol)."
)
ROUNDING = 0.05  # bfloat16 keeps three digits


@dataclass(frozen=True)
class Verdict:
    """What a check found: a status, and the lines that the reader sees."""

    key: str
    status: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Case:
    """The arguments of one call. `name` says where they come from, if that is worth
    saying."""

    args: tuple[Any, ...]
    name: str = ""


def case(*args: Any, name: str = "") -> Case:
    """One case: the arguments as the reader's function gets them."""
    return Case(args, name)


@dataclass(frozen=True)
class Outcome:
    """What one call gave: a value or an exception, and which arguments it changed."""

    value: Any = None
    error: Exception | None = None
    changed: tuple[str, ...] = ()

    @property
    def is_stub(self) -> bool:
        """True for the stub's own exception; PyTorch raises the same type with a
        message."""
        return isinstance(self.error, NotImplementedError) and not str(self.error)


def plain(function: Callable[..., Any], *args: Any) -> Any:
    """The ordinary way to call a reader's function."""
    return function(*args)


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    `cases` makes the arguments afresh at each call, the smallest case first: what the
    reader's function does to them is then seen, and hurts nobody else. `wrong` maps how
    the verdict goes on after "your result equals the version …" to that version. `call`
    calls what the reader wrote where that is not simply a function of the case (a
    class, an iterator). Each function of `properties` gets the reader's function and
    returns a complaint or None.
    """

    key: str
    reference: Callable[..., Any]
    cases: Callable[[], Iterable[Case]]
    wrong: dict[str, Callable[..., Any]]
    rtol: float = 1e-4
    atol: float = 1e-5
    call: Callable[..., Any] = plain
    properties: tuple[Callable[[Callable[..., Any]], str | None], ...] = ()

    def judge(self, function: Callable[..., Any]) -> Verdict:
        """Run `function` on every case and compare."""
        outcomes = self._run(function)
        if outcomes[0].is_stub:
            return Verdict(self.key, NOT_YET, (f"{self.key}: not done yet.",))
        expected = self._run(self.reference)
        for i, (right, got) in enumerate(zip(expected, outcomes, strict=True)):
            if problem := self._problem(right, got, function):
                lines = [
                    f"Case {i + 1} of {len(expected)}: {self._described(i)}",
                    problem,
                ]
                lines += self._changed(got) + self._likely_bug(outcomes)
                return self._failing(lines)
        for outcome in outcomes:
            if changed := self._changed(outcome):
                return self._failing([*changed, "The result is right."])
        for complaint in (check(function) for check in self.properties):
            if complaint:
                return self._failing([f"The result is right, but {complaint}"])
        return Verdict(
            self.key, SOLVED, (f"{self.key}: solved, all {len(expected)} cases.",)
        )

    def _run(self, function: Callable[..., Any]) -> list[Outcome]:
        names = list(inspect.signature(self.reference).parameters)
        outcomes = []
        for given, fresh in zip(self.cases(), self.cases(), strict=True):
            try:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    value = self.call(function, *given.args)
            except Exception as error:
                outcomes.append(Outcome(error=error))
                if outcomes[0].is_stub:
                    return outcomes
                continue
            pairs = zip(names, fresh.args, given.args, strict=True)
            changed = tuple(
                name for name, before, now in pairs if not unchanged(before, now)
            )
            outcomes.append(Outcome(value, changed=changed))
        return outcomes

    def _problem(self, right: Outcome, got: Outcome, function: Any) -> str | None:
        if got.error is not None:
            return f"Your function raised {described_error(got.error, function)}"
        return difference(right.value, got.value, self.rtol, self.atol)

    def _likely_bug(self, outcomes: list[Outcome]) -> list[str]:
        """The wrong version that does in all cases what the reader's function did."""
        for hint, version in self.wrong.items():
            theirs = self._run(version)
            if all(map(self._alike, theirs, outcomes)) and not all(
                o.error for o in theirs
            ):
                return [f"Likely bug: your result equals the version {hint}."]
        return []

    def _alike(self, a: Outcome, b: Outcome) -> bool:
        if a.error or b.error:
            return type(a.error) is type(b.error)
        return difference(a.value, b.value, self.rtol, self.atol) is None

    def _described(self, index: int) -> str:
        chosen = list(self.cases())[index]
        names = inspect.signature(self.reference).parameters
        pairs = zip(names, chosen.args, strict=True)
        given = "; ".join(f"{name} = {show(value)}" for name, value in pairs)
        return f"{chosen.name}: {given}" if chosen.name else given

    def _changed(self, outcome: Outcome) -> list[str]:
        return [
            f"Your function changed its input `{name}`." for name in outcome.changed
        ]

    def _failing(self, lines: list[str]) -> Verdict:
        return Verdict(self.key, FAILING, (f"{self.key}: not right yet.", *lines))


@dataclass(frozen=True)
class BugHunt:
    """A test to write: it must accept `right` and expose `planted`.

    `planted` and the `others` are wrong implementations, by what is wrong with them;
    `kind` says it of the planted one without giving it away. The notebook prints the
    planted one.
    """

    key: str
    right: Callable[..., Any]
    planted: Callable[..., Any]
    kind: str
    others: dict[str, Callable[..., Any]]
    wrong: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def judge(self, test: Callable[..., Any]) -> Verdict:
        """Run the reader's test on every implementation."""
        value, error = self._run(test, self.right)
        if Outcome(error=error).is_stub:
            return Verdict(self.key, NOT_YET, (f"{self.key}: not done yet.",))
        passed = [
            name for name, bug in self.others.items() if self._run(test, bug)[1] is None
        ]
        exposed = len(self.others) - len(passed)
        rest = [f"It exposes {exposed} of {len(self.others)} other bugs."]
        caught = self._run(test, self.planted)[1] is not None
        if passed and (exposed or caught):  # to others, the names would give all away
            rest = [f"{rest[0]} These pass:", *(f"  {name}" for name in passed)]
        if error is not None:
            reason = described_error(error, test)
            lines = [
                "Your test rejects the right implementation.",
                f"It raised {reason}",
            ]
            return self._failing(*lines, *[STRICT] * may_be_rounding(error))
        if not caught:
            lines = [f"It passes a bug of this kind: {self.kind}."]
            if value is not None:
                lines = [f"It returned {show(value)}. A test must `assert`.", *lines]
            return self._failing("Your test accepts the planted bug.", *lines, *rest)
        good = "Your test accepts the right implementation and exposes the planted bug."
        return Verdict(self.key, SOLVED, (f"{self.key}: solved. {good}", *rest))

    def _run(self, test: Any, implementation: Any) -> tuple[Any, Exception | None]:
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return test(implementation), None
        except Exception as error:
            return None, error

    def _failing(self, *lines: str) -> Verdict:
        return Verdict(self.key, FAILING, (f"{self.key}: not right yet.", *lines))


def may_be_rounding(error: Exception) -> bool:
    """True for an AssertionError, unless it states a difference that is too large for
    rounding."""
    stated = re.search(r"Greatest absolute difference: ([\d.e+-]+)", str(error))
    small = stated is None or float(stated[1]) < ROUNDING
    return isinstance(error, AssertionError) and small


def described_error(error: Exception, function: Any) -> str:
    """Type, message and the line of the reader's own code that an exception came
    from."""
    message = [line for line in str(error).strip().splitlines() if line]
    shown = message[:1] + [line for line in message[1:] if line.startswith("Greatest")]
    text = ": ".join([type(error).__name__, *filter(None, [" ".join(shown)])])
    code = getattr(function, "__code__", None)
    file = code.co_filename if code else None
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if not lines:
        return text
    return f"{text}, in line {lines[-1].lineno}" + (
        f": {lines[-1].line}" if lines[-1].line else ""
    )
