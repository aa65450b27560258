"""Checks of the exercises of 02_rope."""

from llm_course.exercises.ch02.base import NTK
from llm_course.exercises.ch02.complex_pairs import COMPLEX_ROTATION
from llm_course.exercises.ch02.hunt import HUNT
from llm_course.exercises.ch02.partial import PARTIAL
from llm_course.exercises.ch02.rows import INVERSE

EXERCISES = (COMPLEX_ROTATION, PARTIAL, INVERSE, NTK, HUNT)
