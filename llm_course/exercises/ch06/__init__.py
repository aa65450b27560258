"""Checks of the exercises of 06_kv_cache."""

from llm_course.exercises.ch06.fit import FIT
from llm_course.exercises.ch06.hunt import HUNT
from llm_course.exercises.ch06.rows import ROWS
from llm_course.exercises.ch06.verify import VERIFY
from llm_course.exercises.ch06.window import WINDOW

EXERCISES = (FIT, ROWS, WINDOW, VERIFY, HUNT)
