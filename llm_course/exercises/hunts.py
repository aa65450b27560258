"""A bug hunt: the reader writes a test, and wrong implementations judge it."""

import re
from dataclasses import dataclass, field

from llm_course.exercises.compare import show
from llm_course.exercises.edits import Function, edited, wrong_versions
from llm_course.exercises.records import INCOMPLETE, NOT_YET, SOLVED, Verdict, attempt

STRICT = (
    "If its values look right: two right ways to compute something differ by rounding,"
    " so compare with a tolerance (torch.testing.assert_close takes rtol and atol)."
)


@dataclass
class BugHunt:
    """A test to write: it must accept `right` and expose `planted`.

    `planted` (edits of `right`, or a function) and the `others` (a text as in `edits`,
    its hints what is wrong) are wrong implementations. `kind` says it of the planted
    one without giving it away. The notebook prints the planted one.
    """

    key: str
    right: Function
    planted: str | Function
    kind: str
    others: str
    bug: Function = field(init=False)
    bugs: dict[str, Function] = field(init=False)

    def __post_init__(self) -> None:
        planted = self.planted
        self.bug = edited(self.right, planted) if isinstance(planted, str) else planted
        self.bugs = wrong_versions(self.right, self.others)

    def judge(self, test: Function) -> Verdict:
        """Run the reader's test on every implementation."""
        first = attempt(test, self.right)
        if first.is_stub:
            return Verdict(self.key, NOT_YET, (f"{self.key}: not done yet.",))
        if first.error:
            lines = [f"It raised {first.described(test)}"]
            lines += [STRICT] * may_be_rounding(first.error)
            rejects = "Your test rejects the right implementation."
            return Verdict.failing(self.key, rejects, *lines)
        ends = {name: attempt(test, bug) for name, bug in self.bugs.items()}
        passed = [f"  {name}" for name, outcome in ends.items() if not outcome.error]
        caught = attempt(test, self.bug).error
        of = f"{len(passed)} of {len(self.bugs)} others pass"
        if caught and passed:
            found = f"{self.key}: planted bug found, test incomplete: it lets {of}:"
            return Verdict(self.key, INCOMPLETE, (found, *passed))
        if caught:
            solved = (
                f"{self.key}: solved. Your test accepts the right implementation and"
                f" exposes the planted bug and all {len(self.bugs)} others."
            )
            return Verdict(self.key, SOLVED, (solved,))
        lines = ["Your test accepts the planted bug."]
        if first.value is not None:
            lines += [f"It returned {show(first.value)}. A test must `assert`."]
        lines += [f"It passes a bug of this kind: {self.kind}."]
        if 0 < len(passed) < len(self.bugs):
            lines += [f"It lets {of}:", *passed]
        else:  # to a test that exposes nothing, the names would give all away
            lines += [f"It lets {of}."]
        return Verdict.failing(self.key, *lines)


def may_be_rounding(error: BaseException) -> bool:
    """True for an AssertionError that states no difference too large for rounding."""
    stated = re.search(r"Greatest absolute difference: ([\d.e+-]+)", str(error))
    small = stated is None or float(stated[1]) < 0.05  # bfloat16 keeps three digits
    return isinstance(error, AssertionError) and small
