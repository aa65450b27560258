"""The exercises of the notebooks and their checks.

The modules beside this one are the framework; each notebook has a folder (`ch01`, …)
with one record an exercise: a reference to compare with, small cases, and the wrong
versions that a reader is likely to write, as edits of the reference. The published
solutions stand in the notebooks, not here.
"""

# ruff: noqa: F401 (the names that most exercises need)

from llm_course.exercises.compare import Observed
from llm_course.exercises.edits import Function
from llm_course.exercises.hunts import BugHunt
from llm_course.exercises.inputs import normal, random_ids
from llm_course.exercises.judging import check, judge, registry
from llm_course.exercises.records import Case, Cases, Complaints, Exercise
