"""Checks of the exercises of 02_rope."""

from llm_course.exercises.ch02 import base, complex_pairs, hunt, partial, rows

EXERCISES = (complex_pairs, partial, rows, base, hunt)
