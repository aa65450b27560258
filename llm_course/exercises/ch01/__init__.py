"""Checks of the exercises of 01_rmsnorm."""

from llm_course.exercises.ch01.backward import BACKWARD
from llm_course.exercises.ch01.fold import FOLD
from llm_course.exercises.ch01.grouped import GROUPED
from llm_course.exercises.ch01.hunt import HUNT
from llm_course.exercises.ch01.lean import LEAN

EXERCISES = (FOLD, GROUPED, LEAN, BACKWARD, HUNT)
