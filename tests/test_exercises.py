"""Every exercise of every notebook: its solution passes, its stub is not done, wrong
answers fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import Tensor

from llm_course.classroom.exercise_cells import (
    ExerciseCells,
    FormError,
    Section,
    defined,
    read_section,
    section_of,
)
from llm_course.classroom.run import execute, judge_cells
from llm_course.exercises import BugHunt, Case, Exercise, judge, registry
from llm_course.exercises.compare import show
from llm_course.exercises.edits import edited, wrong_versions
from llm_course.exercises.hunts import STRICT
from llm_course.exercises.records import FAILING, INCOMPLETE, NOT_YET, SOLVED
from llm_course.models.transformer import DecoderOnlyModel
from tests.hunts import SAMPLES
from tests.notebook_tools import NOTEBOOKS, ROOT

SECTIONS: dict[str, Section] = {
    path.stem: section for path in NOTEBOOKS if (section := read_section(path))
}
FOUND = [
    (name, exercise)
    for name, section in SECTIONS.items()
    for exercise in section.exercises
]
CHAPTERS = sorted(
    path.name[2:] for path in (ROOT / "llm_course/exercises").glob("ch[0-9]*")
)
SEEDED = [
    (record, hint)
    for chapter in CHAPTERS
    for record in registry(chapter).values()
    if isinstance(record, Exercise)
    for hint in record.versions
]
HUNTS = [[*registry(chapter).values()][-1] for chapter in CHAPTERS]
each = pytest.mark.parametrize(("name", "cells"), FOUND, ids=[c.key for _, c in FOUND])


EQUIPPED = [
    "01_rmsnorm",
    "02_rope",
    "03_attention_gqa",
    "04_decoder",
    "05_generate",
    "06_kv_cache",
    "07_speed",
    "08_batching",
]


def test_notebooks_have_exercises() -> None:
    assert sorted(SECTIONS) == EQUIPPED


@pytest.mark.parametrize("name", SECTIONS)
def test_a_notebook_has_three_to_five_exercises_and_a_hunt(name: str) -> None:
    exercises = SECTIONS[name].exercises
    assert [cells.key for cells in exercises] == list(registry(name[:2]))
    assert all(cells.key.startswith(f"{name[:2]}.") for cells in exercises)
    assert [cells.is_hunt for cells in exercises] == [False] * (len(exercises) - 1) + [
        True
    ]
    assert 3 <= len(exercises) - 1 <= 5
    levels = {cells.level for cells in exercises}
    assert "easy" in levels
    assert levels & {"hard", "hard, optional"}
    for cells in exercises:
        assert 5 <= cells.minutes <= 40
        kind = BugHunt if cells.is_hunt else Exercise
        assert isinstance(registry(name[:2])[cells.key], kind)


@each
def test_the_published_solution_passes(name: str, cells: ExerciseCells) -> None:
    verdict = judge_cells(SECTIONS[name], cells, cells.solution)
    assert verdict.status == SOLVED, verdict.text
    assert cells.why  # a sentence on why


@each
def test_the_stub_is_not_done(name: str, cells: ExerciseCells) -> None:
    verdict = judge_cells(SECTIONS[name], cells, cells.stub)
    assert (verdict.status, verdict.text) == (NOT_YET, f"{cells.key}: not done yet.")


@each
def test_stub_and_solution_agree(name: str, cells: ExerciseCells) -> None:
    """The same signature, and a stub that does nothing else than raise."""
    stub, solution = (
        defined(cells.stub, cells.name),
        defined(cells.solution, cells.name),
    )
    assert [a.arg for a in stub.args.args] == [a.arg for a in solution.args.args]
    assert cells.stub.rstrip().endswith("\n    raise NotImplementedError")
    assert cells.stub.count('"""') == 2


@pytest.mark.parametrize(
    ("record", "hint"),
    SEEDED,
    ids=[f"{record.key}: {hint[:50]}" for record, hint in SEEDED],
)
def test_a_wrong_answer_fails_with_its_own_hint(record: Exercise, hint: str) -> None:
    verdict = record.judge(record.versions[hint])
    assert verdict.status == FAILING
    assert f"Likely bug: your result equals the version {hint}." in verdict.lines


def test_every_hunt_has_tests_on_which_it_is_tried() -> None:
    records = [record for name in CHAPTERS for record in registry(name).values()]
    hunts = [record.key for record in records if isinstance(record, BugHunt)]
    assert list(SAMPLES) == hunts


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: hunt.key)
def test_a_test_that_is_too_weak_or_too_strict_hears_so(hunt: BugHunt) -> None:
    too_weak, too_strict = SAMPLES[hunt.key]
    assert too_weak
    assert too_strict
    for test in too_weak:
        verdict = hunt.judge(test)
        assert verdict.status == FAILING
        assert "Your test accepts the planted bug." in verdict.lines
        assert f"It passes a bug of this kind: {hunt.kind}." in verdict.lines
    for test in too_strict:
        verdict = hunt.judge(test)
        assert verdict.status == FAILING
        assert "Your test rejects the right implementation." in verdict.lines
        assert "It raised AssertionError" in verdict.text


def test_a_test_of_refusals_alone_exposes_none_of_the_caches() -> None:
    hunt, (too_weak, _) = registry("06")["06.hunt"], SAMPLES["06.hunt"]
    assert "It lets 6 of 6 others pass." in hunt.judge(too_weak[-1]).lines


@pytest.mark.parametrize("name", SECTIONS)
def test_the_printed_suspect_is_the_planted_one(name: str) -> None:
    """The solution exposes what the notebook prints as well as what the check holds."""
    section = SECTIONS[name]
    cells = section.exercises[-1]
    names = execute(section.imports, cells.given, cells.solution)
    test, hunt = names[cells.name], registry(name[:2])[cells.key]
    printed = replace(hunt, planted=names["suspect"])
    for record in (hunt, printed):
        verdict = record.judge(test)
        assert verdict.status == SOLVED, verdict.text
        assert f"and all {len(hunt.bugs)} others." in verdict.text


def double(x: Tensor) -> Tensor:
    return 2 * x


def squared(x: Tensor) -> Tensor:
    return x * x


def small_cases() -> Iterator[object]:
    yield Case(torch.tensor([1.0, 2.0]))
    yield Case(torch.ones(20))


DOUBLE = Exercise("00.double", double, small_cases, "that squares\n    squared")


def raises(x: Tensor) -> Tensor:
    return x @ torch.ones(3)


def nothing(x: Tensor) -> None:
    x * 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda x: x.mul_(2), "Your function changed its input `x`."),
        (
            nothing,
            (
                "Your result is None; expected a tensor of shape [2]. Is a `return`"
                " missing?"
            ),
        ),
        (lambda x: (2 * x).sum(), "Your result has shape []; expected [2]."),
        (
            lambda x: (2 * x).double(),
            "Your result has dtype torch.float64; expected torch.float32.",
        ),
        (lambda x: 2 * x + torch.nan, "NaN in 2."),
        (lambda x: 6 * x, "All entries are 3 times the expected ones."),
        (
            lambda x: (2 * x, x),
            "Your result is a tuple of 2; expected a tensor of shape [2].",
        ),
        (raises, "Your function raised RuntimeError: "),
        (lambda x: x * x, "Likely bug: your result equals the version that squares."),
    ],
)
def test_the_verdict_says_what_is_wrong(answer, expected) -> None:
    verdict = DOUBLE.judge(answer)
    assert verdict.status == FAILING
    assert expected in verdict.text
    assert "Traceback" not in verdict.text


def test_an_entry_that_is_none_is_no_missing_return() -> None:
    pair = replace(DOUBLE, reference=lambda x: (x, 2 * x))
    text = pair.judge(lambda x: (x, None)).text
    assert "Your result[1] is None; expected a tensor of shape [2]." in text
    assert "Is a `return` missing?" not in text


def test_a_function_that_raises_only_under_the_rule_hears_what() -> None:
    ruled = replace(DOUBLE, rule=lambda function: [str(function(None))])
    text = ruled.judge(double).text
    assert "The result is right, but it then raised TypeError: unsupported" in text
    assert "return 2 * x" in text


def untie(model: DecoderOnlyModel) -> None:
    model.lm_head.weight = torch.nn.Parameter(
        model.lm_head.weight.clone(), requires_grad=False
    )


@pytest.mark.parametrize("key", ["04.tied", "04.prune"])
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda model: model.requires_grad_(True),
            "has requires_grad = True; it had False",
        ),
        (
            lambda model: model.requires_grad_(False),
            "has requires_grad = False; it had True",
        ),
        (lambda model: model.train(), "the model is in training mode"),
        (lambda model: model.eval(), "the model is in eval mode"),
        (untie, "`lm_head.weight` is another parameter"),
        (
            lambda model: setattr(model, "layers", torch.nn.ModuleList(model.layers)),
            "`model.layers` is another object",
        ),
        (
            lambda model: model.norm.register_forward_hook(lambda *given: 2 * given[2]),
            "the model gives other logits",
        ),
    ],
)
def test_an_answer_that_leaves_the_model_changed_hears_how(
    key, change, complaint
) -> None:
    exercise = registry("04")[key]

    def answer(model: DecoderOnlyModel, *given: object) -> object:
        result = exercise.reference(model, *given)
        change(model)
        return result

    verdict = exercise.judge(answer)
    assert verdict.status == FAILING
    assert "The result is right, but afterwards" in verdict.text
    assert complaint in verdict.text


def test_no_ratio_is_given_where_all_of_the_result_is_0() -> None:
    text = DOUBLE.judge(lambda x: 0 * x).text
    assert "2 of 2 entries of your result are wrong" in text
    assert "times the expected" not in text


def test_cases_of_many_tensors_are_shown_line_by_line_without_empty_dimensions() -> (
    None
):
    deep = torch.tensor([1.0, 2.0]).view(1, 1, 2, 1)
    assert show(deep) == "[1, 2], [1, 1, 2, 1] float32"
    flat = torch.tensor([[0.5]])
    pair = "([[0.5]], [1, 1] float32; [1, 2], [1, 1, 2, 1] float32)"
    assert show([(flat, deep)]) == f"[{pair}]"
    assert show([(flat, deep), (flat, deep)]) == f"[\n    {pair}\n    {pair}]"


def test_a_right_answer_and_one_that_is_not_done() -> None:
    assert DOUBLE.judge(lambda x: x + x).text == "00.double: solved, all 2 cases."

    def stub(x: Tensor) -> Tensor:
        raise NotImplementedError()

    assert DOUBLE.judge(stub).status == NOT_YET


def test_the_line_that_raised_is_named() -> None:
    assert "return x @ torch.ones(3)" in DOUBLE.judge(raises).text


def test_a_hunt_tells_a_test_that_is_too_strict() -> None:
    """Rounding is the usual reason, so the size of the difference is shown, and a
    tolerance named."""

    def third(x: Tensor) -> Tensor:
        return x * (1 / 3)

    def strict(implementation) -> None:
        x = torch.arange(100.0)
        torch.testing.assert_close(implementation(x), x / 3, rtol=0, atol=0)

    hunt = BugHunt("00.hunt", third, double, "another factor", "")
    verdict = hunt.judge(strict)
    assert verdict.lines[1] == "Your test rejects the right implementation."
    assert "Greatest absolute difference: " in verdict.lines[2]
    assert verdict.lines[3] == STRICT
    assert STRICT not in hunt.judge(lambda implementation: 1 / 0).lines

    def wrong(implementation) -> None:
        x = torch.arange(100.0)
        torch.testing.assert_close(implementation(x), x)

    assert STRICT not in hunt.judge(wrong).lines


@pytest.mark.parametrize(
    ("is_double", "is_flat", "status", "said"),
    [
        (False, False, FAILING, "It lets 2 of 2 others pass."),
        (False, True, FAILING, "It lets 1 of 2 others pass:\n  the negative"),
        (
            True,
            False,
            INCOMPLETE,
            "test incomplete: it lets 2 of 2 others pass:\n  the sum\n",
        ),
        (
            True,
            True,
            INCOMPLETE,
            "planted bug found, test incomplete: it lets 1 of 2 others pass:",
        ),
    ],
)
def test_a_hunt_lists_what_passes_unless_the_test_exposes_nothing(
    is_double, is_flat, status, said
) -> None:
    """A test that exposes nothing at all would learn from the names what to look
    for."""
    hunt = BugHunt(
        "00.hunt",
        right=double,
        planted=lambda x: 3 * x,
        kind="another factor",
        others="the sum\n    2 * x -> (2 * x).sum()\nthe negative\n    2 -> -2",
    )

    def test(implementation) -> None:
        result = implementation(torch.ones(2))
        assert result.shape == (2,) or not is_flat
        assert result.abs().max() < 3 or not is_double or result.ndim == 0

    verdict = hunt.judge(test)
    assert verdict.status == status
    assert said in verdict.text
    assert ("  the negative" in verdict.lines) == (is_double or is_flat)


def test_a_hunt_is_solved_by_a_test_that_exposes_all() -> None:
    hunt = BugHunt("00.hunt", double, lambda x: 3 * x, "a factor", "1\n    2 -> 1")

    def test(implementation) -> None:
        assert torch.equal(implementation(torch.ones(2)), torch.tensor([2.0, 2.0]))

    verdict = hunt.judge(test)
    assert verdict.status == SOLVED
    assert verdict.text.endswith("and exposes the planted bug and all 1 others.")


def twice(x: Tensor, factor: float = 2.0) -> Tensor:
    return factor * x


def test_a_wrong_version_is_an_edit_of_the_reference() -> None:
    x = torch.tensor([3.0])
    versions = wrong_versions(
        twice,
        """
cubed
    factor * x -> x**3
with one added, and
a sum
    return -> x = x + 1; return
    factor * -> factor +
by two edits in a line
    return -> x = x + 1; return ;; factor * x -> factor**x
of more than a line
    return factor * x -> if x > 2:
            return x
        return factor
a function
    double
a function, edited
    double ;; 2 -> 5
without a factor
    factor * ->
""",
    )
    made = {hint: version(x).item() for hint, version in versions.items()}
    assert made == {
        "cubed": 27,
        "with one added, and a sum": 6,
        "by two edits in a line": 16,
        "of more than a line": 3,
        "a function": 6,
        "a function, edited": 15,
        "without a factor": 3,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("that misses\n    * y -> x", r"that misses: '\* y' stands 0 times in twice"),
        ("tripled\n    triple", "tripled: 'triple' is neither 'old -> new' nor a"),
        ("cut off\n    * x -> * x)", "cut off: unmatched"),
        ("a\n    * x ->\nwithout edits", "without edits: '' is neither"),
        ("    * x ->\nbelow", r"no hint stands above '\* x ->'"),
        ("a\n    2.0 -> 3\nb\n    2.0 -> 4\na\n    2.0 -> 5", "'a' stands twice"),
    ],
)
def test_a_text_that_is_no_list_of_versions_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        wrong_versions(twice, text)


class Twice:
    def of(self, x: int) -> int:
        return 2 * x


def test_a_class_is_edited_too() -> None:
    assert edited(Twice, "2 * x -> x + 1")().of(3) == 4


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ("factor * y -> x", "stands 0 times in twice, not once"),
        ("x -> y", "stands [2-9] times in twice, not once"),
        ("factor * x", "is neither 'old -> new' nor a"),
        ("factor * x -> x ;; factor * x -> y", "stands 0 times in twice, not once"),
    ],
)
def test_an_edit_that_does_not_fit_is_an_error(edits: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        edited(twice, edits)


def test_an_edit_that_does_not_fit_stops_its_exercise() -> None:
    with pytest.raises(ValueError, match="stands 0 times in double, not once"):
        replace(DOUBLE, wrong="that squares\n    x**2 -> x")
    halved = replace(DOUBLE, wrong="halved\n    factor * x -> x / 2", edits_of=twice)
    assert "the version halved." in halved.judge(lambda x: x / 2).text
    with pytest.raises(ValueError, match="stands 0 times in double, not once"):
        BugHunt("00.hunt", double, "x**2 -> x", "a power", "")


def test_a_check_draws_nothing_from_the_readers_random_numbers() -> None:
    drawn = replace(DOUBLE, reference=lambda x: torch.rand_like(x))
    before = torch.get_rng_state()
    assert drawn.judge(torch.rand_like).status == SOLVED
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no exercise '01.norm'.*01.fold"):
        judge("01.norm", double)


HALVED = replace(
    DOUBLE,
    reference=lambda x: x / np.float32(2),
    cases=lambda: [Case(np.array([1.0, 2.0], np.float32))],
)


@pytest.mark.parametrize("entry", [7, None, "a"])
def test_an_entry_of_a_list_that_is_another_than_before_is_noticed(entry) -> None:
    doubled = replace(DOUBLE, reference=lambda ids: ids * 2, cases=lambda: [Case([5])])

    def answer(ids: list) -> list:
        result = ids * 2
        ids[0] = entry
        return result

    assert "Your function changed its input `ids`." in doubled.judge(answer).text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda x: x, "1: x = [1, 2], [2] float32\n2 of 2 entries"),
        (lambda x: x / np.float64([2.0]), "dtype float64; expected float32."),
        (lambda x: x[:1] / 2, "Your result has shape [1]; expected [2]."),
        (lambda x: x.sum(), "is of type float; expected a NumPy array of shape [2]."),
        (lambda x: np.divide(x, 2, out=x), "Your function changed its input `x`."),
    ],
)
def test_arrays_are_compared_as_tensors_are(answer, expected) -> None:
    assert expected in HALVED.judge(answer).text
    assert HALVED.judge(lambda x: x / 2).status == SOLVED


def test_a_number_of_numpy_is_a_number() -> None:
    count = replace(DOUBLE, reference=lambda x: (len(x), float(len(x))))
    answer = count.judge(lambda x: (np.int64(len(x)), np.float32(len(x))))
    assert answer.status == SOLVED


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (0.5, torch.tensor(0.5)),
        (0.5, torch.tensor(0.5, dtype=torch.float64, requires_grad=True)),
        (0.5, np.array(0.5)),
        (3, torch.tensor(3)),
        (True, torch.tensor(True)),
        (torch.tensor(0.5), 0.5),
        (torch.tensor(3), 3),
        ((0.5, 3), [torch.tensor(0.5), np.array(3)]),
    ],
)
def test_a_number_is_a_number_whoever_holds_it(expected, answer) -> None:
    exercise = replace(DOUBLE, reference=lambda x: expected)
    verdict = exercise.judge(lambda x: answer)
    assert verdict.status == SOLVED, verdict.text


@pytest.mark.parametrize(
    ("expected", "answer"),
    [(0.5, torch.tensor([0.5])), (3, torch.tensor(3.0)), (torch.tensor(0.5), "0.5")],
)
def test_what_is_no_number_is_refused(expected, answer) -> None:
    exercise = replace(DOUBLE, reference=lambda x: expected)
    assert exercise.judge(lambda x: answer).status == FAILING


@pytest.mark.parametrize(
    ("expected", "answer", "said"),
    [
        (-0.4871234, -0.4871299, "-0.48713; expected -0.48712."),
        (
            torch.tensor([1.0, 2.000001]),
            torch.tensor([1.0, 2.0]),
            ": 2, expected 2.000001",
        ),
        (123456789, 123456788, "123456788; expected 123456789."),
        ("a" * 99 + "b", "a" * 99 + "c", "ac'; expected …"),
    ],
)
def test_a_message_has_as_many_digits_as_differ(expected, answer, said) -> None:
    exact = replace(DOUBLE, reference=lambda x: expected, rtol=0, atol=0)
    assert said in exact.judge(lambda x: answer).text


def test_a_function_that_ends_the_program_fails(capsys) -> None:
    assert "raised SystemExit: 3" in DOUBLE.judge(lambda x: sys.exit(3)).text
    hunt = BugHunt("00.hunt", double, double, "a factor", "")
    assert "raised SystemExit" in hunt.judge(lambda f: sys.exit()).text


def test_the_reason_of_a_verdict_says_what_is_wrong() -> None:
    reason = DOUBLE.judge(lambda x: x * x).reason
    assert reason.startswith("Case 1 of 2: x = [1, 2], [2] float32 | 1 of 2 entries")
    assert reason.endswith("Likely bug: your result equals the version that squares.")
    assert DOUBLE.judge(double).reason == ""
    hunt = BugHunt("00.hunt", double, "2 -> 3", "a factor", "a 1\n    2 -> 1")

    def test(implementation) -> None:
        assert implementation(torch.ones(1)).item() < 3

    assert hunt.judge(test).reason == (
        "planted bug found, test incomplete: it lets 1 of 1 others pass: | a 1"
    )


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A copy of notebook 01."""
    path = tmp_path / "01_rmsnorm.ipynb"
    path.write_bytes(next(p for p in NOTEBOOKS if p.stem == path.stem).read_bytes())
    return path


def edit(path: Path, old: str, new: str) -> None:
    nb = nbformat.read(path, as_version=4)
    assert sum(old in cell.source for cell in nb.cells) == 1
    for cell in nb.cells:
        cell.source = cell.source.replace(old, new)
    nbformat.write(nb, path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("*easy · 5 minutes*", "*simple · 5 minutes*", "is not `### Exercise 1"),
        ('check("01.fold", fold)', "fold", "one cell that ends in a check"),
        (
            "<summary>Solution</summary>\n\n```python\ndef fold",
            "def fold",
            "one block of Python",
        ),
    ],
)
def test_an_exercise_out_of_form_is_refused(notebook: Path, old, new, message) -> None:
    edit(notebook, old, new)
    with pytest.raises(FormError, match=message):
        read_section(notebook)


def test_a_notebook_without_exercises_has_no_section() -> None:
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    assert section_of(nb) is None
