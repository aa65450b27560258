"""What an exercise is: it judges a reader's function and says what is wrong with it."""

import inspect
import operator
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from llm_course.exercises.compare import difference, show, unchanged
from llm_course.exercises.edits import Function, wrong_versions
from llm_course.exercises.inputs import seeded

SOLVED, INCOMPLETE = "solved", "incomplete"
NOT_YET, FAILING = "not yet", "failing"


@dataclass(frozen=True)
class Verdict:
    """What a check found: a status, and the lines that the reader sees."""

    key: str
    status: str
    lines: tuple[str, ...]

    @classmethod
    def failing(cls, key: str, *lines: str) -> Self:
        return cls(key, FAILING, (f"{key}: not right yet.", *lines))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def reason(self) -> str:
        """What is wrong, in one line; empty where nothing is."""
        lines = [*self.lines[1:]]
        if self.status == INCOMPLETE:  # its first line says more than that
            lines.insert(0, self.lines[0].partition(": ")[2])
        return " | ".join(" ".join(line.split()) for line in lines)


class Case:
    """The arguments of one call. `name` says where they come from, if worth saying."""

    def __init__(self, *args: Any, name: str = "") -> None:
        self.args, self.name = args, name


Cases = Iterable[Case]
Complaints = Iterable[str]


@dataclass(frozen=True)
class Outcome:
    """What one call gave: a value or an exception; a line for each changed argument."""

    value: Any = None
    error: BaseException | None = None
    changed: Sequence[str] = ()

    @property
    def is_stub(self) -> bool:
        """True for the stub's exception; PyTorch's of this type have a message."""
        return isinstance(self.error, NotImplementedError) and not str(self.error)

    def described(self, function: Any) -> str:
        """Type, message and the line of the reader's own code where it came from."""
        assert self.error is not None
        message = [line for line in str(self.error).strip().splitlines() if line]
        more = [line for line in message[1:] if line.startswith("Greatest")]
        shown = " ".join(message[:1] + more)
        text = type(self.error).__name__ + f": {shown}" * bool(shown)
        code = getattr(function, "__code__", None)
        for frame in reversed(traceback.extract_tb(self.error.__traceback__)):
            if code and frame.filename == code.co_filename:
                line = f": {frame.line}" if frame.line else ""
                return f"{text}, in line {frame.lineno}{line}"
        return text


def attempt(function: Function, *args: Any) -> Outcome:
    """What a call gives, or the exception that it ends with."""
    try:
        with seeded():
            return Outcome(function(*args))
    except (Exception, SystemExit) as error:
        return Outcome(error=error)


@dataclass
class Exercise:
    """A function to write.

    `cases` makes the arguments afresh at each call, the smallest case first: what the
    reader's function does to them is then seen, and hurts nobody else. `wrong` is a
    text as in `edits`: its hints are how the verdict goes on after "your result equals
    the version …", its edits are those of the reference, or of `edits_of` where the
    reference goes another way. `call` calls what the reader wrote where that is not
    simply a function of the case (a class, an iterator). `rule` gets the reader's
    function where its results are right, and yields what else is to complain of.
    """

    key: str
    reference: Function
    cases: Callable[[], Cases]
    wrong: str
    edits_of: Function | None = None
    rtol: float = 1e-4
    atol: float = 1e-5
    call: Callable[..., Any] = operator.call
    rule: Callable[[Function], Complaints] = lambda function: ()
    versions: dict[str, Function] = field(init=False)

    def __post_init__(self) -> None:
        self.versions = wrong_versions(self.edits_of or self.reference, self.wrong)

    def judge(self, function: Callable[..., Any]) -> Verdict:
        """Run `function` on every case and compare."""
        running = self._outcomes(function)
        first = next(running)
        if first.is_stub:
            return Verdict(self.key, NOT_YET, (f"{self.key}: not done yet.",))
        outcomes, expected = [first, *running], [*self._outcomes(self.reference)]
        for i, (right, got) in enumerate(zip(expected, outcomes, strict=True)):
            if problem := self._problem(right, got, function):
                where = f"Case {i + 1} of {len(expected)}: {self._described(i)}"
                more = *got.changed, *self._likely_bug(outcomes)
                return Verdict.failing(self.key, where, problem, *more)
        for got in filter(operator.attrgetter("changed"), outcomes):
            return Verdict.failing(self.key, *got.changed, "The result is right.")
        ruled = attempt(lambda: next(iter(self.rule(function)), None))
        raised = ruled.error and f"it then raised {ruled.described(function)}"
        if complaint := raised or ruled.value:
            return Verdict.failing(self.key, f"The result is right, but {complaint}")
        solved = f"{self.key}: solved, all {len(expected)} cases."
        return Verdict(self.key, SOLVED, (solved,))

    def _outcomes(self, function: Callable[..., Any]) -> Iterator[Outcome]:
        """What each case gives, one after the other."""
        names = inspect.signature(self.reference).parameters
        for given, fresh in zip(self.cases(), self.cases(), strict=True):
            outcome = attempt(self.call, function, *given.args)
            pairs = zip(names, fresh.args, given.args, strict=True)
            line = "Your function changed its input `{}`.".format
            changed = [line(name) for name, *both in pairs if not unchanged(*both)]
            yield outcome if outcome.error else replace(outcome, changed=changed)

    def _problem(self, right: Outcome, got: Outcome, function: Any) -> str | None:
        if got.error is not None:
            return f"Your function raised {got.described(function)}"
        return difference(right.value, got.value, self.rtol, self.atol)

    def _likely_bug(self, outcomes: list[Outcome]) -> list[str]:
        """The first wrong version that does in all cases what the reader's did."""
        if all(outcome.error for outcome in outcomes):
            return []
        for hint, version in self.versions.items():
            theirs = self._outcomes(version)  # as far as they are alike, no further
            if all(map(self._alike, theirs, outcomes)):
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
